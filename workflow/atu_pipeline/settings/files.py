"""Files of settings: keys that occur twice, and files that a key names."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import yaml

from atu.common.once import OnceLoader, TwiceError
from atu_pipeline.settings.messages import ConfigError


def check_keys(files: Iterable[str | Path]) -> None:
    """Refuse files of settings in which a key occurs twice; Snakemake reports their other faults.

    Raises:
        ConfigError: names the file, the line and the key.
    """
    for file in files:
        try:
            with suppress(OSError, UnicodeDecodeError, yaml.YAMLError), open(file, encoding="utf-8") as stream:
                yaml.load(stream, OnceLoader)
        except TwiceError as error:
            raise ConfigError(str(error)) from error


def own_file(key: str, name: str, root: Path) -> Path:
    """A file that a key of the config names, in the working directory or the checkout.

    Raises:
        ConfigError: if there is no such file.
    """
    for path in (Path(name), root / name):
        if path.is_file():
            return path
    raise ConfigError(f"{key}: there is no file {name}; correct the path")
