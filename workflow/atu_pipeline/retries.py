"""Which failed jobs are tried again: only those that might succeed then.

Snakemake's --retries (and a rule's `retries`) does not distinguish kinds of faults. When a job has failed, Snakemake
reads its ``restart_times``. Here that is 0 if the job has left a mark beside its log (``atu.common.runtime.job_log``).
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from snakemake.jobs import GroupJob, Job
from snakemake.logging import logger


def fault(logs: Iterable[str]) -> str:
    """The mark that a job has left beside its logs, or nothing; the mark is removed, so that it counts only once."""
    for mark in (Path(log).with_suffix(".fault") for log in logs):
        if mark.is_file():
            said = mark.read_text(encoding="utf-8", errors="replace").strip()
            mark.unlink()
            return said or "a fault that would come again"
    return ""


def restarts(job: Job | GroupJob, asked: Callable[[Job | GroupJob], int], is_main: bool) -> int:
    """How many times a failed job may restart.

    Args:
        asked: Snakemake's own answer, from the rule and --retries.
        is_main: whether this is the Snakemake that handles retries; those that it starts for single jobs do not.
    """
    jobs = job.jobs if isinstance(job, GroupJob) else [job]
    if not is_main:
        return 0
    if said := fault(log for single in jobs for log in single.log):
        logger.info(f"Job {job.jobid} is not tried again, since it would fail again: {said.splitlines()[0]}")
        return 0
    return asked(job)


def tell_faults_apart(is_main: bool) -> None:
    """Make Snakemake use :func:`restarts`, for jobs and for groups of them."""
    for kind in (Job, GroupJob):
        # a Snakefile may be read more than once in a process, so keep Snakemake's own answer
        asked = getattr(kind.restart_times.fget, "asked", kind.restart_times.fget)

        def answer(job, asked=asked):
            return restarts(job, asked, is_main)

        answer.asked = asked
        kind.restart_times = property(answer)
