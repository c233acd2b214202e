"""Show what the last run in a directory has done, is doing and has failed to do, and how long it will take.

    atu status [directory]

It reads what Snakemake writes (.snakemake/log and the logs of the jobs) and changes nothing.
"""

import json
import shlex
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil
from tabulate import tabulate

from atu_pipeline.records import Job, logs, measured, read_jobs
from atu_pipeline.start import command_file, run_of

LINES = 8  # of a failed job's log that are shown


def states(jobs: Iterable[Job], totals: dict[str, int]) -> list[dict]:
    """One row per rule: how many of its jobs are done, running (on a cluster, or queued), failed and waiting."""
    counts = {rule: Counter() for rule in totals}
    for job in jobs:
        state = "failed" if job.failed else "done" if job.ended else "running"
        counts.setdefault(job.rule, Counter())[state] += 1
    rows = []
    for rule, count in counts.items():
        waiting = max(totals.get(rule, 0) - count.total(), 0)
        rows.append(
            {"rule": rule} | {state: count[state] for state in ("done", "running", "failed")} | {"waiting": waiting}
        )
    return rows


def seconds_left(jobs: Iterable[Job], rows: Iterable[dict], known: dict, now: float) -> float:
    """Seconds until the run ends, if it goes on with as many jobs at a time as now.

    A job is assumed to take the median time of its rule's finished jobs, or else its computed time; for a running job
    the time since its start is subtracted.
    """
    jobs = list(jobs)
    lasting = {rule: seconds for (rule, *_), seconds in known.items()}
    lasting |= {job.rule: job.resources["expected_s"] for job in jobs if job.resources.get("expected_s")} | lasting
    running = [job for job in jobs if job.started and not job.ended]
    left = sum(max(lasting.get(job.rule, 0) - (now - job.started), 0) for job in running)
    left += sum((row["waiting"] + row["failed"]) * lasting.get(row["rule"], 0) for row in rows)
    return left / max(len(running), 1)


def failure(job: Job, command: str) -> str:
    """A failed job's outputs, the last lines of its logs, and the command that runs it again."""
    text = [f"failed: {job.rule} -> {', '.join(job.output)}"]
    for path in map(Path, job.log):
        if path.is_file():
            last = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-LINES:]
            text += [f"  {path}:", *(f"    {line}" for line in last)]
    return "\n".join([*text, f"  again: {command} {shlex.join(job.output[:1] or [job.rule])}"])


# Options that control a run but not its settings. They are dropped, as targets are.
ONCE = {"dryrun", "force", "forceall", "forcerun", "omit_from", "printshellcmds", "quiet", "report", "touch", "unlock"}
ONCE |= {"until", "summary", "detailed_summary", "lint", "dag", "rulegraph", "d3dag", "list_rules", "batch"}


def options_of(words: list[str]) -> list[str]:
    """The options of a Snakemake command that affect what jobs do, with all their values and without targets.

    Snakemake's own parser says how many values an option takes.
    """
    from snakemake.cli import get_argument_parser  # slow to import, and only needed after failures

    known = get_argument_parser()._option_string_actions
    kept, i = [], 0
    while i < len(words) and words[i] != "--":
        name, equals, _ = words[i].partition("=")
        if words[i].startswith("-") and not words[i].startswith("--"):  # -c2 is -c 2
            name, equals = words[i][:2], words[i][2:]
        alike = [name] if name in known else [other for other in known if other.startswith(name)]
        end = i + 1
        if not words[i].startswith("-") or not alike:  # a target
            i = end
            continue
        action = known[alike[0]]
        if not equals and action.nargs in ("+", "*"):
            while end < len(words) and not words[end].startswith("-"):
                end += 1
        elif not equals and (
            action.nargs is None or (action.nargs == "?" and end < len(words) and not words[end].startswith("-"))
        ):
            end += 1
        if action.dest not in ONCE:
            kept += words[i:end]
        i = end
    return kept


def asked(lines: Iterable[str], log: Path | None = None) -> str:
    """The command that started a run, without its targets and ready for others to be appended.

    Args:
        lines: the lines of Snakemake's log, whose line about the command has lost the quotes.
        log: the log's path, beside which the words are kept as the user gave them.
    """
    words = next((line.split()[2:] for line in lines if line.strip().startswith("Command: ")), [])
    before = []
    if log and command_file(log).is_file():
        noted = json.loads(command_file(log).read_text(encoding="utf-8"))
        words, before = noted["words"], [f"{name}={shlex.quote(value)}" for name, value in noted["environment"].items()]
        if Path(noted["directory"]) != Path.cwd():  # the command's paths are relative to where it was given
            before = ["cd", shlex.quote(noted["directory"]), "&&", *before]
    options = options_of(words)
    # after some options, targets would be taken for more of their values
    return " ".join([*before, shlex.join(["snakemake", *options])]) + (" --" if options else "")


def works(directory: Path) -> bool:
    """Whether a Snakemake on this host works in a directory; its lock does not tell, since it stays after kill -9."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words, place = process.info["cmdline"] or [], process.info["cwd"]
        if any("snakemake" in word for word in words[:4]) and place and Path(place) == directory.resolve():
            return True
    return False


def main(arguments: list[str]) -> int:
    """Print the state of the last run in a directory."""
    directory = Path(arguments[0] if arguments else ".")
    files = logs(directory)
    if not files:
        print(f"no run in {directory.resolve()} yet")
        return 0
    for file in reversed(files):  # --unlock and --report leave a log without jobs
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        jobs, totals = read_jobs(lines)
        if totals:
            break
    rows = states(jobs, totals)
    record, working = run_of(directory)
    locked = record is not None or any((directory / ".snakemake/locks").glob("*"))
    going = bool(working) or (locked and works(directory))
    total = {name: sum(row[name] for row in rows) for name in ("done", "running", "failed", "waiting")}
    print(tabulate([*rows, {"rule": "total"} | total], headers="keys"))
    if locked and not going:
        print("\nThe directory is locked, but no Snakemake of this host works in it: it runs elsewhere, or was killed")
    elif total["running"] and not going:
        print("\nSnakemake has ended: what stands as running was broken off")
    elif total["running"] + total["waiting"]:
        left = seconds_left(jobs, rows, measured(directory), time.time())
        print(f"\nabout {left / 3600:.1f} h left with {total['running']} jobs at a time" if going else "\nnot running")
    for job in jobs:
        if job.failed:
            print("\n" + failure(job, asked(lines, file)))
    return 0
