"""Types of values in the config, each read from YAML or from the text that ``--config`` passes.

Numbers stay as YAML reads them: 3 does not become 3.0, which would be printed and recorded as another setting. Whole
numbers may be written 2.0 or "2". Truth values do not count as numbers.
"""

import math
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WrapValidator,
)

from atu_pipeline.settings.messages import misfit

LARGEST_SEED = 2**32 - 1  # numpy takes no larger one
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
TRUTH = {"true": True, "false": False}


def whole(value: str | float) -> int:
    """A text or a number as a whole number.

    Raises:
        ValueError: if it is not whole.
    """
    with suppress(ValueError):
        return int(str(value))
    if not float(value).is_integer():
        raise ValueError(f"{value} is not whole")
    return int(float(value))


def number(value: str) -> int | float:
    """A text as the number that YAML would read; a whole number stays whole."""
    try:
        return int(value)
    except ValueError:
        return float(value)


def as_number(value: object) -> object:
    """A text as the number or truth value that YAML would have read; other values are unchanged."""
    for cast in (number, TRUTH.__getitem__) if isinstance(value, str) else ():
        with suppress(ValueError, KeyError):
            return cast(value)
    return value


def finite(value: object) -> object:
    """The value itself; refused if it, or an item of it, is not finite or too large to compute with."""
    for item in value if isinstance(value, list) else []:
        finite(item)
    if isinstance(value, float) and not math.isfinite(value):
        raise misfit(f"{value} is no number that can be computed with; write one")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise misfit(f"{str(value)[:12]}... is larger than any number that can be computed with")
    return value


def to_whole(value: object) -> object:
    """2 for "2" and 2.0; a value that is not whole stays as it is, to be refused later."""
    if isinstance(value, str | float):
        with suppress(ValueError, OverflowError):
            value = whole(value)
    return finite(value)


def to_number(value: object) -> int | float:
    """0.5 for "0.5" and 2 for "2"; a value that is not a number is refused."""
    cast = value
    if isinstance(value, str):
        with suppress(ValueError):
            cast = number(value)
    if isinstance(cast, bool) or not isinstance(cast, int | float):
        raise misfit(f"{value!r} is not a number", "kind")
    return finite(cast)


def to_truth(value: object) -> object:
    return TRUTH.get(value, value) if isinstance(value, str) else value


def to_list(value: object) -> object:
    """A single text or whole number as a list of one."""
    return [value] if isinstance(value, str | int) else value


def to_target(value: object) -> object:
    """A rank, which YAML reads as a number, as text."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def each_once(items: list) -> list:
    for i, item in enumerate(items):
        if item in items[:i]:
            raise misfit(f"names {item!r} twice; each counts once")
    return items


def numbers(**limits: float) -> object:
    """The type of a number within limits (ge, gt, le, lt)."""
    limited = Annotated[float, Field(**limits)]  # what the schema says
    return Annotated[float, PlainValidator(to_number, json_schema_input_type=limited), Field(**limits)]


def whole_numbers(**limits: int) -> object:
    """The type of a whole number within limits."""
    limited = Annotated[int, Field(**limits)]
    return Annotated[int, Field(strict=True, **limits), BeforeValidator(to_whole, json_schema_input_type=limited)]


def distinct(item: object, least: int = 1) -> object:
    """The type of a list that names each item once."""
    return Annotated[list[item], Field(min_length=least), AfterValidator(each_once)]


def many(item: object, least: int = 1) -> object:
    """The type of a list that names each item once; a single item may be written alone."""
    return Annotated[distinct(item, least), BeforeValidator(to_list, json_schema_input_type=item | list[item])]


def phrased(words: str) -> WrapValidator:
    """Report a value of another form in these words; faults in items of a list are reported unchanged."""

    def read(value: object, handler: Callable) -> object:
        try:
            return handler(value)
        except ValidationError as error:
            if any(fault["loc"] or fault["type"] == "misfit" for fault in error.errors()):
                raise
            raise misfit(f"{value!r} is not {words}") from error

    return WrapValidator(read)


def all_or_many(words: str, least: int = 0, word: str = "all") -> object:
    """The type of one word, or a list that names each item once."""
    items = TypeAdapter(Annotated[distinct(Text, least), phrased(words)])

    def read(value: object) -> object:
        return value if value == word else items.validate_python(value)

    return Annotated[Any, PlainValidator(read, json_schema_input_type=Literal[word] | list[Text])]


def one_or_many(item: object, words: str) -> object:
    """The type of an item or a list of items; a list stays a list."""
    one, items = TypeAdapter(Annotated[item, phrased(words)]), TypeAdapter(Annotated[list[item], Field(min_length=1)])

    def read(value: object) -> object:
        return (items if isinstance(value, list) else one).validate_python(value)

    return Annotated[Any, PlainValidator(read, json_schema_input_type=item | list[item])]


def to_option(value: object) -> object:
    """An option of a method, whose file says which kind it has."""
    if not isinstance(value, int | float | str | list):
        raise misfit(f"{value!r} is not a number, true or false, text, or a list")
    return finite(value)


def to_template_option(value: object) -> object:
    """An option of a chat template: the texts true and false become truth values, other texts stay texts."""
    value = to_truth(value)
    if not isinstance(value, int | float | str) or value in ("True", "False"):
        raise misfit(f"{value!r} is not a number, true or false, or text")
    return finite(value)


Text = Annotated[str, StringConstraints(strict=True, min_length=1)]
Truth = Annotated[bool, Field(strict=True), BeforeValidator(to_truth, json_schema_input_type=bool)]
FileName = Annotated[str, StringConstraints(strict=True, pattern=FILE_NAME)]
Target = Annotated[Text, BeforeValidator(to_target, json_schema_input_type=str | int)]
Option = Annotated[Any, PlainValidator(to_option, json_schema_input_type=float | bool | str | list)]
TemplateOption = Annotated[Any, PlainValidator(to_template_option, json_schema_input_type=float | bool | str)]
Count = whole_numbers(ge=1)
Amount = whole_numbers(ge=0)
Tokens = whole_numbers(ge=2)
Seed = whole_numbers(ge=0, le=LARGEST_SEED)
Positive = numbers(gt=0)
NotNegative = numbers(ge=0)
Share = numbers(ge=0, le=1)
ShareBelowOne = numbers(ge=0, lt=1)
Layers = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^(none|[0-9]+-[0-9]+)$"),
    phrased("none, or the first and the last of some layers such as 0-4"),
]
Rates = one_or_many(Positive, "a number above 0, or a list of them")
