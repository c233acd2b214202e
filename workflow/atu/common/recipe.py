"""What made a file: beside each result, the settings behind it and what was written.

A result outlives the config that asked for it. Each job checks what it reads against its own recipe, and leaves a
record of what it made: ``<file>.recipe.json`` beside a file, ``recipe.json`` in a directory.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from atu.common.errors import ExplainedError
from atu.common.files import intact, write_json

if TYPE_CHECKING:  # slow to import, and most jobs and all planning read no tables
    import pandas as pd

RECORD = "recipe.json"
LATER = {RECORD, "README.md"}  # what is written into a directory after its job
MISSING = "nothing"
START = "start"  # in the recipe of a run the one of the model that it starts from, where that is no base model
RUNS = "runs."  # keys of what a table was made of


class RecipeError(ExplainedError):
    """A file was made by other settings than those in force, or is no longer what was written."""


def record_path(path: str | Path) -> Path:
    """Where the record of a file or a directory lies."""
    path = Path(path)
    return path / RECORD if path.is_dir() else path.with_name(f"{path.name}.{RECORD}")


def contents(path: Path) -> dict[str, str]:
    """The sha256 of a file, or of each file of a directory but hidden ones (Snakemake keeps one there), by name.

    Cost: files are read once, which also brings them into memory for the load that follows; 1 to 2 GB a second.
    """
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        files = [file for file in files if file.name not in LATER and not file.name.startswith(".")]
    found = {}
    for file in files:
        with file.open("rb") as stream:
            found[file.relative_to(path.parent).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def record(path: str | Path, recipe: Mapping) -> None:
    """Write the record of a finished output.

    Args:
        path: as later jobs will name it.
        recipe: all settings that bear on it, nested as in the config.
    """
    path = Path(path)
    found = {"output": path.as_posix(), "recipe": dict(recipe), "sha256": contents(path)}
    write_json(record_path(path), found)


def differences(made: Mapping, asked: Mapping, key: str = "") -> Iterator[tuple[str, object, object]]:
    """(key, value then, value now) of each setting in ``made`` that is another one in ``asked``, or none."""
    for name, then in made.items():
        where, now = f"{key}{name}", asked.get(name, MISSING)
        if isinstance(then, Mapping) and isinstance(now, Mapping):
            yield from differences(then, now, f"{where}.")
        elif then != now:
            yield where, then, now


def starts(recipe: Mapping) -> Iterator[Mapping]:
    """The recipes of the models that a run starts from, one behind another: what it reads may be of these."""
    while START in recipe:
        recipe = recipe[START]
        yield recipe


def disagreement(path: str | Path, key: str, then: object, now: object) -> str:
    """What to say of a file that was made with one setting where another is in force; of a table, of which runs."""
    if not key.startswith(RUNS):
        return f"{path} was made with {key}: {then}, and {key}: {now} is in force"
    run = key.removeprefix(RUNS)
    if MISSING in (then, now):
        return f"{path} holds {run}, which is not asked for" if now == MISSING else f"{path} lacks {run}"
    return f"{path} was made of {run} under other settings than those in force"


def read_record(path: str | Path) -> dict:
    """The record of a file or a directory.

    Raises:
        RecipeError: if there is none, or it is cut.
    """
    file = record_path(path)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(found[key], Mapping) for key in ("recipe", "sha256")):
            raise TypeError("no record")
        return {key: found[key] for key in ("output", "recipe", "sha256")}
    except FileNotFoundError:
        raise RecipeError(
            f"{path} has no record of what made it ({file.name}): it is of an earlier version, or was copied alone; "
            "copy the record too, or delete it to have it made again"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise RecipeError(f"{file} is damaged; delete {path} to have both made again") from None


def check(path: str | Path, recipe: Mapping) -> None:
    """Refuse a file that other settings made, that is another file's copy, or that has changed since.

    Args:
        path: as the job that made it named it.
        recipe: of what is to be made from it: every setting behind the file stands there too.

    Raises:
        RecipeError: naming the file and the first setting, and the mend.
    """
    path = Path(path)
    if not path.exists():
        raise RecipeError(f"{path} is missing")
    found = read_record(path)
    if found["output"] != path.as_posix():
        raise RecipeError(f"{path} is a copy of {found['output']}; delete it to have it made again")
    if any(not any(differences(found["recipe"], start)) for start in starts(recipe)):
        return compare_contents(path, found)
    for key, then, now in differences(found["recipe"], recipe):
        said = disagreement(path, key, then, now)
        raise RecipeError(f"{said}; delete it to have it made again, or restore the setting")
    compare_contents(path, found)


def compare_contents(path: Path, found: Mapping) -> None:
    """Raises a RecipeError if a file or a directory is no longer what its record says."""
    now = contents(path)
    changed = sorted(name for name in found["sha256"].keys() | now if found["sha256"].get(name) != now.get(name))
    if changed:
        raise RecipeError(
            f"{path.parent / changed[0]} is no longer the file that was written, or was not there then; delete {path} "
            "to have it made again"
        )


def check_files(files: Mapping[str, Mapping]) -> None:
    """:func:`check` of several files, each with its own recipe."""
    for path, recipe in files.items():
        check(path, recipe)


def fetched(paths: Iterable[str]) -> list[str]:
    """Of a benchmark's files what was downloaded; files that the user brought carry no record."""
    return [path for path in paths if Path(path).is_dir() or record_path(path).exists()]


def read_table(path: str | Path, recipe: Mapping) -> "pd.DataFrame":
    """Read a CSV file of an earlier job, as long as it is what that job wrote under these settings.

    A file that was cut in the middle of a row, or between two rows, is no longer that.

    Raises:
        RecipeError: naming the file and what to delete.
    """
    import pandas as pd

    check(path, recipe)
    with intact(path):
        return pd.read_csv(path)


def check_unchanged(path: str | Path) -> None:
    """Raises a RecipeError if a file has a record, and is no longer what was written then."""
    if record_path(path).exists():
        compare_contents(Path(path), read_record(path))


@contextmanager
def made_by(recipe: Mapping, inputs: Iterable[str], outputs: Iterable[str]) -> Iterator[None]:
    """Check what a job reads, and record what it has made.

    Args:
        recipe: of the outputs.
        inputs: those that carry a record; files that the user brought do not.
    """
    for path in inputs:
        check(path, recipe)
    yield
    for path in outputs:
        record(path, recipe)
