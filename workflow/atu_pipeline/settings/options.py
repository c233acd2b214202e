"""Options of methods, compared with what the methods' files declare."""

import math
import string
from collections.abc import Iterator
from pathlib import Path

from atu.common.declared import Declared, declared
from atu_pipeline.settings.messages import unknown
from atu_pipeline.settings.values import as_number

TYPES = {"a whole number": int, "a number": int | float, "true or false": bool, "text": str, "a list": list}


def as_kind(value: object, kind: str | None, items: str | None = None) -> object:
    """An option converted to its annotation's kind: floats to whole numbers, texts to numbers; others are unchanged."""
    if kind == "text":
        return value
    if isinstance(value, list):
        return [as_kind(item, items) for item in value]
    value = as_number(value)
    if kind == "a whole number" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def is_kind(value: object, kind: str | None) -> bool:
    """Whether an option has the kind of its annotation."""
    if kind is None:
        return True
    return isinstance(value, TYPES[kind]) and (isinstance(value, bool) == (kind == "true or false"))


def cast_options(blocks: dict[str, dict], root: Path) -> None:
    """Convert options of methods to the kinds that their files declare, in place; wrong ones are reported later."""
    for block in blocks.values():
        options = declared(root, block["method"]).options
        kinds = {key: (option.kind, option.items) for key, option in options.items()}
        if isinstance(block.get("options"), dict):
            for key, value in block["options"].items():
                block["options"][key] = as_kind(value, *kinds.get(key, (None, None)))
        for key, values in block["grid"].items() if isinstance(block.get("grid"), dict) else ():
            part, _, option = str(key).partition(".")
            if part == "options" and isinstance(values, list):
                block["grid"][key] = [as_kind(value, *kinds.get(option, (None, None))) for value in values]


def check_options(name: str, block: dict, taken: Declared) -> Iterator[str]:
    """Faults of a method's options.

    Args:
        taken: what its file declares.
    """
    where = f"method_settings.{name}.options"
    for key, value in block["options"].items():
        if fault := option_fault(f"{where}.{key}", key, value, taken):
            yield fault
        elif key in taken.below_max_tokens and value >= block.get("max_tokens", math.inf):
            yield (
                f"{where}.{key}: {value} leaves out all of texts of at most {block['max_tokens']} tokens (max_tokens); "
                "set it lower"
            )
    if missing := [key for key, option in taken.options.items() if option.needed and key not in block["options"]]:
        yield f"{where}: lacks {', '.join(missing)}"


def option_fault(where: str, key: str, value: object, taken: Declared) -> str | None:
    """What is wrong with an option; None if nothing is.

    Args:
        where: its place in the config.
    """
    option, items = taken.options.get(key), value if isinstance(value, list) else [value]
    if option is None and not taken.open:
        return unknown(where, key, list(taken.options))
    if option and not is_kind(value, option.kind):
        return f"{where}: {value!r} is not {option.kind}"
    if key in taken.templates and (fault := template_fault(value)):
        return f"{where}: {fault}"
    if key in taken.distinct and (fault := distinct_fault(items)):
        return f"{where}: {fault}"
    kind = None if option is None else option.items if isinstance(value, list) else option.kind
    faults = (item_fault(key, item, kind, taken) for item in items)
    return next((f"{where}: {fault}" for fault in faults if fault), None)


def distinct_fault(items: list) -> str | None:
    """What is wrong with a list that must name something, and each item once; None if nothing is."""
    if not items:
        return "is empty; name one at least"
    again = [item for i, item in enumerate(items) if item in items[:i]]
    return f"names {again[0]!r} twice; each counts once" if again else None


def item_fault(key: str, item: object, kind: str | None, taken: Declared) -> str | None:
    """What is wrong with an option, or an item of its list, by the kind and range that the method's file declares.

    Args:
        kind: the kind of its annotation.
    """
    if not is_kind(item, kind):
        return f"{item!r} is not {kind}"
    if kind != "text" and isinstance(item, str | dict | None):
        return f"{item!r} is neither a number nor true or false"
    if key in taken.positive and not item > 0:
        return f"{item!r} is not above 0"
    if key in taken.not_negative and not item >= 0:
        return f"{item!r} is below 0"
    if key in taken.largest and abs(item) > taken.largest[key]:
        return f"{item!r} is further from 0 than {taken.largest[key]:g}; set it nearer"
    return None


def template_fault(text: str) -> str | None:
    """What is wrong with a text into which a name is inserted; None if nothing is."""
    try:
        places, said = {field for _, field, *_ in string.Formatter().parse(text) if field is not None}, ""
        text.format(name="")
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        places, said = set(), f" ({error})"
    if places == {"name"}:
        return None
    return f"{text!r} needs {{name}} where the target's name goes, and no other braces but doubled ones{said}"
