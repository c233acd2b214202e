"""What the last run in a directory has done, what it does, what has failed, and how long is left.

    python workflow/status.py [directory]

It reads what Snakemake writes (.snakemake/log and the logs of the jobs) and disturbs nothing.
"""

import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil
from tabulate import tabulate

from records import Job, logs, measured, read_jobs

LINES = 8  # of a failed job's log


def states(jobs: Iterable[Job], totals: dict[str, int]) -> list[dict]:
    """One row a rule: how many of its jobs are done, running (on a cluster: or queued), failed and waiting."""
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
    """Seconds until the run ends, if as many jobs as now run at a time.

    A job of a rule is taken to last as long as the median of those that are done, else as it was computed; what is
    running has come as far as its clock says.
    """
    jobs = list(jobs)
    lasting = {rule: seconds for (rule, _, _), seconds in known.items()}
    lasting |= {job.rule: job.resources["expected_s"] for job in jobs if job.resources.get("expected_s")} | lasting
    running = [job for job in jobs if job.started and not job.ended]
    left = sum(max(lasting.get(job.rule, 0) - (now - job.started), 0) for job in running)
    left += sum((row["waiting"] + row["failed"]) * lasting.get(row["rule"], 0) for row in rows)
    return left / max(len(running), 1)


def failure(job: Job, command: str) -> str:
    """What a failed job was to make, the last lines of its logs, and the command that does it again."""
    text = [f"failed: {job.rule} -> {', '.join(job.output)}"]
    for path in map(Path, job.log):
        if path.is_file():
            last = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-LINES:]
            text += [f"  {path}:", *(f"    {line}" for line in last)]
    return "\n".join([*text, f"  again: {command} {shlex.join(job.output[:1])}"])


def asked(lines: Iterable[str]) -> str:
    """The command that started a run, without its targets: its options as Snakemake's log states them."""
    words = next((line.split()[2:] for line in lines if line.strip().startswith("Command: ")), [])
    options = []
    for i, word in enumerate(words):
        if word in ("--profile", "--configfile", "--directory", "--snakefile") and i + 1 < len(words):
            options += [word, words[i + 1]]
    return shlex.join(["snakemake", *options])


def works(directory: Path) -> bool:
    """Whether a Snakemake of this host works in a directory: after kill -9 its lock is still there."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words, place = process.info["cmdline"] or [], process.info["cwd"]
        if any("snakemake" in word for word in words[:4]) and place and Path(place) == directory.resolve():
            return True
    return False


def main() -> int:
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
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
    locked = any((directory / ".snakemake/locks").glob("*"))
    going = locked and works(directory)
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
            print("\n" + failure(job, asked(lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
