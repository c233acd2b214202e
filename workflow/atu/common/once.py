"""YAML in which each key counts."""

import yaml


class TwiceError(ValueError):
    """A key stands twice in one block: the first would be passed over in silence."""


class OnceLoader(yaml.SafeLoader):
    """Reads YAML, JSON as well, and refuses a key that stands twice in one block."""

    def construct_mapping(self, node, deep=False):
        names = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for i, (key, _) in enumerate(node.value):
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in names[:i]:
                where = f"{key.start_mark.name}, line {key.start_mark.line + 1}"
                raise TwiceError(
                    f"{where}: {key.value} stands twice in one block, and the first would not count; take one out"
                )
        return super().construct_mapping(node, deep)
