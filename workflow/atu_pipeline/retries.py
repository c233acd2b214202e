"""Which jobs are tried again: not those whose fault would come again.

Snakemake's --retries (and `retries` of a rule) knows no kinds of faults. A job asks ``restart_times`` of itself when it
has failed; here the answer is 0 where the job has left a mark beside its log (``atu.common.runtime.job_log``).
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from snakemake.jobs import GroupJob, Job
from snakemake.logging import logger


def fault(logs: Iterable[str]) -> str:
    """The mark that a job has left beside its logs, or nothing; it is taken away, so that it counts once."""
    for mark in (Path(log).with_suffix(".fault") for log in logs):
        if mark.is_file():
            said = mark.read_text(encoding="utf-8", errors="replace").strip()
            mark.unlink()
            return said or "a fault that would come again"
    return ""


def restarts(job: Job | GroupJob, asked: Callable[[Job | GroupJob], int], is_main: bool) -> int:
    """How many times a failed job may restart.

    Args:
        asked: what Snakemake says, by the rule and --retries.
        is_main: whether this Snakemake sees to retries; those that it starts for single jobs do not.
    """
    jobs = job.jobs if isinstance(job, GroupJob) else [job]
    if not is_main:
        return 0
    if said := fault(log for single in jobs for log in single.log):
        logger.info(f"Job {job.jobid} is not tried again, since it would fail again: {said.splitlines()[0]}")
        return 0
    return asked(job)


def tell_faults_apart(is_main: bool) -> None:
    """Let Snakemake ask :func:`restarts`, for jobs and for groups of them."""
    for kind in (Job, GroupJob):
        # a Snakefile may be read more than once in a process: what Snakemake itself says is kept
        asked = getattr(kind.restart_times.fget, "asked", kind.restart_times.fget)

        def answer(job, asked=asked):
            return restarts(job, asked, is_main)

        answer.asked = asked
        kind.restart_times = property(answer)
