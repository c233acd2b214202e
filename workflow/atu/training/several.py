"""One function in several processes, each with a GPU of its own; on a machine without GPUs they share its CPUs."""

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
    """A port of this machine by which processes find each other."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


class Work:
    """What each process runs. The error that ends it is left in a folder, for who started it."""

    def __init__(self, function: Callable, outputs: Iterable[str], folder: str):
        self.function, self.outputs, self.folder = function, [Path(path) for path in outputs], Path(folder)

    def __call__(self, *args: object) -> None:
        rank = int(os.environ["RANK"])
        if rank:
            NOT_KEPT.update(self.outputs)
            log_of_job.setLevel(logging.CRITICAL)  # the first says the same
        try:
            self.function(*args)
        except BaseException as error:
            if not isinstance(error, ExplainedError):
                error.add_note(f"in process {rank}:\n{traceback.format_exc()}")  # which its pickle lacks
            self.leave(f"error {rank}", error)
            raise
        if not rank:
            self.leave("started", STARTED)
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()

    def leave(self, name: str, what: object) -> None:
        """Write a file whole; what cannot be written as it is, as its words."""
        try:
            data = pickle.dumps(what)
            pickle.loads(data)
        except Exception:  # an error with arguments of its own, say
            data = pickle.dumps(RuntimeError(f"{type(what).__name__}: {what}"))
        part = self.folder / f".{name}"
        part.write_bytes(data)
        part.rename(self.folder / name)


def run(count: int, function: Callable, *args: object, device: str = "cpu", outputs: Iterable[str] = ()) -> None:
    """Call ``function(*args)`` in ``count`` processes that train or ask one model; with one, here.

    Each calls :func:`atu.common.runtime.start`, which has it join the others. The first alone writes, logs and tracks.
    They are forked: nothing may have touched a GPU before.

    Args:
        device: as of :func:`atu.common.runtime.start`; unless it is "cpu", so many GPUs are taken.
        outputs: files and folders that the function writes by ``atomic_path``; the others' are thrown away.

    Raises:
        BaseException: what ended the first process that failed; the others are ended then.
        ExplainedError: if one was killed.
    """
    if count == 1:
        function(*args)
        return
    if device != "cpu":
        take_gpus(count)
    from accelerate.utils import PrepareForLaunch, patch_environment
    from torch.multiprocessing.spawn import ProcessException, start_processes

    where: dict[str, object] = {"world_size": count, "nproc": count, "local_world_size": count, "node_rank": 0}
    if sys.platform == "linux":  # gloo else goes by the host's name, which may mean any network
        where["gloo_socket_ifname"] = "lo"
    where |= {"master_addr": "127.0.0.1", "master_port": free_port(), SEVERAL.lower(): 1}
    with tempfile.TemporaryDirectory() as folder, patch_environment(**where):
        work = PrepareForLaunch(Work(function, outputs, folder), distributed_type="MULTI_GPU")
        started: Any = start_processes(work, args=args, nprocs=count, start_method="fork", join=False)
        try:
            while not started.join():
                pass
        except ProcessException as error:
            # one that loses the others fails too: the first to fail knows why
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
