"""Trace a number or a figure: its value, the commit, and the commands that make it again.

With --details also the jobs behind it, with their settings, versions, checksums and times.

    atu lineage results/tables/main.csv \\
        --where method=atu,target=1_Ada,metric=forget_qa,stage=2,split=test
    atu lineage results/experiments/tradeoff/figures/tradeoff.png --where method=atu
    atu lineage results/experiments/mia/tables/mia.csv --where "run=ATU τ=0, type=FM, loss"

It reads what Snakemake and the jobs recorded. It runs nothing, and writes only the config of --write-config.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from atu import ROOT
from atu.common.recipe import LATER, RECORD, RecipeError, check_unchanged, differences, record_path
from atu_pipeline.paths import experiment_dir, names_in
from atu_pipeline.settings import did_you_mean

DERIVED = ("all_targets", "grids")  # keys that checking the config adds
VALUES, SIZES = ("value", "ours", "score"), ("n", "probes")  # columns of numbers, and of their number of probes
CLOCKS = 2  # seconds by which the clocks of two machines may differ
NAMED = 10  # the most values that a message names


class LineageError(ValueError):
    """The question has no answer; the message says why."""


class RunStage(NamedTuple):
    """A stage of a run, with numbers as text; None means all. Stage 0 is the base model."""

    target: str | None = None
    method: str | None = None
    seed: str | None = None
    stage: str | None = None


ALL_STAGES = frozenset({RunStage()})


@dataclass(frozen=True)
class RecordedJob:
    """One job that Snakemake recorded.

    Attributes:
        started, ended: seconds since the epoch.
        checksums: those of its small input files when it ran.
        recorded: what the job itself wrote beside its log (versions, commit, GPU, wall time), if anything.
    """

    rule: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    log: tuple[str, ...]
    started: float
    ended: float
    checksums: dict[str, str]
    recorded: dict | None


def read_records(directory: Path) -> dict[str, RecordedJob]:
    """Snakemake's records of the jobs that ran in a directory, by output."""
    root = directory / ".snakemake/metadata"
    jobs: dict[tuple, RecordedJob] = {}
    found: dict[tuple, dict] = {}
    for path in root.rglob("*") if root.is_dir() else []:
        if path.is_dir():
            continue
        # a long name is split into folders whose names begin with @
        encoded = "".join(part.removeprefix("@") for part in path.relative_to(root).parts)
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("incomplete") or not record.get("rule"):
            continue
        output = base64.urlsafe_b64decode(encoded).decode()
        key = (record["rule"], tuple(record.get("log") or ()), tuple(record.get("input") or ()))
        found.setdefault(key, {})[output] = record
    for (rule, log, inputs), records in found.items():
        latest = max(records.values(), key=lambda record: record["endtime"])
        sidecar = directory / Path(log[0]).with_suffix(".json") if log else None
        recorded = json.loads(sidecar.read_text(encoding="utf-8")) if sidecar and sidecar.exists() else None
        times = (latest["starttime"], latest["endtime"])
        if recorded and recorded.get("started", 0) > times[1]:  # from a later try, which Snakemake did not record
            recorded = None
        jobs[rule, log, inputs] = RecordedJob(
            rule, tuple(sorted(records)), inputs, log, *times, latest.get("input_checksums") or {}, recorded
        )
    return {output: job for job in jobs.values() for output in job.outputs}


def in_words(values: Iterable[str]) -> str:
    """Values for a message, the first few if there are many; values with a comma are quoted."""
    values = [f"'{value}'" if "," in value else value for value in values]
    return ", ".join(values[:NAMED] + [f"and {len(values) - NAMED} more"] * (len(values) > NAMED))


def written(value: object) -> str:
    """A cell as it is written in paths: 2.0 is 2."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def recorded_path(path: str, directory: Path, records: dict[str, RecordedJob]) -> str:
    """A path as the workflow writes it, whether given in that form, relative to the current directory, or absolute.

    Raises:
        LineageError: if no record says how the file was made.
    """
    relative = os.path.relpath(path, directory)
    real = os.path.relpath(os.path.realpath(path), os.path.realpath(directory))
    for name in (os.path.normpath(path), relative, real):
        for output in (name, *map(str, Path(name).parents)):  # a file of a directory that one job made
            if output in records and Path(name).name not in LATER - {RECORD}:
                return output
    if not records:
        raise LineageError(f"{path}: Snakemake recorded nothing in {directory}; name the --directory where it ran")
    if (directory / path).exists() or Path(path).exists():
        why = "no job made it: name a table, a figure or another output (snakemake --report writes the report)"
    else:
        why = "no such output" + did_you_mean(
            relative, [name for name in records if Path(name).suffix == Path(path).suffix]
        )
    raise LineageError(f"{path}: no record of how it was made; {why}")


def provenance_behind(path: str, directory: Path) -> dict:
    """The record beside an experiment's tables, with the config of the run; for other files, the main or latest record.

    Args:
        path: as the workflow writes it.
    """
    folder = experiment_dir(path)
    found = directory / (folder or "results") / "tables/provenance.json"
    if not folder and not found.exists():
        others = directory.glob("results/experiments/*/tables/provenance.json")
        found = max(others, key=lambda other: other.stat().st_mtime, default=found)
    if not found.exists():
        raise LineageError(f"{path}: {found} does not exist; it holds the config of the run: make the tables again")
    return json.loads(found.read_text(encoding="utf-8"))


def runs_by_file(provenance: dict) -> dict[str, set[RunStage]]:
    """The stages whose answers or steps each file contains, as the tables recorded them."""
    found: dict[str, set[RunStage]] = {}
    for row in provenance.get("runs", []):
        for file in row["files"]:
            found.setdefault(file, set()).add(RunStage(*(str(row[key]) for key in RunStage._fields)))
    return found


def takes_part(path: str, runs: frozenset[RunStage], held: dict[str, set[RunStage]]) -> bool:
    """Whether the numbers of some runs depend on a file; on a file without any run's answers or steps they do.

    Args:
        held: from :func:`runs_by_file`.
    """
    alike = (product(*((value, None) for value in run)) for run in held.get(path, ()))
    return path not in held or any(run in runs for choices in alike for run in choices)


@dataclass(frozen=True)
class Remade:
    """An input that was made again after it had been read.

    Attributes:
        made: when it was made, in seconds since the epoch.
        read: the rule that read it, and when that job ended.
        same: whether it is still what was read: True, False, or None if no record tells.
    """

    path: str
    made: float
    read: tuple[str, float]
    same: bool | None

    def __str__(self) -> str:
        verdict = {
            True: "as it was",
            False: "and is another now",
            None: "and whether it is still the same was not recorded",
        }[self.same]
        return f"{self.path}: made again later ({when(self.made)}) than {self.read[0]} read it, {verdict}"


def when(seconds: float) -> str:
    """A time in readable form."""
    return datetime.fromtimestamp(seconds).isoformat(sep=" ", timespec="seconds")


def recipe_at(path: str, directory: Path) -> dict | None:
    """The settings that made a file, if they were recorded beside it."""
    try:
        return json.loads(record_path(directory / path).read_text(encoding="utf-8"))["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def still_same(name: str, reader: RecordedJob, directory: Path) -> bool | None:
    """Whether a file that was made again is what a job read, judged by its checksum, or else by the settings behind it.

    Returns:
        None if neither was recorded.
    """
    if (then := reader.checksums.get(name)) and (directory / name).is_file():
        return digest(directory / name) == then
    made = recipe_at(name, directory)
    read = [recipe for output in reader.outputs if (recipe := recipe_at(output, directory))]
    if made is None or not read:
        return None
    return not any(True for recipe in read for _ in differences(made, recipe))


def chain(
    path: str,
    records: dict[str, RecordedJob],
    runs: frozenset[RunStage],
    held: dict[str, set[RunStage]],
    directory: Path,
) -> tuple[list[RecordedJob], list[Remade]]:
    """The jobs that made a file, directly or through others, in the order in which they ran; inputs made again since.

    A job that ran after its output had been read does not count as a source. Its own inputs are traced if its output is
    still the same; for example, hidden states may be deleted and made again.

    Args:
        path: as the workflow writes it.
        runs: evaluations of other runs that the tables also read are left out.
        held: from :func:`runs_by_file`.
    """
    jobs, remade, seen = {}, {}, set()
    left: list[tuple[str, RecordedJob | None]] = [(path, None)]
    while left:
        output, reader = left.pop()
        if output not in records:
            continue
        job = records[output]
        later = reader is not None and job.ended > reader.ended
        key = (output, reader.outputs if later else None)
        if key in seen:
            continue
        seen.add(key)
        if later:
            same = still_same(output, reader, directory)
            remade[output] = Remade(output, job.ended, (reader.rule, reader.ended), same)
            if not same:
                continue
        else:
            jobs[job.outputs] = job
        of_tables = any(map(experiment_dir, job.outputs))
        read = [name for name in job.inputs if not of_tables or takes_part(name, runs, held)]
        left += [(name, reader if later else job) for name in read]
    return sorted(jobs.values(), key=lambda job: job.started), sorted(remade.values(), key=lambda found: found.path)


def jobs_behind(
    path: str,
    records: dict[str, RecordedJob],
    runs: frozenset[RunStage] = ALL_STAGES,
    held: dict[str, set[RunStage]] | None = None,
    directory: Path = Path(),
) -> list[RecordedJob]:
    """The jobs of :func:`chain`."""
    return chain(path, records, runs, held or {}, directory)[0]


def conditions(text: str) -> dict[str, str]:
    """The conditions of --where. Values may contain commas, so a comma separates two only if a key and = follow."""
    found: dict[str, str] = {}
    for pair in re.split(r",(?=\s*\w+\s*=)", text) if text.strip() else []:
        key, _, value = map(str.strip, pair.partition("="))
        if not (key and value):
            raise LineageError(f"--where: {pair.strip()!r} is no key=value such as method=atu")
        if key in found:
            raise LineageError(f"--where: {key} stands there twice; give it one value, or leave it out for all")
        found[key] = value
    return found


def holds(column: pd.Series, value: str) -> pd.Series:
    """Which cells equal a value; numbers are compared as numbers."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column == pd.to_numeric(value, errors="coerce")
    return column.astype(str) == value


def select(path: Path, where: dict[str, str]) -> pd.DataFrame:
    """Rows of a table in which every column that ``where`` names has its value.

    Raises:
        LineageError: if a column or a value does not exist.
    """
    rows = pd.read_csv(path)
    for key in where:
        if key not in rows:
            columns = ", ".join(rows.columns)
            raise LineageError(
                f"--where: {path.name} has no column {key} (it has {columns}){did_you_mean(key, rows.columns)}"
            )
    # a condition that no row meets comes last, so that its message names the values that the others leave
    for key, value in sorted(where.items(), key=lambda item: not holds(rows[item[0]], item[1]).any()):
        chosen = rows[holds(rows[key], value)]
        if chosen.empty:
            there = [written(cell) for cell in rows[key].dropna().unique()]
            rest = ", the others given" if len(where) > 1 else ""
            raise LineageError(
                f"--where: no row of {path.name} with {key}={value}{rest}; there is {in_words(there) or 'none'}"
                + did_you_mean(value, there)
            )
        rows = chosen
    return rows


def runs_of_rows(rows: pd.DataFrame, path: str, provenance: dict) -> frozenset[RunStage]:
    """The runs whose numbers are in rows of a table; all runs, if no column tells.

    Args:
        path: the table's path, as the workflow writes it.
        provenance: the record beside it; tables by type of probe name runs by their tau or epoch.

    Raises:
        LineageError: if the record has no run with a name in the rows.
    """
    if "run" in rows:
        called = named_runs(provenance)
        names = {name.split(" † ")[0] for name in rows["run"].dropna()}  # a share of collapsed runs may follow
        if unknown := names - set(called):
            raise LineageError(
                f"{path}: what was recorded beside it has no run {in_words(sorted(unknown))}: make the tables again"
            )
        runs = frozenset(called[name] for name in names)
    else:
        if "variant" in rows:  # each combination of a grid is a method
            rows = rows.drop(columns="method").rename(columns={"variant": "method"})
        keys = [key for key in RunStage._fields if key in rows]
        cells = rows[keys].drop_duplicates().to_dict("records") if keys else [{}]
        runs = frozenset(RunStage(**{key: written(cell) for key, cell in row.items()}) for row in cells)
    if "collapsed" in rows:  # collapse is judged against the base model
        runs |= {run._replace(stage="0") for run in runs}
    return runs


def named_runs(provenance: dict) -> dict[str, RunStage]:
    """The stages that the tables show, for all targets and seeds, by their names in rows."""
    rows = [row for row in provenance.get("runs", []) if row["run"] and row["stage"] > 0]
    named = {row["run"]: RunStage(method=row["method"], stage=str(row["stage"])) for row in rows}
    return {"Before": RunStage(stage="0")} | named


def runs_of_figure(
    path: str, where: dict[str, str], records: dict[str, RecordedJob], held: dict[str, set[RunStage]]
) -> frozenset[RunStage]:
    """The runs behind a figure or a page that ``where`` chooses.

    Raises:
        LineageError: if there are none, if ``where`` has a key other than target, method, seed and stage, or if a
            seed or stage is not a number.
    """
    keys = RunStage._fields
    if unknown := [key for key in where if key not in keys]:
        raise LineageError(f"--where: {unknown[0]}: for {path} only {', '.join(keys)}{did_you_mean(unknown[0], keys)}")
    chosen = dict(where)
    for key in {"seed", "stage"} & set(where):
        number = pd.to_numeric(where[key], errors="coerce")
        if pd.isna(number):
            raise LineageError(f"--where: {key}={where[key]} is no number")
        chosen[key] = written(float(number))
    made = [job for job in jobs_behind(path, records) if any(map(experiment_dir, job.outputs))]
    runs = {run for job in made for name in job.inputs for run in held.get(name, ())}
    if not runs:
        raise LineageError(f"--where: {path} is not made of several runs: leave --where out")
    if not any(chosen.items() <= run._asdict().items() for run in runs):
        there = {key: sorted({getattr(run, key) for run in runs}) for key in keys}
        known = "; ".join(f"{key} {in_words(values)}" for key, values in there.items())
        asked = ",".join(f"{key}={value}" for key, value in chosen.items())
        hints = "".join(did_you_mean(value, there[key]) for key, value in chosen.items() if value not in there[key])
        raise LineageError(f"--where: no run with {asked} behind {path}; there are {known}{hints}")
    return frozenset({RunStage(**chosen)})


def digest(path: Path) -> str:
    """The current sha256 of a file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def sources(jobs: list[RecordedJob], records: dict[str, RecordedJob]) -> dict[str, str]:
    """Input files that no job made, each with its checksum at the time of reading, or "" if that was not recorded."""
    found: dict[str, str] = {}
    for job in jobs:
        for name in job.inputs:
            if name not in records:
                found[name] = job.checksums.get(name, "") or found.get(name, "")
    return dict(sorted(found.items()))


def given_config(recorded: dict) -> dict:
    """The config as it was given to the run, recovered from the one that its check completed."""
    config = {key: value for key, value in recorded.items() if key not in DERIVED}
    for method, variants in recorded.get("grids", {}).items():
        config["methods"] = list(dict.fromkeys(method if name in variants else name for name in config["methods"]))
        blocks = config["method_settings"]
        config["method_settings"] = {name: block for name, block in blocks.items() if name not in variants}
    return config


def settings_behind(config: dict, jobs: list[RecordedJob], held: dict[str, set[RunStage]]) -> dict:
    """The part of the config that affects the jobs: everything but other models, benchmarks and methods."""
    outputs = [output for job in jobs for output in job.outputs]
    called = {run.method for output in outputs for run in held.get(output, ())}
    methods = {name if name in config["method_settings"] else name.rpartition("@")[0] for name in called}
    if not methods:  # for example of a model, whose folder is named after its method's file
        files = {found[1].get("method") for output in outputs if (found := names_in(output))}
        methods = {name for name, block in config["method_settings"].items() if block.get("method") in files}
    used = {
        "models": {config["llm"], config["encoder"]},
        "benchmarks": {config["benchmark"]},
        "method_settings": methods & set(config["method_settings"]),
    }
    left_out = ("published", "tracking", "model_cards", "method_defaults", *DERIVED)  # blocks have the defaults
    chosen = {key: value for key, value in config.items() if key not in left_out}
    for key, names in used.items():
        chosen[key] = {name: config[key][name] for name in sorted(names)}
    return chosen


def commits(jobs: list[RecordedJob], tables: dict) -> list[str | None]:
    """The commits at which jobs ran, the last job's first; None for a commit that git could not tell.

    If no job recorded anything, it is the commit of the tables.
    """
    ran_at = [job.recorded["git_commit"] for job in jobs if job.recorded] or [tables["git_commit"]]
    return list(dict.fromkeys(reversed(ran_at)))


def named(commits: Iterable[str | None]) -> str:
    """Commits for a message."""
    return ", ".join(commit or "unknown" for commit in commits)


def changed_sources(jobs: list[RecordedJob], records: dict[str, RecordedJob], directory: Path) -> list[str]:
    """Lines about files from outside that have changed, or are gone, since they were read."""
    found = []
    for name, before in sources(jobs, records).items():
        path = directory / name
        if before and not path.exists():
            found.append(f"{name}: read then, and gone now")
        elif before and path.is_file() and digest(path) != before:
            found.append(f"{name}: changed since it was read ({when(path.stat().st_mtime)})")
    return found


def gone(
    jobs: list[RecordedJob], runs: frozenset[RunStage], held: dict[str, set[RunStage]], directory: Path
) -> list[str]:
    """Lines about answers and steps behind a number that no longer exist."""
    inputs = {name for job in jobs for name in job.inputs if name in held}
    read = sorted(name for name in inputs if takes_part(name, runs, held))
    return [f"{name}: read then, and gone now" for name in read if not (directory / name).exists()]


def written_later(path: str, ended: float, directory: Path) -> list[str]:
    """A line about a file that was written after its job ended, if no record of its content exists."""
    file = directory / path
    if not file.is_file() or record_path(file).exists() or file.stat().st_mtime <= ended + CLOCKS:
        return []
    at = when(file.stat().st_mtime)
    return [f"{path}: written again after its job ({at}), and whether it is still the same was not recorded"]


def told(rows: pd.DataFrame) -> str:
    """Rows of a table as an answer: for a single row with a number, the number, then n, then the other cells."""
    value = next((name for name in VALUES if name in rows), None)
    if len(rows) != 1 or value is None:
        return rows.to_string(index=False)
    row = rows.iloc[0].dropna()
    n = next((f" (n={written(row[name])})" for name in SIZES if name in row), "")
    spread = f" [{row['low']:.4g}, {row['high']:.4g}]" if {"low", "high"} <= set(row.index) else ""
    rest = ", ".join(f"{key} {written(cell)}" for key, cell in row.items() if key not in (value, *SIZES, "low", "high"))
    shown = f"{row[value]:.6g}" if value in row and isinstance(row[value], float) else str(row.get(value, "none"))
    return f"{shown}{spread}{n}: {rest}"


def rebuild(path: str, jobs: list[RecordedJob], tables: dict, directory: Path) -> list[str]:
    """The commands that make a file again, with everything behind it, by the config of the last run.

    If jobs ran at several commits, the last job's is checked out and the others are named; the reader must judge which
    one makes the same file again. Numbers repeat only with the same number of threads, so the command sets them:
    profiles are not part of the config.

    Args:
        tables: the provenance beside the tables; its commit is used if no job recorded one.
    """
    last, *others = commits(jobs, tables)
    tool = [sys.executable, "-m", "atu_pipeline", "lineage", path]
    here = Path.cwd() == ROOT
    snakemake = [sys.executable, "-m", "snakemake", *([] if here else ["--snakefile", str(ROOT / "Snakefile")])]
    for command in (tool, snakemake):
        command += [] if directory == Path(".") else ["--directory", str(directory)]
    tool += ["--write-config", "rebuild.yaml"]
    threads: dict[str, int] = {}
    for job in jobs:
        threads[job.rule] = max(threads.get(job.rule, 1), (job.recorded or {}).get("threads") or 1)
    several = [f"{rule}={count}" for rule, count in threads.items() if count > 1]
    snakemake += ["--cores", "all", *(["--set-threads", *several] if several else [])]
    snakemake += ["--resources", "gpu=1", "--configfile", "rebuild.yaml", "--forceall", "--", path]
    commands = [shlex.join(tool)]
    if last:
        notes = ["and changes that were not committed"] if last.endswith("-dirty") else []
        notes += [f"earlier jobs ran at {named(others)}"] if others else []
        command = ["git", *([] if here else ["-C", str(ROOT)]), "checkout", last.removesuffix("-dirty")]
        commands.append(shlex.join(command) + ("  # " + "; ".join(notes) if notes else ""))
    return [*commands, shlex.join(snakemake)]


def describe(jobs: list[RecordedJob], records: dict[str, RecordedJob], directory: Path) -> str:
    """The jobs and their inputs, as text."""
    lines = ["Jobs:"]
    for job in jobs:
        lines.append(f"  {job.rule}, {when(job.started)}, {job.ended - job.started:.1f} s")
        lines += [f"    makes {name}" for name in job.outputs]
        if job.recorded:
            versions = ", ".join(f"{name} {version}" for name, version in job.recorded["versions"].items())
            lines.append(f"    commit {job.recorded['git_commit']}, GPU {job.recorded['gpu'] or 'none'}; {versions}")
        else:
            lines.append("    commit, GPU and versions were not recorded")
    lines.append("Read from outside:")
    for name, before in sources(jobs, records).items():
        now = digest(directory / name) if (directory / name).is_file() else ""
        note = before or now or "a folder, or gone: no checksum"
        if before and now and before != now:
            note += f" (changed since: {now})"
        elif now and not before:
            note += " (as it is now)"
        lines.append(f"  {name} {note}")
    return "\n".join(lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="a table, a figure or any other file that the workflow made")
    parser.add_argument(
        "--where",
        default="",
        help="key=value,...: any columns of a CSV; for figures and pages target, method, seed, stage",
    )
    parser.add_argument("-v", "--details", action="store_true", help="jobs, inputs, versions, settings too")
    parser.add_argument("--directory", type=Path, default=Path("."), help="where the workflow ran")
    parser.add_argument("--write-config", type=Path, help="write the config of the run there, and do nothing else")
    return parser.parse_args(arguments)


def write_config(path: Path, config: dict) -> None:
    """Write a config for Snakemake's --configfile."""
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LineageError(f"--write-config: {path}: {error.strerror}; name a file in a folder that exists") from None


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    directory, rows, runs = options.directory, None, ALL_STAGES
    try:
        where = conditions(options.where)
        records = read_records(directory)
        path = recorded_path(options.path, directory, records)
        provenance = provenance_behind(path, directory)
        held = runs_by_file(provenance)
        if options.write_config:
            write_config(options.write_config, given_config(provenance["settings"]))
            return
        if (directory / path).exists():
            check_unchanged(directory / path)
        if path.endswith(".csv"):
            if not (directory / path).exists():
                raise LineageError(f"{path} was made, but is gone: make it again, or look in another --directory")
            rows = select(directory / path, where)
            runs = runs_of_rows(rows, path, provenance) if where else ALL_STAGES
        elif where:
            runs = runs_of_figure(path, where, records, held)
    except (LineageError, RecipeError) as error:
        sys.exit(str(error))
    jobs, remade = chain(path, records, runs, held, directory)
    if rows is not None:
        print(told(rows))
    last, *others = commits(jobs, provenance)
    earlier = f" (earlier jobs at {named(others)})" if others else ""
    print(f"commit {named([last])}{earlier}")
    print(f"made {when(records[path].ended)} by {len(jobs)} jobs, GPU {provenance['gpu'] or 'none'}")
    since = [*written_later(path, records[path].ended, directory), *map(str, remade)]
    if since := [*since, *gone(jobs, runs, held, directory), *changed_sources(jobs, records, directory)]:
        print("Since then:")
        print("\n".join(f"  {line}" for line in since))
    print("Again from raw data:")
    for command in rebuild(path, jobs, provenance, directory):
        print(f"  {command}")
    if options.details:
        print(describe(jobs, records, directory))
        chosen = settings_behind(provenance["settings"], jobs, held)
        print("Settings:\n" + yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True))
    else:
        print("Jobs, inputs, versions and settings: --details")
