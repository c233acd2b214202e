"""Keep what models answered apart from the models, and go on from it elsewhere.

    atu predictions save FOLDER [--directory DIRECTORY]
    atu predictions load FOLDER [--directory DIRECTORY]

What is kept is what tables, figures and pages are made of: every probe's prompt, answer and score, the steps of
trainings, the probes and texts that were read; a few MB, where the models are many GB. Each file has its record beside
it, so that one that was changed, or that other settings made, is refused as ever. With --config with_models=false
tables and figures are made of it without any model, and what it lacks is computed.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from atu.common.files import atomic_path, write_json
from atu.common.recipe import RECORD, RecipeError, check_unchanged, record_path
from atu_pipeline.paths import PATTERNS, names_in

# Kinds of path that are tables or texts, and no weights; what is read is kept too, as Snakemake would have all asked
# anew by what is made later than the answers.
KINDS = [kind for kind, pattern in PATTERNS.items() if Path(pattern).suffix in (".parquet", ".jsonl", ".csv")]
STEPS = "steps.csv"
MADE_BY = "made_by.json"  # in the folder: the commits, versions and machines that computed what is in it
TOLD = ("git_commit", "versions", "gpu", "cpu_count")  # of a job's own record, beside its log


def kept(directory: Path) -> Iterator[Path]:
    """What is kept of the results in a directory, relative to it."""
    for path in sorted(directory.glob("results/**/*")):
        own = path.relative_to(directory)
        kind, _ = names_in(own.as_posix()) or ("", {})
        whole = kind in KINDS and path.is_file() and record_path(path).exists()
        if (whole or path.name == STEPS) and not path.name.endswith(RECORD):
            yield own


def machines(directory: Path, earlier: list[dict]) -> list[dict]:
    """What computed: each combination of code, versions and machine once, with the time of its first and last job.

    Args:
        earlier: what was found elsewhere.
    """
    found = {json.dumps({name: row[name] for name in TOLD}, sort_keys=True): row for row in earlier}
    for path in sorted(directory.glob("logs/**/*.json")):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            made, started = {name: told[name] for name in TOLD}, float(told["started"])
        except (ValueError, KeyError, TypeError):  # no record of a job
            continue
        row = found.setdefault(json.dumps(made, sort_keys=True), made | {"first": started, "last": started})
        row |= {"first": min(row["first"], started), "last": max(row["last"], started)}
    return list(found.values())


def copy(path: Path, source: Path, goal: Path) -> bool:
    """Copy a result and its record, whole or not at all; whether it was not there already."""
    if (goal / path).exists():
        return False
    for file in (record_path(source / path), source / path):  # the file last: where it is, its record is
        with atomic_path(goal / file.relative_to(source)) as part:
            shutil.copyfile(file, part)
    return True


def save(folder: Path, directory: Path) -> str:
    """Add the results of a directory to a folder.

    Raises:
        RecipeError: for a result that is not what was written.
    """
    found, new = list(kept(directory)), 0
    for path in found:
        check_unchanged(directory / path)
        new += copy(path, directory, folder)
    there = folder / MADE_BY
    earlier = json.loads(there.read_text(encoding="utf-8")) if there.exists() else []
    write_json(there, machines(directory, earlier))
    return f"{folder}: {new} results added, {len(found) - new} were there"


def load(folder: Path, directory: Path) -> str:
    """Add the results of a folder to a directory. They get one date, that of now: what is older than what it was made
    of is made anew. What was there keeps its own.

    Raises:
        RecipeError: for a result that is not what was written.
    """
    found, new = list(kept(folder)), []
    if not found:
        raise RecipeError(f"{folder} holds no results; name a folder that `atu predictions save` has filled")
    for path in found:
        check_unchanged(folder / path)
        if copy(path, folder, directory):
            new.append(directory / path)
    now = time.time()
    for path in new:
        os.utime(path, (now, now))
    return f"{directory}: {len(new)} results added, {len(found) - len(new)} were there"


def parse(arguments: list[str]) -> argparse.Namespace:
    """What is to be done."""
    parser = argparse.ArgumentParser(prog="atu predictions", description=__doc__.split("\n\n")[0])
    parser.add_argument("action", choices=("save", "load"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--directory", type=Path, default=Path(), help="where results/ is")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Save or load."""
    options = parse(arguments)
    try:
        print({"save": save, "load": load}[options.action](options.folder, options.directory))
    except RecipeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
