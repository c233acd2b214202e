"""Before a run submits anything to Slurm: will it see that jobs end, and does an earlier run still work here?"""

import re
import subprocess
from pathlib import Path

from settings import ConfigError

# The executor plugin asks for the state of jobs every so many seconds at most; squeue knows an ended job for
# MinJobAge seconds, and the plugin waits for ever for a job that squeue no longer knows.
LONGEST_PAUSE = 180


def answer(*command: str) -> str:
    """What a Slurm command prints; nothing if it fails or does not exist."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def status_fault(shown: str, command: str, interval: int) -> str | None:
    """Why ended jobs would not be seen, with the mend, or None.

    Args:
        shown: what ``scontrol show config`` prints; nothing where no Slurm answers.
        command: "squeue" or "sacct", which the executor plugin is to ask.
        interval: seconds before its first question.
    """
    values = dict(re.findall(r"^(\w+)\s*=\s*(\S+)", shown, re.MULTILINE))
    accounts = values.get("AccountingStorageType", "").removeprefix("accounting_storage/") != "none"
    age = int(values.get("MinJobAge", LONGEST_PAUSE + interval))
    forgets = f"squeue forgets ended jobs after {age} s (MinJobAge), and up to {LONGEST_PAUSE} s pass between questions"
    if not shown:
        return "no Slurm answers (scontrol show config says nothing): start this on a login node of a cluster"
    if accounts and command == "sacct":
        return None
    if command == "sacct":
        return (
            "this cluster keeps no accounts (AccountingStorageType is none), so sacct never tells that a job has "
            "ended: set slurm-status-command to squeue"
        )
    if not accounts and age < 3 * interval:  # the plugin then asks sacct
        return f"{forgets}: set slurm-init-seconds-before-status-checks to at most {age // 3}"
    if age < LONGEST_PAUSE + interval:
        mend = "slurm-status-command to sacct" if accounts else f"MinJobAge in slurm.conf to {LONGEST_PAUSE + interval}"
        return f"{forgets}: set {mend}"
    return None


def left_behind(queue: str, directory: Path) -> list[str]:
    """Ids of jobs that work in a directory.

    Args:
        queue: lines of ``squeue --format "%A|%Z"``, id and working directory.
    """
    rows = (line.split("|", 1) for line in queue.splitlines() if "|" in line)
    return sorted({job for job, place in rows if Path(place) == directory}, key=int)


def check_cluster(executor: object) -> None:
    """Refuse to start where jobs would be waited for for ever, or would be done twice at once.

    Args:
        executor: Snakemake's settings of the executor; those of another than Slurm's pass.

    Raises:
        ConfigError: with one line that says what to do.
    """
    command = getattr(executor, "status_command", None)
    if command is None:
        return
    fault = status_fault(answer("scontrol", "show", "config"), command, executor.init_seconds_before_status_checks)
    if fault:
        raise ConfigError(fault)
    if jobs := left_behind(answer("squeue", "--me", "--noheader", "--format=%A|%Z"), Path.cwd()):
        raise ConfigError(
            f"jobs of an earlier run still work in this directory: wait until they end, or: scancel {' '.join(jobs)}"
        )
