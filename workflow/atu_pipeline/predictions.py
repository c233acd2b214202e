"""Keep models' answers without the models, and continue from them elsewhere.

    atu predictions save FOLDER [--directory DIRECTORY]
    atu predictions load FOLDER [--directory DIRECTORY]

The folder contains what tables, figures and pages are made from: every probe's prompt, answer and score, the training
steps, and the probes and texts that were read. That is a few MB, while the models are many GB. Each file has its record
beside it, so a file that was changed, or that other settings made, is refused as usual. With --config with_models=false
tables and figures are made from the folder without any model, and what is missing is computed.
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

# Kinds of path that are tables or texts, not weights. Probes and texts are kept too: if they were made again, they
# would be newer than the answers, and Snakemake would ask everything again.
KINDS = [kind for kind, pattern in PATTERNS.items() if Path(pattern).suffix in (".parquet", ".jsonl", ".csv")]
STEPS = "steps.csv"
MADE_BY = "made_by.json"  # in the folder: the commits, versions and machines that computed its files
TOLD = ("git_commit", "versions", "gpu", "cpu_count")  # keys of a job's own record, beside its log


def kept(directory: Path) -> Iterator[Path]:
    """The files of a directory that are kept, relative to it."""
    for path in sorted(directory.glob("results/**/*")):
        own = path.relative_to(directory)
        kind, _ = names_in(own.as_posix()) or ("", {})
        whole = kind in KINDS and path.is_file() and record_path(path).exists()
        if (whole or path.name == STEPS) and not path.name.endswith(RECORD):
            yield own


def machines(directory: Path, earlier: list[dict]) -> list[dict]:
    """The combinations of code, versions and machine that ran jobs, each with the start of its first and last job.

    Args:
        earlier: rows that were found elsewhere.
    """
    found = {json.dumps({name: row[name] for name in TOLD}, sort_keys=True): row for row in earlier}
    for path in sorted(directory.glob("logs/**/*.json")):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            made, started = {name: told[name] for name in TOLD}, float(told["started"])
        except (ValueError, KeyError, TypeError):  # not a job's record
            continue
        row = found.setdefault(json.dumps(made, sort_keys=True), made | {"first": started, "last": started})
        row |= {"first": min(row["first"], started), "last": max(row["last"], started)}
    return list(found.values())


def copy(path: Path, source: Path, goal: Path) -> bool:
    """Copy a result and its record, whole or not at all; return whether it was new."""
    if (goal / path).exists():
        return False
    for file in (record_path(source / path), source / path):  # the file last, so that it never lacks its record
        with atomic_path(goal / file.relative_to(source)) as part:
            shutil.copyfile(file, part)
    return True


def save(folder: Path, directory: Path) -> str:
    """Add the results of a directory to a folder.

    Raises:
        RecipeError: if a result has changed since it was written.
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
    """Add the results of a folder to a directory.

    New files all get the current time, since Snakemake makes a result again if it is older than its inputs. Existing
    files keep their time.

    Raises:
        RecipeError: if a result has changed since it was written.
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
    """Parse the command line."""
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
