"""Slurm: what is checked before anything is submitted, and what the executor plugin is taught.

Before: will the run see that jobs end, and do jobs of an earlier run still work here? Taught, since version 2.8 lacks
it: GPUs by --gpus, by --gres alone or by both, of any name, several on one node; --slurm-no-account; preempted jobs
that will not come back; where Slurm is, if Snakemake runs in one of its jobs.
"""

import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from atu_pipeline.settings import ConfigError

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


# The executor plugin calls its jobs by the run's id, behind a prefix of the user's.
PLUGINS_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
GPU_OPTIONS = ("gpus", "gres", "both")  # of sbatch
QUEUE = "%A|%j|%Z"  # id, name, working directory


def left_behind(queue: str, directory: Path) -> list[str]:
    """Ids of jobs of a Snakemake that work in a directory; not the job in which Snakemake itself runs, nor others.

    Args:
        queue: lines of ``squeue --format`` with :data:`QUEUE`.
    """
    rows = (line.split("|", 2) for line in queue.splitlines() if line.count("|") >= 2)
    return sorted({job for job, name, place in rows if Path(place) == directory and PLUGINS_NAME.search(name)}, key=int)


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
    if jobs := left_behind(answer("squeue", "--me", "--noheader", f"--format={QUEUE}"), Path.cwd()):
        raise ConfigError(
            f"jobs of an earlier run still work in this directory: wait until they end, or: scancel {' '.join(jobs)}"
        )


def gpu_request(job: object) -> str:
    """How sbatch is asked for a job's GPUs; once, where the plugin asks by --gres and by --gpus.

    By the job's resources: ``gres`` as it is; else ``gpu`` of them, of ``gpu_model``, by ``gpu_option`` (gpus, gres or
    both). Several are asked for on one node, unless ``nodes`` says otherwise: Slurm would take --gpus=4 from several.

    Raises:
        WorkflowError: for a name that no GPU has, so that it could be more than a name.
    """
    from snakemake_interface_common.exceptions import WorkflowError

    given, count, model = (job.resources.get(name) for name in ("gres", "gpu", "gpu_model"))
    option = job.resources.get("gpu_option") or "gpus"
    if option not in GPU_OPTIONS:
        raise WorkflowError(f"gpu_option is {option!r}: set it to gpus, gres or both")
    asked = {}
    if given:
        asked = {"gres": given}
    elif count:
        named = ":".join([*([str(model)] if model else []), str(count)])
        asked = {"gpus": named, "gres": f"gpu:{named}"}
        asked = asked if option == "both" else {option: asked[option]}
    for wanted in asked.values():
        if not re.fullmatch(r"[\w.:,-]+", wanted):
            raise WorkflowError(f"{wanted!r} names no GPU as sinfo --format=%G lists them: correct gpu_model or gres")
    if asked and (count or 0) > 1 and job.resources.get("nodes") is None:
        asked["nodes"] = "1"
    return "".join(f" --{name}={value}" for name, value in asked.items())


def step_gpus(asked: Callable[[object], str]) -> Callable[[object], str]:
    """What srun is asked for within a job: nothing where --gpus is unknown, as a step has all GPUs of its job."""
    return lambda job: "" if job.resources.get("gres") or job.resources.get("gpu_option") == "gres" else asked(job)


def no_account(asked: Callable[[object, object], Iterator[str]]) -> Callable[[object, object], Iterator[str]]:
    """The account as an option of sbatch: with --slurm-no-account none is guessed."""

    def option(executor: object, job: object) -> Iterator[str]:
        none = executor.workflow.executor_settings.no_account and not job.resources.get("slurm_account")
        return iter([""]) if none else asked(executor, job)

    return option


# States in which the plugin waits for Slurm to put a job back into its queue, or that it does not know.
COMES_BACK = {"PREEMPTED", "NODE_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL"}


def ended(query: Callable[..., Awaitable[tuple]]) -> Callable[..., Awaitable[tuple]]:
    """The states of jobs, in which those that ended unseen count as failed; the plugin would wait for them for ever.

    One that is preempted (or lost its node) in two answers on end was cancelled, not put back. One that was known and
    is missing from two answers on end has been forgotten.
    """
    known: set[str] = set()
    before: dict[str, str] = {}

    async def states(command: str, logger: object) -> tuple:
        found, seconds = await query(command, logger)
        if found is None:
            return found, seconds
        known.update(found)
        doubtful = {job: "CANCELLED" for job, state in found.items() if state in COMES_BACK}
        doubtful |= dict.fromkeys(known - found.keys(), "FAILED")
        gone = {job: state for job, state in doubtful.items() if before.get(job) == state}
        before.clear()
        before.update(doubtful)
        return found | gone, seconds

    return states


def without_job(delete: Callable[[], None]) -> Callable[[], None]:
    """What the plugin takes out of the environment where Snakemake itself runs in a job; where Slurm is, it needs."""

    def keep() -> None:
        where = os.environ.get("SLURM_CONF")
        delete()
        if where:
            os.environ["SLURM_CONF"] = where

    return keep


def teach_plugins() -> None:
    """Put the functions above into the executor plugins, where Snakemake has loaded them; once in a process."""
    slurm, step = (sys.modules.get(f"snakemake_executor_plugin_slurm{end}") for end in ("", "_jobstep"))
    if slurm and slurm.set_gres_string is not gpu_request:
        slurm.set_gres_string = gpu_request
        slurm.Executor.get_account_arg = no_account(slurm.Executor.get_account_arg)
        slurm.query_job_status = ended(slurm.query_job_status)
        slurm.delete_slurm_environment = without_job(slurm.delete_slurm_environment)
        if step:
            step.get_gpu_setting = step_gpus(step.get_gpu_setting)
