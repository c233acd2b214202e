"""A YAML loader that refuses repeated keys."""

import yaml


class TwiceError(ValueError):
    """A key occurs twice in one block, so that the first would silently be ignored."""


class OnceLoader(yaml.SafeLoader):
    """Reads YAML (and so JSON), and refuses a key that occurs twice in one block."""

    def construct_mapping(self, node, deep=False):
        names = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for i, (key, _) in enumerate(node.value):
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in names[:i]:
                where = f"{key.start_mark.name}, line {key.start_mark.line + 1}"
                raise TwiceError(
                    f"{where}: {key.value} stands twice in one block, and the first would not count; take one out"
                )
        return super().construct_mapping(node, deep)
