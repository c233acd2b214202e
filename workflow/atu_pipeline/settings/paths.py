"""Paths of results that the command line asks for."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from atu_pipeline.settings.messages import ConfigError, unknown
from atu_pipeline.settings.sources import OWN_FOLDERS


def check_paths(paths: Iterable[str], config: dict, stages: Callable[[str], list]) -> None:
    """Refuse paths of results that are asked for and name what there is not, or what other settings would make.

    Args:
        paths: of the command line, names of rules among them.
        config: from :func:`check_config`.
        stages: those of a method.

    Raises:
        ConfigError: naming the path and what is unknown in it.
    """
    for path in paths:
        top, *parts = Path(path).parts or [""]
        if top == "resources" and parts[:1] == ["models"] and len(parts) > 1 and parts[1] not in config["models"]:
            raise ConfigError(unknown(path, parts[1], sorted(config["models"])))
        if top != "results" or len(parts) < 3 or parts[0] in OWN_FOLDERS:
            continue
        own = parts[1] == "probes"  # of a benchmark, whatever the model
        for key, name in zip(["benchmark"] if own else ["llm", "benchmark"], parts, strict=False):
            if name not in config[f"{key}s" if key == "benchmark" else "models"]:
                raise ConfigError(unknown(path, name, [config[key]]))
            if name != config[key]:
                raise ConfigError(f"{path}: {key} is {config[key]}; ask with --config {key}={name}, or in a configfile")
        rest = parts[2:]
        for part in rest:
            subject = re.sub(r"\.(parquet|jsonl|safetensors)$", "", part)
            if re.match(r"\d+_", subject) and subject not in config["all_targets"]:
                raise ConfigError(unknown(path, subject, config["all_targets"]))
        if len(rest) < 3 or rest[0] not in config["all_targets"]:
            continue
        if rest[1] not in config["method_settings"]:
            raise ConfigError(unknown(path, rest[1], sorted(config["method_settings"])))
        stage = re.fullmatch(r"stage(\d+)", rest[3]) if len(rest) > 3 else None
        if stage and int(stage[1]) > (last := len(stages(rest[1]))):
            raise ConfigError(f"{path}: the last stage of {rest[1]} is {last}")
