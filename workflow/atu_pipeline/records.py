"""Jobs as Snakemake prints them, in a dry run and in .snakemake/log, and how long earlier jobs took."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median

STAMP = re.compile(r"^\[(\w{3} \w{3} +\d+ [\d:]+ \d{4})\]")
STARTED = re.compile(r"^(?:local)?rule (\w+):$")
FAILED = re.compile(r"^Error in rule (\w+):$")
FINISHED = re.compile(r"^Finished jobid: (\d+) ")
TOTAL = re.compile(r"^(\w+) +(\d+)$")
Kind = tuple[str, str, str, int]
FIELD = re.compile(r"^(output|log|jobid|wildcards|resources): (.*)$")


@dataclass
class Job:
    """One job of a run.

    Attributes:
        number: Snakemake's job id; a job keeps it when it is tried again.
        started, ended: seconds since the epoch; None if it has not happened.
        failed: whether its last attempt failed.
    """

    rule: str
    number: str = ""
    output: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    wildcards: dict[str, str] = field(default_factory=dict)
    resources: dict[str, float] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    failed: bool = False

    def fill(self, name: str, text: str) -> None:
        """Read a line of the job's block, such as `jobid: 4`."""
        text = text.removesuffix(" (check log file(s) for error details)")
        items = [item for item in text.split(", ") if item]
        if name in ("output", "log"):
            setattr(self, name, items)
        elif name == "wildcards":
            self.wildcards = dict(item.split("=", 1) for item in items)
        elif name == "resources":
            pairs = (item.split("=", 1) for item in items)
            self.resources = {key: float(value) for key, value in pairs if re.fullmatch(r"[\d.]+", value)}

    @property
    def kind(self) -> Kind:
        """Rule, model (for a download, the fetched one), method and GPUs; jobs of one kind take about equally long."""
        model = self.wildcards.get("llm", self.wildcards.get("model", ""))
        return self.rule, model, self.wildcards.get("method", ""), int(self.resources.get("gpu", 0))


def read_jobs(lines: Iterable[str]) -> tuple[list[Job], dict[str, int]]:
    """The jobs for which Snakemake printed a block, and the number of all jobs of the run by rule."""
    jobs: dict[str, Job] = {}
    totals: dict[str, int] = {}
    current, failing, announced, now = None, False, False, None
    # Snakemake quotes logs of failed jobs between two equal rulers; a log may be Snakemake's own and quote others
    titled, rulers = False, []
    for line in map(str.strip, lines):
        if titled:
            rulers.append(line)
            titled = False
        elif line.startswith("Logfile ") and line.endswith(":"):
            titled = True
        elif rulers:
            if line == rulers[-1]:
                rulers.pop()
        elif stamp := STAMP.match(line):
            now = datetime.strptime(stamp[1], "%a %b %d %H:%M:%S %Y").timestamp()
            current = None
        elif begun := STARTED.match(line) or FAILED.match(line):
            current, failing = Job(begun[1]), line.startswith("Error")
        elif ended := FINISHED.match(line):
            if ended[1] in jobs:
                jobs[ended[1]].ended, jobs[ended[1]].failed = now, False
        elif line in ("Job stats:", ""):
            announced = line != ""
        elif announced and (total := TOTAL.match(line)) and total[1] != "total":
            totals[total[1]] = int(total[2])
        elif current and (found := FIELD.match(line)):
            name, text = found.groups()
            if name == "jobid":
                current.number = text
            else:
                current.fill(name, text)
            if failing and name == "jobid" and text in jobs:
                jobs[text].failed, jobs[text].ended = True, now
                current = jobs[text]  # its block names the logs of this attempt
            elif not failing and name == "jobid":
                current.started = now
                jobs[text] = current
    return list(jobs.values()), totals


def logs(directory: Path) -> list[Path]:
    """Snakemake's logs of the runs in a directory, the latest last."""
    return sorted((directory / ".snakemake/log").glob("*.snakemake.log"))


def measured(directory: Path) -> dict[Kind, float]:
    """Median seconds from start to end of a directory's finished jobs, by kind; on a cluster queueing is included."""
    seconds = defaultdict(list)
    for path in logs(directory):
        for job in read_jobs(path.read_text(encoding="utf-8", errors="replace").splitlines())[0]:
            if job.started and job.ended and not job.failed:
                seconds[job.kind].append(job.ended - job.started)
    return {kind: median(values) for kind, values in seconds.items()}
