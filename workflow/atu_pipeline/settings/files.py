"""Files of settings: keys that stand twice in them, and files that a key names."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import yaml

from atu_pipeline.settings.messages import ConfigError


class OnceLoader(yaml.SafeLoader):
    """Reads YAML, JSON as well, and refuses a key that stands twice in one block."""

    def construct_mapping(self, node, deep=False):
        names = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for i, (key, _) in enumerate(node.value):
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in names[:i]:
                where = f"{key.start_mark.name}, line {key.start_mark.line + 1}"
                raise ConfigError(
                    f"{where}: {key.value} stands twice in one block, and the first would not count; take one out"
                )
        return super().construct_mapping(node, deep)


def check_keys(files: Iterable[str | Path]) -> None:
    """Refuse files of settings in which a key stands twice; what else is wrong with them is Snakemake's to say.

    Raises:
        ConfigError: naming file, line and key.
    """
    for file in files:
        with suppress(OSError, ValueError, yaml.YAMLError), open(file, encoding="utf-8") as stream:
            yaml.load(stream, OnceLoader)


def own_file(key: str, name: str, root: Path) -> Path:
    """A file that a key of the config names: from the working directory, or one that ships with the checkout.

    Raises:
        ConfigError: if there is none.
    """
    for path in (Path(name), root / name):
        if path.is_file():
            return path
    raise ConfigError(f"{key}: there is no file {name}; correct the path")
