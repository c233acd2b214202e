"""Records beside results: the recipe (the settings that made a file) and the checksums of what was written.

A result outlives the config that asked for it. So each job checks its inputs against its own recipe, and writes a
record of its outputs: ``<file>.recipe.json`` beside a file, ``recipe.json`` in a directory.
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
LATER = {RECORD, "README.md"}  # files that are written into a directory after its job
MISSING = "nothing"
START = "start"  # key of the recipe of the model from which a run starts, unless that is the base model
RUNS = "runs."  # prefix of the keys of runs from which a table was made


class RecipeError(ExplainedError):
    """A file was made with settings other than those in force, or has changed since it was written."""


def record_path(path: str | Path) -> Path:
    """The path of the record of a file or a directory."""
    path = Path(path)
    return path / RECORD if path.is_dir() else path.with_name(f"{path.name}.{RECORD}")


def contents(path: Path) -> dict[str, str]:
    """The sha256 of a file, or of each file in a directory, by name; hidden files (Snakemake's) are left out.

    Files are read once, at 1 to 2 GB per second, which also brings them into memory for the load that follows.
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
        path: the path by which later jobs will name it.
        recipe: all settings that affect it, nested as in the config.
    """
    path = Path(path)
    found = {"output": path.as_posix(), "recipe": dict(recipe), "sha256": contents(path)}
    write_json(record_path(path), found)


def differences(made: Mapping, asked: Mapping, key: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield (key, value then, value now) of each setting in ``made`` that differs or is missing in ``asked``."""
    for name, then in made.items():
        where, now = f"{key}{name}", asked.get(name, MISSING)
        if isinstance(then, Mapping) and isinstance(now, Mapping):
            yield from differences(then, now, f"{where}.")
        elif then != now:
            yield where, then, now


def starts(recipe: Mapping) -> Iterator[Mapping]:
    """Yield the recipes of the models from which a run starts, one after another; its inputs may belong to these."""
    while START in recipe:
        recipe = recipe[START]
        yield recipe


def disagreement(path: str | Path, key: str, then: object, now: object) -> str:
    """The message for a file made with another setting than the one in force; for a table, it names the run."""
    if not key.startswith(RUNS):
        return f"{path} was made with {key}: {then}, and {key}: {now} is in force"
    run = key.removeprefix(RUNS)
    if MISSING in (then, now):
        return f"{path} holds {run}, which is not asked for" if now == MISSING else f"{path} lacks {run}"
    return f"{path} was made of {run} under other settings than those in force"


def read_record(path: str | Path) -> dict:
    """The record of a file or a directory.

    Raises:
        RecipeError: if there is no record, or it is damaged.
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
    """Refuse a file that was made with other settings, is a copy of another file, or has changed since.

    Args:
        path: the path by which the job that made it named it.
        recipe: the recipe of what is to be made from the file; it has every setting that made the file.

    Raises:
        RecipeError: names the file, the first setting that differs, and what to do.
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
    """Raises a RecipeError if a file or a directory no longer matches its record."""
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
    """The downloaded ones of a benchmark's files; files that the user supplied have no record."""
    return [path for path in paths if Path(path).is_dir() or record_path(path).exists()]


def read_table(path: str | Path, recipe: Mapping) -> "pd.DataFrame":
    """Read a CSV file of an earlier job, if that job wrote it with these settings and it has not changed.

    A file that was cut, in a row or between two rows, has changed.

    Raises:
        RecipeError: names the file and what to delete.
    """
    import pandas as pd

    check(path, recipe)
    with intact(path):
        return pd.read_csv(path)


def check_unchanged(path: str | Path) -> None:
    """Raises a RecipeError if a file has a record and no longer matches it."""
    if record_path(path).exists():
        compare_contents(Path(path), read_record(path))


@contextmanager
def made_by(recipe: Mapping, inputs: Iterable[str], outputs: Iterable[str]) -> Iterator[None]:
    """Check a job's inputs before the block, and record its outputs after it.

    Args:
        recipe: the recipe of the outputs.
        inputs: only those with a record; files that the user supplied have none.
    """
    for path in inputs:
        check(path, recipe)
    yield
    for path in outputs:
        record(path, recipe)
