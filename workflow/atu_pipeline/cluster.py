"""Slurm: checks before anything is submitted, and patches to the executor plugin.

The checks are whether the run will see that jobs end, and whether jobs of an earlier run still work here. The patches
add what version 2.8 lacks: GPUs requested by --gpus, by --gres alone or by both, with any name, and several on one
node; --slurm-no-account; preempted jobs that will not come back; and Slurm's location if Snakemake runs in one of its
jobs.
"""

import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from atu_pipeline.settings import ConfigError

# The longest pause in seconds between the executor plugin's queries of job states. squeue knows an ended job for
# MinJobAge seconds, and the plugin waits forever for a job that squeue no longer knows.
LONGEST_PAUSE = 180


def answer(*command: str) -> str:
    """The output of a Slurm command; nothing if it cannot be run or takes more than a minute."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def status_fault(shown: str, command: str, interval: int) -> str | None:
    """Why the run would not see that jobs end, and how to fix it; None if it would.

    Args:
        shown: the output of ``scontrol show config``; empty if no Slurm answers.
        command: "squeue" or "sacct", with which the executor plugin will query states.
        interval: seconds before its first query.
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


# The executor plugin names its jobs by the run's id, after the user's prefix.
PLUGINS_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
GPU_OPTIONS = ("gpus", "gres", "both")  # of sbatch
QUEUE = "%A|%j|%Z"  # id, name, working directory


def left_behind(queue: str, directory: Path) -> list[str]:
    """Ids of Snakemake's jobs that work in a directory, without the job in which Snakemake itself runs and other jobs.

    Args:
        queue: lines of ``squeue --format`` with :data:`QUEUE`.
    """
    rows = (line.split("|", 2) for line in queue.splitlines() if line.count("|") >= 2)
    return sorted({job for job, name, place in rows if Path(place) == directory and PLUGINS_NAME.search(name)}, key=int)


def check_cluster(executor: object) -> None:
    """Refuse to start if the run would wait forever for jobs, or if jobs of an earlier run still work.

    Args:
        executor: Snakemake's settings of the executor; those of an executor other than Slurm pass.

    Raises:
        ConfigError: says in one line what to do.
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
    """The options of sbatch that request a job's GPUs. The plugin itself would request them by --gres and by --gpus.

    They come from the job's resources: ``gres`` as it is, or else ``gpu`` GPUs of ``gpu_model`` by ``gpu_option``
    (gpus, gres or both). Several GPUs are requested on one node unless ``nodes`` is set, since Slurm would spread
    --gpus=4 over nodes.

    Raises:
        WorkflowError: if ``gpu_option`` is unknown, or if a name cannot be a GPU's, since it could add options.
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
    """The GPU options of srun within a job: none if --gpus is unknown there, since a step has all GPUs of its job."""
    return lambda job: "" if job.resources.get("gres") or job.resources.get("gpu_option") == "gres" else asked(job)


def no_account(asked: Callable[[object, object], Iterator[str]]) -> Callable[[object, object], Iterator[str]]:
    """The account option of sbatch; with --slurm-no-account, the plugin does not guess one."""

    def option(executor: object, job: object) -> Iterator[str]:
        none = executor.workflow.executor_settings.no_account and not job.resources.get("slurm_account")
        return iter([""]) if none else asked(executor, job)

    return option


# States that the plugin does not know, or in which it waits for Slurm to requeue the job.
COMES_BACK = {"PREEMPTED", "NODE_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL"}


def ended(query: Callable[..., Awaitable[tuple]]) -> Callable[..., Awaitable[tuple]]:
    """The states of jobs, where jobs that ended unseen count as failed; the plugin would wait for them forever.

    A job that is preempted (or has lost its node) in two answers in a row was cancelled, not requeued. A job that was
    known and is missing from two answers in a row has been forgotten.
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
    """Keep SLURM_CONF, which the plugin needs, when it clears Slurm's variables because Snakemake runs in a job."""

    def keep() -> None:
        where = os.environ.get("SLURM_CONF")
        delete()
        if where:
            os.environ["SLURM_CONF"] = where

    return keep


def teach_plugins() -> None:
    """Patch the executor plugins with the functions above if Snakemake has loaded them; once per process."""
    slurm, step = (sys.modules.get(f"snakemake_executor_plugin_slurm{end}") for end in ("", "_jobstep"))
    if slurm and slurm.set_gres_string is not gpu_request:
        slurm.set_gres_string = gpu_request
        slurm.Executor.get_account_arg = no_account(slurm.Executor.get_account_arg)
        slurm.query_job_status = ended(slurm.query_job_status)
        slurm.delete_slurm_environment = without_job(slurm.delete_slurm_environment)
        if step:
            step.get_gpu_setting = step_gpus(step.get_gpu_setting)
