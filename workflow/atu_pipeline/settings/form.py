"""The form of a config, read by ``models.py``; faulty parts are removed, so that the rest can be checked."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError, create_model
from pydantic_core import ErrorDetails

from atu.data.probe_sets import RWKU
from atu_pipeline.settings.blocks import complete_blocks
from atu_pipeline.settings.messages import describe, describe_value
from atu_pipeline.settings.models import Config

TABLES = (
    "models",
    "model_cards",
    "benchmarks",
    "method_settings",
    "attacks",
    "text_scores",
    "experiments",
)  # the user names the keys of these
OPTIONAL = {name: (key.annotation, None) for name, key in Config.model_fields.items()}
Part = create_model("Part", __base__=Config, **OPTIONAL)


@dataclass
class Draft:
    """A config while it is checked.

    Attributes:
        config: the valid part.
        names: the names of the blocks of each table, including faulty blocks.
        faults: the faults so far.
        kind: the benchmark's kind as its block gives it, valid or not.
    """

    config: dict
    root: Path
    names: dict[str, list[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    kind: str = RWKU

    def block(self, table: str, name: str) -> dict | None:
        """A block of a table; None if it is missing or faulty."""
        return self.config.get(table, {}).get(name)


def read_form(config: dict, root: Path) -> Draft:
    """The config as the models read it, with text as numbers where they need numbers, and the faults of its form."""
    config = json.loads(json.dumps(config, default=str))  # YAML takes 2026-11-25 for a date
    names = {table: list(config[table]) for table in TABLES if isinstance(config.get(table), dict)}
    kind = kind_of_benchmark(config)
    faults = list(complete_blocks(config, root))
    try:
        read = Config.model_validate(config, context={"root": root})
    except ValidationError as error:
        found = error.errors(include_url=False)
        faults += said_once(found, config)
        for fault in found:
            take_out(config, fault["loc"])
        read = Part.model_validate(config, context={"root": root})
    return Draft(as_written(read.model_dump(exclude_unset=True, warnings=False), config), root, names, faults, kind)


def kind_of_benchmark(config: dict) -> str:
    """The kind that the benchmark's block gives, whatever its other faults; RWKU's if it gives none."""
    blocks, name = config.get("benchmarks"), config.get("benchmark")
    block = blocks.get(name) if isinstance(blocks, dict) and isinstance(name, str) else None
    kind = block.get("kind") if isinstance(block, dict) else None
    return kind if isinstance(kind, str) else RWKU


def take_out(config: dict, place: tuple[int | str, ...]) -> None:
    """Remove the block of a table, or the key of the config, that contains a fault; in place."""
    table, *inside = place
    if table in TABLES and inside:
        config.get(table, {}).pop(inside[0], None)
    else:
        config.pop(table, None)


def as_written(read: object, config: object) -> object:
    """What was read, with keys in the order of the written config."""
    if isinstance(read, dict):
        return {key: as_written(read[key], config[key]) for key in config}
    if isinstance(read, list) and isinstance(config, list):
        return [as_written(*pair) for pair in zip(read, config, strict=True)]
    return read


def said_once(found: list[ErrorDetails], config: dict) -> Iterator[str]:
    """One line per fault; a fault that blocks of methods inherit is reported once, where it is written."""
    own = [fault for fault in found if not any(inherits(fault, other) for other in sources_of(fault, found, config))]
    lacking = missing_keys(own)
    for fault in own:
        keys = lacking[fault["loc"][:-1]] if fault["type"] == "missing" else []
        if len(keys) < 2:
            yield describe(fault)
        elif fault["loc"][-1] == keys[0]:  # one line for all keys missing from a block
            yield f"{'.'.join(map(str, fault['loc'][:-1])) or 'config'}: lacks {', '.join(keys)}"


def missing_keys(found: list[ErrorDetails]) -> dict[tuple[int | str, ...], list[str]]:
    """The missing keys, by the place of their block."""
    lacking = {}
    for fault in found:
        if fault["type"] == "missing":
            lacking.setdefault(fault["loc"][:-1], []).append(fault["loc"][-1])
    return lacking


def sources_of(fault: ErrorDetails, found: list[ErrorDetails], config: dict) -> list[ErrorDetails]:
    """The faults of what a method's block inherits from: the block of its method, and the defaults."""
    table, name, *_ = *fault["loc"], None, None
    if table != "method_settings" or name is None:
        return []
    bases = {("method_defaults", "trained"), (table, config[table][name]["method"])} - {(table, name)}
    return [other for other in found if other["loc"][:2] in bases or other["loc"] == ("method_defaults",)]


def inherits(fault: ErrorDetails, other: ErrorDetails) -> bool:
    """Whether a block's fault is its base's, or follows from that."""
    place, base = fault["loc"][2:], other["loc"][2:]
    above = fault["type"] == "missing" and place[: len(base)] == base  # nothing can be inherited from a faulty block
    return above or (place == base and describe_value(fault) == describe_value(other))
