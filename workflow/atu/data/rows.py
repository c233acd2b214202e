"""Checks of a benchmark's rows, which report a fault with file and row before anything is computed."""

import itertools
import json
import re
import reprlib
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from atu.common.errors import ExplainedError

CHOICES = "ABCD"
NO_ANSWER = "NOANSWER"  # stands for an empty answer, as in RWKU
LONGEST_ROW = 2**22  # most characters of a row in a file that is read row by row
# Text in such a file before its first row, before each other row of a list, and before each row if there is no list;
# group 1 matches if no row follows.
OPENED, AFTER, APART = (
    re.compile(pattern) for pattern in (r"\s*\[\s*(\]\s*\Z)?", r"\s*(?:,\s*|(\]\s*\Z))", r"\s*(\Z)?")
)

# Types of the fields that a text must have, by the kind of text set; it may have more fields.
TEXT_FIELDS: dict[str, dict[str, type]] = {
    "positive": {"text": str},
    "negative": {"text": str},
    "passage": {"text": str},
    "pair": {"prompt": str, "response": list},
    "reject": {"instruction": str, "output": str},
    "intro": {"intro": str},
    "relearn": {"text": str},
    "facts": {"query": str, "answer": str},
    "paraphrases": {"file": str, "row": int, "query": str},
}


class BenchmarkError(ExplainedError, ValueError):
    """A benchmark's data does not have the required form."""


def is_blank(text: str) -> bool:
    """Whether a text has no visible characters: only white space, control characters and format characters."""
    return all(character.isspace() or unicodedata.category(character) in ("Cc", "Cf") for character in text)


@contextmanager
def row_of(path: str | Path, number: int) -> Iterator[None]:
    """Inside the block, a fault in row ``number`` (from 1) becomes a :class:`BenchmarkError` naming file and row."""
    try:
        yield
    except KeyError as error:
        raise BenchmarkError(f"{path}, row {number}: lacks field {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise BenchmarkError(f"{path}, row {number}: {error}") from error


def folded(name: str) -> str:
    """A name in the form for comparison: case, blanks, underscores and the composition of accents do not count."""
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return " ".join(composed.replace("_", " ").split())


def each_once(pairs: list[tuple[str, object]]) -> dict:
    """A JSON object; raises a ValueError if a key occurs twice, since the last value would silently win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has the key {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def read_list(path: str | Path) -> list[dict] | None:
    """Rows of one JSON file; None if there is no file.

    Raises:
        BenchmarkError: if it is not a JSON list of objects, or contains half a surrogate pair, which is not text.
    """
    path = Path(path)
    if path.parent.exists() and not path.parent.is_dir():
        raise BenchmarkError(f"{path.parent} is a file; it must be a folder of JSON files")
    if not path.exists() and not path.is_symlink():
        return None
    if path.is_dir():
        raise BenchmarkError(f"{path} is a folder; it must be a JSON file")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=each_once)
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read ({error.strerror}); restore the file") from error
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"{path} is not valid JSON ({error}); restore the file") from error
    if not isinstance(rows, list):
        raise BenchmarkError(f"{path} must hold a JSON list of rows, not {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        with row_of(path, number):
            check_form(row)
    return rows


def stream_rows(path: Path) -> Iterator[dict]:
    """Yield the rows of a JSON file of any size, with a few megabytes in memory; rows are a list or follow each other.

    Raises:
        BenchmarkError: names the first row that is not valid JSON, is not an object, or contains something that is not
            text.
    """
    decode = json.JSONDecoder(object_pairs_hook=each_once).raw_decode
    text, place, between = "", 0, APART
    with path.open(encoding="utf-8") as file:
        for number in itertools.count(1):
            with row_of(path, number):
                if len(text) - place < LONGEST_ROW:  # read on, so that the text has the whole next row
                    text, place = text[place:] + file.read(LONGEST_ROW), 0
                before = between.match(text, place)
                if number == 1 and (opened := OPENED.match(text)):
                    before, between = opened, AFTER
                if before is None:
                    raise BenchmarkError("neither a comma nor the end of the list stands before it")
                if before[1] is not None:
                    return
                try:
                    row, place = decode(text, before.end())
                except json.JSONDecodeError as error:  # its position is in the text, not in the file
                    raise BenchmarkError(
                        f"it is no valid JSON of up to {LONGEST_ROW} characters: {error.msg}"
                    ) from error
                check_form(row)
            yield row


def check_form(row: object) -> None:
    """Raises a BenchmarkError unless ``row`` is an object whose texts can be written as UTF-8."""
    if not isinstance(row, dict):
        raise BenchmarkError(f"{reprlib.repr(row)} is not an object with fields")
    for field, value in row.items():
        try:
            json.dumps([field, value], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise BenchmarkError(f"field {field!r} holds {half}, half of a character and no text") from error


def check_types(row: dict, fields: Mapping[str, type | tuple[type, ...]]) -> None:
    """Raises a KeyError if a field is missing, a BenchmarkError if its type is wrong; true is not a number."""
    for field, kind in fields.items():
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(row[field], kinds) or isinstance(row[field], bool):
            expected = " or ".join(cls.__name__ for cls in kinds)
            raise BenchmarkError(f"field {field!r} is {reprlib.repr(row[field])}, not of type {expected}")


def check_text(row: dict, *fields: str) -> None:
    """Raises a BenchmarkError unless each of the fields is a text that is not blank."""
    check_types(row, dict.fromkeys(fields, str))
    for field in fields:
        if is_blank(row[field]):
            raise BenchmarkError(f"field {field!r} is empty")


def check_subject(row: dict, name: str) -> None:
    """Raises a BenchmarkError if the row says that it is about somebody other than ``name``."""
    for field in ("subject", "target"):
        said = row.get(field)
        if said is not None and not isinstance(said, str):
            raise BenchmarkError(f"field {field!r} is {said!r}, not text")
        if said and folded(said) != folded(name):
            raise BenchmarkError(f"field {field!r} is {said!r}: the row is about somebody else than {name}")


def check_answers(field: str, answers: list, least: str) -> None:
    """Raises a BenchmarkError unless all answers are texts, none is NOANSWER, and one of them could be matched.

    Args:
        least: characters that, like blanks, do not make an answer by themselves.
    """
    if wrong := [answer for answer in answers if not isinstance(answer, str)]:
        raise BenchmarkError(f"field {field!r} holds {reprlib.repr(wrong[0])}, which is not text")
    if all(is_blank(answer.strip().strip(least)) for answer in answers):
        raise BenchmarkError(
            f"field {field!r}: the answer is empty ({reprlib.repr(answers)}): no answer could match it"
        )
    if any(answer.strip() == NO_ANSWER for answer in answers):
        raise BenchmarkError(f"field {field!r} is {NO_ANSWER}, which stands for an empty answer and would match one")


def check_question(row: dict) -> None:
    """Raises a BenchmarkError unless ``row`` has a question, four choices and the index of the right one."""
    check_text(row, "question")
    if not isinstance(row["choices"], list) or len(row["choices"]) != len(CHOICES):
        raise BenchmarkError(f"field 'choices' is {reprlib.repr(row['choices'])}, not a list of {len(CHOICES)}")
    for choice in row["choices"]:
        if not isinstance(choice, str) or is_blank(choice):
            raise BenchmarkError(f"field 'choices' holds {reprlib.repr(choice)}, which is no text")
    answer = row["answer"]
    if type(answer) is not int or not 0 <= answer < len(CHOICES):
        raise BenchmarkError(f"field 'answer' is {reprlib.repr(answer)}, not one of 0 to {len(CHOICES) - 1}")


def check_labels(row: dict, field: str) -> None:
    """Raises a BenchmarkError unless ``row[field]`` has choices with labels of 0 and 1, and at least one of each.

    In ``mc1_targets``, exactly one choice must be true. A choice that occurs twice must have the same label.
    """
    choices, labels = row[field]["choices"], row[field]["labels"]
    if not isinstance(choices, list) or not isinstance(labels, list) or len(choices) != len(labels):
        raise BenchmarkError(f"{field}: choices and labels are not two lists of one length")
    for choice in choices:
        if not isinstance(choice, str) or is_blank(choice):
            raise BenchmarkError(f"{field}: the choice {reprlib.repr(choice)} is no text")
    for label in labels:
        if type(label) is not int or label not in (0, 1):
            raise BenchmarkError(f"{field}: the label {reprlib.repr(label)} is neither 0 nor 1")
    for label, name in ((1, "true"), (0, "false")):
        if label not in labels:
            raise BenchmarkError(f"{field}: no choice is {name} (label {label})")
    if field == "mc1_targets" and labels.count(1) != 1:
        raise BenchmarkError(f"{field}: {labels.count(1)} choices are true (label 1); it must be one")
    known = dict(zip(choices, labels, strict=True))
    if any(known[choice] != label for choice, label in zip(choices, labels, strict=True)):
        raise BenchmarkError(f"{field}: one choice is both true and false")


def check_text_row(row: dict, kind: str, name: str) -> None:
    """Check a row of a text set about ``name``.

    Args:
        kind: the kind of the text set, a key of TEXT_FIELDS.

    Raises:
        KeyError: if a field is missing.
        BenchmarkError: says which field is wrong, and why.
    """
    fields = TEXT_FIELDS[kind]
    check_types(row, fields)
    check_text(row, *(field for field, cls in fields.items() if cls is str))
    if kind == "paraphrases" and row["row"] < 0:
        raise BenchmarkError(f"field 'row' is {row['row']}; rows are counted from 0")
    if kind == "pair":
        response = row["response"]
        if len(response) != 2 or not all(isinstance(text, str) and not is_blank(text) for text in response):
            raise BenchmarkError(f"field 'response' is {reprlib.repr(response)}, not two texts")
    check_subject(row, name)
