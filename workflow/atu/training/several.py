"""Run one function in several processes, each with its own GPU; without GPUs, they share the machine's CPUs."""

import logging
import os
import pickle
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from atu.common.errors import ExplainedError
from atu.common.files import NOT_KEPT
from atu.common.gpus import take_gpus
from atu.common.runtime import SEVERAL, STARTED

log_of_job = logging.getLogger("atu")


def free_port() -> int:
    """A free port of this machine, through which the processes find each other."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


class Work:
    """What each process runs. An error that ends it is written into a folder, where the parent process finds it."""

    def __init__(self, function: Callable, outputs: Iterable[str], folder: str):
        self.function, self.outputs, self.folder = function, [Path(path) for path in outputs], Path(folder)

    def __call__(self, *args: object) -> None:
        rank = int(os.environ["RANK"])
        if rank:
            NOT_KEPT.update(self.outputs)
            log_of_job.setLevel(logging.CRITICAL)  # the first process logs the same
        try:
            self.function(*args)
        except BaseException as error:
            if not isinstance(error, ExplainedError):
                error.add_note(f"in process {rank}:\n{traceback.format_exc()}")  # a pickled error has no traceback
            self.leave(f"error {rank}", error)
            raise
        if not rank:
            self.leave("started", STARTED)
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()

    def leave(self, name: str, what: object) -> None:
        """Write an object to a file, whole or not at all; an error that cannot be pickled is written as its message."""
        try:
            data = pickle.dumps(what)
            pickle.loads(data)
        except Exception:  # for example an error class with its own arguments
            data = pickle.dumps(RuntimeError(f"{type(what).__name__}: {what}"))
        part = self.folder / f".{name}"
        part.write_bytes(data)
        part.rename(self.folder / name)


def run(count: int, function: Callable, *args: object, device: str = "cpu", outputs: Iterable[str] = ()) -> None:
    """Call ``function(*args)`` in ``count`` processes that train or ask one model; a count of 1 uses this process.

    The function calls :func:`atu.common.runtime.start`, which joins the process to the others. Only the first process
    writes, logs and tracks. The processes are forked, so nothing may have touched a GPU before.

    Args:
        device: as in :func:`atu.common.runtime.start`; unless it is "cpu", ``count`` GPUs are taken.
        outputs: files and folders that the function writes with ``atomic_path``; only the first process's are kept.

    Raises:
        BaseException: the error of the first process that failed; the other processes are then ended.
        ExplainedError: if a process was killed.
    """
    if count == 1:
        function(*args)
        return
    if device != "cpu":
        take_gpus(count)
    from accelerate.utils import PrepareForLaunch, patch_environment
    from torch.multiprocessing.spawn import ProcessException, start_processes

    where: dict[str, object] = {"world_size": count, "nproc": count, "local_world_size": count, "node_rank": 0}
    if sys.platform == "linux":  # otherwise gloo resolves the host's name, which may lead to any network
        where["gloo_socket_ifname"] = "lo"
    where |= {"master_addr": "127.0.0.1", "master_port": free_port(), SEVERAL.lower(): 1}
    with tempfile.TemporaryDirectory() as folder, patch_environment(**where):
        work = PrepareForLaunch(Work(function, outputs, folder), distributed_type="MULTI_GPU")
        started: Any = start_processes(work, args=args, nprocs=count, start_method="fork", join=False)
        try:
            while not started.join():
                pass
        except ProcessException as error:
            # a process that loses the others fails too, so the first to fail has the cause
            left = sorted(Path(folder).glob("error *"), key=lambda path: path.stat().st_mtime_ns)
            if left:
                raise pickle.loads(left[0].read_bytes()) from None
            said = str(error).strip().splitlines()[-1]
            raise ExplainedError(
                f"one of {count} processes ended without a word ({said}): memory may be short; see what the machine "
                "says of it",
                passing=True,
            ) from error
        finally:
            for left_by_torch in started.error_files:
                Path(left_by_torch).unlink(missing_ok=True)
        STARTED.update(pickle.loads((Path(folder) / "started").read_bytes()))
