"""Print what a run would do, before anything is submitted: jobs by rule, GPU-hours, memory, disk.

    atu plan [arguments of snakemake]

Times are the medians of earlier jobs in this directory with the same rule, model, method and number of GPUs. Without
such jobs they are computed from the config (workflow/atu_pipeline/demands.py), as disk always is.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tabulate import tabulate

from atu_pipeline.records import Job, measured, read_jobs
from atu_pipeline.start import WAYS

# A stage of Align-then-Unlearn reads one checkpoint while it writes the next; a trained method leaves all its epochs.
CHECKPOINTS = {"unlearn": 2, "train": 1}
TRAIN = ("train", "unlearn", "unlearn_last")
KEPT = ("unlearn_last", "keep_weights", "find_intervention")  # each run has one job of one of these
CARDS = (24, 40, 48, 80)  # GB of common GPUs
# What one job requests, as columns.
LIMITS = {"mem_mb": ("GB", 1000), "gpu_mem_mb": ("GPU GB", 1000), "runtime": ("minutes", 1)}


def hours(job: Job, known: dict) -> float:
    """Expected hours of a job; 0 for jobs that take seconds."""
    return known.get(job.kind, job.resources.get("expected_s", 0.0)) / 3600


def by_rule(jobs: Iterable[Job], known: dict) -> list[dict]:
    """One row per rule: jobs, how many of them have a measured kind, hours, and the most that one job requests."""
    groups = defaultdict(list)
    for job in jobs:
        groups[job.rule].append(job)
    rows = []
    for rule, group in groups.items():
        most = {name: max(job.resources.get(name, 0) for job in group) for name in ("gpu", *LIMITS)}
        on_gpu = [job for job in group if job.resources.get("gpu")]
        rows.append(
            {"rule": rule, "jobs": len(group), "measured": sum(job.kind in known for job in group)}
            | {"GPUs": most["gpu"], "hours": sum(hours(job, known) for job in group)}
            | {"GPU-hours": sum(job.resources["gpu"] * hours(job, known) for job in on_gpu)}
            | {"GPU-hours asked": sum(job.resources["gpu"] * job.resources.get("runtime", 0) / 60 for job in on_gpu)}
            | {title: most[name] / unit for name, (title, unit) in LIMITS.items()}
        )
    return rows


def disk(jobs: Iterable[Job]) -> dict[tuple[str, str, str, str], tuple[float, float]]:
    """GB by run (target, method, seed, digest): at its peak, and kept at its end. What runs share has "" for all names.

    Stages have their own digests, so each run gets the largest stage of its target, method and seed.
    """
    largest = defaultdict(lambda: defaultdict(float))
    kept: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    shared = 0.0
    for job in jobs:
        run = tuple(job.wildcards.get(name, "") for name in ("target", "method", "seed"))
        size = job.resources.get("disk_mb", 0.0) / 1000
        if not all(run):
            shared += size
        elif job.rule in KEPT:
            kept[run][job.wildcards.get("digest", "")] = size
        else:
            largest[run][job.rule] = max(largest[run][job.rule], size)
    found = {("", "", "", ""): (shared, shared)}
    for run in largest.keys() | kept.keys():
        between = max(count * largest[run][rule] for rule, count in CHECKPOINTS.items())
        found |= {(*run, digest): (max(between, size), size) for digest, size in (kept[run] or {"": 0.0}).items()}
    return found


def cards(ways: dict[str, dict[str, float]]) -> list[dict]:
    """One row per method that trains the LLM: the most exact way that fits each size of GPU, with the GB it requests.

    Args:
        ways: by method, the GB of each way, the most exact first.
    """
    rows = []
    for method, sizes in ways.items():
        row = {"method": method}
        for card in CARDS:
            fits = [f"{way} ({size:.0f})" for way, size in sizes.items() if size <= card]
            row[f"{card} GB"] = fits[0] if fits else "-"
        rows.append(row)
    return rows


def trainings(found: dict[str, dict[str, dict]], jobs: Iterable[Job] | None) -> str:
    """How each method that trains would fit each size of GPU, one table per LLM; without methods that no job trains.

    Args:
        found: by LLM and method, its file, whether it is one of the config's own, and its ways as for :func:`cards`.
        jobs: the planned jobs; None for all methods of the first LLM, which is the config's own.
    """
    if jobs is not None:
        planned = {(job.wildcards.get("llm"), job.wildcards.get("method")) for job in jobs if job.rule in TRAIN}
        found = {llm: trained_by(of, {file for of_llm, file in planned if of_llm == llm}) for llm, of in found.items()}
    else:
        found = dict(list(found.items())[:1])
    ways = {llm: {name: of[name]["ways"] for name in of} for llm, of in found.items()}
    return "\n".join(
        f"\ntraining {llm}, by GPU: how `memory: auto` would keep its numbers (GB)\n"
        + tabulate(cards(of), headers="keys")
        for llm, of in ways.items()
        if of
    )


def trained_by(methods: dict[str, dict], files: set[str]) -> dict[str, dict]:
    """The methods to which jobs of some files may belong: for each file the config's own, or else experiments'."""
    own = {held["file"] for held in methods.values() if held["own"]}
    return {
        name: held
        for name, held in methods.items()
        if held["file"] in files and (held["own"] or held["file"] not in own)
    }


def in_order(row: tuple[str, dict]) -> tuple[int, str]:
    """The sort key of a row: targets by rank, methods by name."""
    head = row[0].split("_")[0]
    return int(head) if head.isdigit() else 0, row[0]


def report(jobs: list[Job], known: dict) -> str:
    """The tables to print."""
    rules = by_rule(jobs, known)
    total = {
        key: sum(row[key] for row in rules) for key in ("jobs", "measured", "hours", "GPU-hours", "GPU-hours asked")
    }
    tables = [[*rules, {"rule": "total"} | total]]
    space = disk(jobs)
    shared = space.pop(("", "", "", ""))[0]
    for title, place in (("method", 1), ("target", 0)):
        rows = defaultdict(lambda: {"jobs": 0, "GPU-hours": 0.0})
        for job in jobs:
            name = job.wildcards.get(title)
            if name:
                rows[name]["jobs"] += 1
                rows[name]["GPU-hours"] += job.resources.get("gpu", 0) * hours(job, known)
        table = []
        for name, row in sorted(rows.items(), key=in_order):
            runs = [size for run, size in space.items() if run[place] == name]
            peaks = {"runs": len(runs), "peak GB a run": max((peak for peak, _ in runs), default=0.0)}
            all_at_once = {"peak GB, all at once": sum(peak for peak, _ in runs)}
            table.append({title: name} | row | peaks | all_at_once | {"kept GB": sum(kept for _, kept in runs)})
        tables.append(table)
    text = [tabulate(table, headers="keys", floatfmt=",.1f", intfmt=",") for table in tables if table]
    peak, kept = (sum(sizes[i] for sizes in space.values()) for i in (0, 1))
    text.append(
        f"disk: {shared:,.1f} GB that runs share; with all {len(space)} runs in flight {shared + peak:,.1f} GB, "
        f"at the end {shared + kept:,.1f} GB"
    )
    return "\n\n".join(text)


def main(arguments: list[str]) -> int:
    """Print what a run with these Snakemake options would do."""
    began = time.monotonic()
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--rerun-incomplete", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        left = Path(folder, "ways.json")
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {WAYS: str(left)})
        ways = json.loads(left.read_text(encoding="utf-8")) if left.exists() else {}
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
        print(trainings(ways, None))  # helps to choose a GPU or a way to train, if that is the fault
        return done.returncode
    directory = arguments[arguments.index("--directory") + 1] if "--directory" in arguments else "."
    jobs, _ = read_jobs(done.stdout.splitlines())
    if not jobs:
        print("nothing to be done")
        return 0
    print(report(jobs, measured(Path(directory))))
    print(trainings(ways, jobs))
    print(f"\nplanned in {time.monotonic() - began:.0f} s")
    return 0
