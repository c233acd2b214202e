"""Write the schema for editors and docs/configuration.md from the models of the config.

``python -m atu_pipeline.settings.reference`` (``make reference``) writes both.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from atu import ROOT
from atu_pipeline.settings.models import Config

SCHEMA = Path("workflow/schemas/config.schema.json")
PAGE = Path("docs/configuration.md")
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
PYDANTIC_LIMITS = {"ge", "gt", "le", "lt"}  # pydantic writes them beside JSON Schema's names
KINDS = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "null": "null"}
# Where config.yaml has the defaults of blocks that the user names.
EXAMPLES = {"Aligned": ("method_settings", "atu"), "Trained": ("method_defaults", "trained")}
HEAD = """# Configuration

Written by `make reference` from `workflow/atu_pipeline/settings/models.py` (types, limits, descriptions) and
`config.yaml` (defaults). A file over `config.yaml` names only what differs: see
[how to change a setting](quickstart.md#change-a-setting).
"""


def schema() -> dict:
    """The JSON schema of a file of settings. It requires no key, since a file may contain only part of a config."""
    found = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | plain(found)


def plain(part: object) -> object:
    """A part of pydantic's schema without what editors do not need."""
    if isinstance(part, list):
        return [plain(item) for item in part]
    if not isinstance(part, dict):
        return part
    kept = {key: value for key, value in part.items() if key not in PYDANTIC_LIMITS | {"required", "title"}}
    if kept.get("default", 0) is None:
        del kept["default"]
    for pattern, block in kept.pop("patternProperties", {}).items():
        kept |= {"propertyNames": {"pattern": pattern}, "additionalProperties": block}
    if "properties" in kept:  # the names in it are config keys, which may be "title" or "default"
        kept["properties"] = {key: plain(value) for key, value in kept["properties"].items()}
    return {key: value if key == "properties" else plain(value) for key, value in kept.items()}


def optional_keys(found: dict) -> set[tuple[str, str]]:
    """All keys that may be left out, each with the name of its block's model."""
    models = found["$defs"] | {"Config": found}
    return {
        (name, key)
        for name, model in models.items()
        for key in model.get("properties", {}).keys() - set(model.get("required", []))
    }


def forms_of(part: dict, defs: dict) -> list[tuple[str, dict]]:
    """The blocks that a part of the schema may be, each with the name of its model; none for a plain value."""
    parts = part.get("anyOf", [part])
    names = [other["$ref"].rpartition("/")[2] for other in parts if "$ref" in other]
    return [(name, defs[name]) for name in names if "properties" in defs[name]]


def named_block(part: dict) -> dict:
    """The schema of the entries of a table, whose keys the user names; empty if a part is not a table."""
    inner = part.get("additionalProperties")
    return inner if isinstance(inner, dict) and "properties" not in part else {}


def words(part: dict) -> str:
    """A type and its limits in words."""
    if "anyOf" in part:
        *alone, last = dict.fromkeys(map(words, part["anyOf"]))
        either = " or ".join(alone)
        return f"{either}; one, or a list" if last == f"list of {either}" else f"{either} or {last}"
    if "const" in part or "enum" in part:
        return ", ".join(f"`{value}`" for value in part.get("enum", [part.get("const")]))
    match part.get("type", "object"):
        case "object":
            return "block"
        case "array":
            return f"list of {words(part['items'])}" if part.get("items") else "list"
        case kind:
            limits = [f"{said} {part[key]}" for key, said in LIMITS.items() if key in part]
            return ", ".join([KINDS[kind], *limits, *([f"like `{part['pattern']}`"] if "pattern" in part else [])])


class Row(NamedTuple):
    """A key: its path inside a block (* for a name that the user gives, [] for any item), its model, and its schema."""

    path: tuple[str, ...]
    model: str
    part: dict


def rows_of(name: str, model: dict, defs: dict, path: tuple[str, ...] = ()) -> Iterator[Row]:
    """The keys of a block and of the blocks in it."""
    for key, part in model["properties"].items():
        place = (*path, key)
        yield Row(place, name, part)
        for step, inner in (((), part), (("*",), named_block(part)), (("[]",), part.get("items", {}))):
            for form, block in forms_of(inner, defs):
                yield from rows_of(form, block, defs, place + step)


class Section(NamedTuple):
    """A table of the page; ``base`` is where config.yaml has the defaults of its keys, or None if it has none."""

    heading: str
    said: str
    base: tuple[str, ...] | None
    rows: list[Row]


def sections(found: dict) -> Iterator[Section]:
    """The keys without a block, followed by each block."""
    defs, keys = found["$defs"], found["properties"]
    blocks = {key: forms_of(named_block(part) or part, defs) for key, part in keys.items()}
    yield Section("Keys", "", (), [Row((key,), "Config", part) for key, part in keys.items() if not blocks[key]])
    for key, forms in blocks.items():
        for name, model in forms:
            if not named_block(keys[key]):
                yield Section(f"`{key}`", keys[key]["description"], (key,), list(rows_of(name, model, defs)))
                continue
            source = model["properties"].get("source", {}).get("const")
            kind = f" with `source: {source}`" if source else f" ({name.lower()})" if len(forms) > 1 else ""
            said = " ".join(filter(None, [keys[key]["description"], model.get("description")]))
            yield Section(f"`{key}.<name>`{kind}", said, EXAMPLES.get(name), list(rows_of(name, model, defs)))


def default_of(config: dict, path: tuple[str, ...]) -> str:
    """The value of config.yaml at a path, written on one line; empty if it is a block or does not exist."""
    found = config
    for key in path:
        if not isinstance(found, dict) or key not in found:
            return ""
        found = found[key]
    return "" if isinstance(found, dict) else f"`{json.dumps(found, ensure_ascii=False)}`"


def table(section: Section, config: dict, optional: set[tuple[str, str]]) -> str:
    """A section in Markdown."""
    lines = [f"## {section.heading}", "", *([section.said, ""] if section.said else [])]
    lines += ["| key | what it may be | default | what it is |", "| --- | --- | --- | --- |"]
    for row in section.rows:
        default = "" if section.base is None else default_of(config, (*section.base, *row.path))
        if not default and (row.model, row.path[-1]) in optional:
            default = "may be left out"
        key = ".".join("<name>" if part == "*" else part for part in row.path).replace(".[]", "[]")
        cells = (f"`{key}`", words(row.part), default, row.part["description"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def page(config: dict) -> str:
    """The text of docs/configuration.md.

    Args:
        config: the contents of config.yaml.
    """
    optional = optional_keys(Config.model_json_schema())
    return "\n".join([HEAD, *(table(section, config, optional) for section in sections(schema()))])


def written(root: Path) -> dict[Path, str]:
    """The files that are written from the models, each with its text."""
    config = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))
    return {SCHEMA: json.dumps(schema(), indent=2) + "\n", PAGE: page(config)}


if __name__ == "__main__":
    for path, text in written(ROOT).items():
        (ROOT / path).write_text(text, encoding="utf-8")
