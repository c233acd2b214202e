"""What lies behind a number or a figure: the jobs, their settings, versions, checksums and times.

    python workflow/lineage.py results/tables/main.csv --where method=atu,target=1_Ada,metric=forget_qa,stage=2
    python workflow/lineage.py results/figures/tradeoff.png

It reads what Snakemake and the jobs recorded; nothing is run or written but the config asked for by --write-config.
"""

import argparse
import base64
import hashlib
import json
import re
import shlex
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
import yaml

EVALUATION = re.compile(
    r"results/[^/]+/[^/]+/(?P<target>[^/]+)/(?P<method>[^/]+)/seed(?P<seed>\d+)/stage(?P<stage>\d+)/"
)
BEFORE = re.compile(r"results/[^/]+/[^/]+/before/(?P<target>[^/]+)\.parquet")
RUN_KEYS = ("target", "method", "seed", "stage")
DERIVED = ("all_targets", "grids")  # what checking the config adds to it
MADE_OF_RUNS = re.compile(r"results/(experiments/[^/]+/)?(tables|figures|answers)/")


class LineageError(ValueError):
    """The question cannot be answered; the message says why."""


@dataclass(frozen=True)
class Job:
    """One job that Snakemake recorded.

    Attributes:
        started, ended: seconds since the epoch.
        checksums: of its small input files, as they were when it ran.
        recorded: what the job itself wrote beside its log (versions, commit, GPU, wall time), if it did.
    """

    rule: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    log: tuple[str, ...]
    started: float
    ended: float
    checksums: dict[str, str]
    recorded: dict | None


def read_records(directory: Path) -> dict[str, Job]:
    """Snakemake's records of the jobs run in a directory, by output."""
    root = directory / ".snakemake/metadata"
    jobs: dict[tuple, Job] = {}
    found: dict[tuple, dict] = {}
    for path in root.rglob("*") if root.is_dir() else []:
        if path.is_dir():
            continue
        # a long name is cut into folders whose names begin with @
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
        jobs[rule, log, inputs] = Job(
            rule, tuple(sorted(records)), inputs, log, *times, latest.get("input_checksums") or {}, recorded
        )
    return {output: job for job in jobs.values() for output in job.outputs}


def wanted(path: str, where: dict[str, str]) -> bool:
    """Whether an evaluation's outcomes take part in the cells that ``where`` selects; other files do."""
    if before := BEFORE.fullmatch(path):
        # folders of targets begin with a rank; what all targets share always takes part
        other = re.match(r"\d+_", before["target"]) and where.get("target") not in (None, before["target"])
        return not other and where.get("stage") in (None, "0")
    found = EVALUATION.match(path)
    return found is None or all(found[key] == where[key] for key in RUN_KEYS if key in where)


def jobs_behind(path: str, records: dict[str, Job], where: dict[str, str]) -> list[Job]:
    """The jobs that made a file, directly or through others, in the order in which they ran.

    Args:
        where: values of target, method, seed and stage; evaluations of others that the tables also read
            are left out.

    Raises:
        LineageError: if no record says how the file was made.
    """
    if path not in records:
        raise LineageError(f"{path}: no record of how it was made; give the path as the workflow writes it")
    jobs, left, seen = {}, [path], set()
    while left:
        output = left.pop()
        if output in seen or output not in records:
            continue
        seen.add(output)
        job = records[output]
        jobs[job.outputs] = job
        of_tables = any(MADE_OF_RUNS.match(name) for name in job.outputs)
        left += [name for name in job.inputs if not of_tables or wanted(name, where)]
    return sorted(jobs.values(), key=lambda job: job.started)


def select(path: Path, where: dict[str, str]) -> pd.DataFrame | None:
    """Rows of a table in which every column that ``where`` names has its value; None for what is no CSV.

    Raises:
        LineageError: if a column or a value does not exist.
    """
    if path.suffix != ".csv":
        if unknown := set(where) - set(RUN_KEYS):
            raise LineageError(f"--where: {', '.join(sorted(unknown))}: for {path.name} only {', '.join(RUN_KEYS)}")
        return None
    rows = pd.read_csv(path)
    for key, value in where.items():
        if key not in rows:
            raise LineageError(f"--where: {path.name} has no column {key} (it has {', '.join(rows.columns)})")
        column = rows[key]
        same = column == float(value) if pd.api.types.is_numeric_dtype(column) else column.astype(str) == value
        if not same.any():
            raise LineageError(f"--where: no row of {path.name} with {key}={value}, the others given")
        rows = rows[same]
    return rows


def digest(path: Path) -> str:
    """sha256 of a file as it is now."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def sources(jobs: list[Job], records: dict[str, Job]) -> dict[str, str]:
    """Input files that no job made, each with its checksum when it was read, or "" if that was not recorded."""
    found: dict[str, str] = {}
    for job in jobs:
        for name in job.inputs:
            if name not in records:
                found[name] = job.checksums.get(name, "") or found.get(name, "")
    return dict(sorted(found.items()))


def given_config(recorded: dict) -> dict:
    """The config that was given to the run, from the one that its check completed."""
    config = {key: value for key, value in recorded.items() if key not in DERIVED}
    for method, variants in recorded.get("grids", {}).items():
        config["methods"] = list(dict.fromkeys(method if name in variants else name for name in config["methods"]))
        blocks = config["method_settings"]
        config["method_settings"] = {name: block for name, block in blocks.items() if name not in variants}
    return config


def settings_behind(config: dict, jobs: list[Job]) -> dict:
    """The part of the config that bears on the jobs: everything but other models, benchmarks and methods."""
    found = [EVALUATION.match(output) for job in jobs for output in job.outputs]
    methods = {match["method"] for match in found if match}
    used = {
        "models": {config["llm"], config["encoder"]},
        "benchmarks": {config["benchmark"]},
        "method_settings": methods & set(config["method_settings"]),
    }
    left_out = ("published", "tracking", "model_cards", *DERIVED)
    chosen = {key: value for key, value in config.items() if key not in left_out}
    for key, names in used.items():
        chosen[key] = {name: config[key][name] for name in sorted(names)}
    return chosen


def rebuild(path: str, jobs: list[Job], tables: dict, directory: Path) -> list[str]:
    """The commands that make a file again, everything behind it included, on the config of the last run.

    Jobs of several commits name each of them: which one makes the same file again is for the reader to judge.

    Args:
        tables: the provenance beside the tables; its commit counts where the jobs did not record theirs.
    """
    commits = {job.recorded["git_commit"] for job in jobs if job.recorded} or {tables["git_commit"]}
    tool = [sys.executable, str(Path(__file__)), path]
    snakemake = [sys.executable, "-m", "snakemake"]
    for command in (tool, snakemake):
        command += [] if directory == Path(".") else ["--directory", str(directory)]
    tool += ["--write-config", "rebuild.yaml"]
    snakemake += ["--cores", "all", "--resources", "gpu=1", "--configfile", "rebuild.yaml", "--forceall", "--", path]
    commands = [shlex.join(tool)]
    for commit in sorted(commits - {None}):
        changed = "  # and changes that were not committed" if commit.endswith("-dirty") else ""
        commands.append(f"git checkout {commit.removesuffix('-dirty')}{changed}")
    return [*commands, shlex.join(snakemake)]


def describe(jobs: list[Job], records: dict[str, Job], directory: Path) -> str:
    """The jobs and what they read, as text."""
    lines = ["Jobs:"]
    for job in jobs:
        when = datetime.fromtimestamp(job.started).isoformat(sep=" ", timespec="seconds")
        lines.append(f"  {job.rule}, {when}, {job.ended - job.started:.1f} s")
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="a table, a figure or any other file that the workflow made")
    parser.add_argument("--where", default="", help="key=value,...: columns of a CSV; target, method, seed, stage")
    parser.add_argument("--directory", type=Path, default=Path("."), help="where the workflow ran")
    parser.add_argument("--write-config", type=Path, help="write the config of the run there, and do nothing else")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    where = dict(pair.split("=", 1) for pair in options.where.split(",") if "=" in pair)
    try:
        shown = MADE_OF_RUNS.match(options.path)
        tables = options.directory / "results" / ((shown and shown[1]) or "") / "tables/provenance.json"
        if not tables.exists():
            raise LineageError(
                f"{tables} does not exist; it holds the config of the run: run the workflow, or name its --directory"
            )
        provenance = json.loads(tables.read_text(encoding="utf-8"))
        if options.write_config:
            text = yaml.safe_dump(given_config(provenance["settings"]), sort_keys=False, allow_unicode=True)
            options.write_config.write_text(text, encoding="utf-8")
            return
        records = read_records(options.directory)
        rows = select(options.directory / options.path, where)
        jobs = jobs_behind(options.path, records, where)
    except LineageError as error:
        sys.exit(str(error))
    if rows is not None:
        print(rows.to_string(index=False), end="\n\n")
    print(f"Tables: commit {provenance['git_commit']}, GPU {provenance['gpu'] or 'none'}")
    print(describe(jobs, records, options.directory))
    chosen = settings_behind(provenance["settings"], jobs)
    print("Settings:\n" + yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True))
    print("Again from raw data:")
    for command in rebuild(options.path, jobs, provenance, options.directory):
        print(f"  {command}")


if __name__ == "__main__":
    main()
