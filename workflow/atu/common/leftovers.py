"""Temporary folders that record their owner, so that those of killed jobs can be told from those of running ones."""

import contextlib
import glob
import json
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

RECORD = ".owner.json"
RANDOM = "?" * 8  # matches what mkdtemp appends to a prefix
log = logging.getLogger("atu")


def started(pid: int) -> str | None:
    """When a process of this host started, in ticks since boot; None if the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def namespace() -> str | None:
    """The namespace of process numbers, since a container's are not the host's; None if the system does not say."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def owner() -> dict:
    """What identifies this process, even after its number is given to another process."""
    here = {"host": platform.node(), "namespace": namespace(), "pid": os.getpid(), "started": started(os.getpid())}
    return here | {"slurm": os.environ.get("SLURM_JOB_ID"), "restart": os.environ.get("SLURM_RESTART_COUNT", "0")}


def new_folder(parent: Path, name: str) -> Path:
    """A new folder ``.name.xxxxxxxx`` that records its owner."""
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=parent))
    try:
        (folder / RECORD).write_text(json.dumps(owner()), encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def slurm_knows(job: str) -> bool | None:
    """Whether a job still waits or runs; None if Slurm does not answer."""
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return False if "Invalid job id" in done.stderr else None
    return bool(done.stdout.strip())


def alive(record: dict) -> bool | None:
    """Whether the owner of a folder still runs; None if that cannot be told from here."""
    mine = owner()
    if record.get("slurm") and record["slurm"] == mine["slurm"] and record.get("restart") != mine["restart"]:
        return False  # Slurm has requeued and restarted this very job
    if (record.get("host"), record.get("namespace")) == (mine["host"], mine["namespace"]):
        try:
            os.kill(record["pid"], 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return record.get("started") in (None, started(record["pid"]))
    return slurm_knows(record["slurm"]) if record.get("slurm") else None


def size(folder: Path) -> int:
    """Bytes of the files below a folder, without those that are also hard-linked elsewhere."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                stat = os.lstat(os.path.join(place, name))
                found += stat.st_size if stat.st_nlink == 1 else 0
    return found


def remove_if_abandoned(folder: Path) -> str | None:
    """Remove a temporary folder whose owner no longer runs.

    Returns:
        One line about what was removed, or what was left and why; None if its owner runs, or the folder is not ours.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    working = alive(record)
    if working:
        return None
    taken = f"{size(folder) / 1e9:.2f} GB that a killed job had left in {folder}"
    if working is None:
        job = f" as Slurm's job {record['slurm']}" if record.get("slurm") else ""
        return f"left: {taken}, if process {record['pid']} of {record['host']}{job} works no more; delete it yourself"
    shutil.rmtree(folder, ignore_errors=True)
    return f"removed {taken}" if not folder.exists() else f"cannot remove all of {taken}: delete it yourself"


def remove_abandoned(parent: Path, name: str) -> None:
    """Remove leftovers of killed jobs beside a path that this job is about to write; the log says how much."""
    for folder in parent.glob(f".{glob.escape(name)}.{RANDOM}"):
        if line := remove_if_abandoned(folder):
            log.warning(line)


def remove_all_abandoned(parent: Path) -> list[str]:
    """Remove leftovers of killed jobs anywhere below a folder.

    Returns:
        The lines of :func:`remove_if_abandoned`.
    """
    lines = []
    for place, folders, _ in os.walk(parent):
        hidden = [name for name in folders if name.startswith(".")]
        folders[:] = sorted(set(folders) - set(hidden))  # the content of a temporary folder is removed with it
        lines += [remove_if_abandoned(Path(place, name)) for name in sorted(hidden)]
    return [line for line in lines if line]


@contextlib.contextmanager
def scratch_folder(parent: str | Path, name: str) -> Iterator[Path]:
    """A temporary folder that exists only inside the block.

    If it cannot be removed (files that are still mapped, on NFS), no error is raised; the log says what is left.
    """
    remove_abandoned(Path(parent), name)
    folder = new_folder(Path(parent), name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            log.warning("cannot remove all of %s: delete it yourself", folder)
