"""What every job needs: seeds, a device, a log that is also shown on the terminal."""

import hashlib
import json
import logging
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from atu.common.errors import ExplainedError
from atu.common.files import write_json
from atu.common.gpus import take_gpus

T = TypeVar("T")
STARTED: dict[str, int] = {}  # arguments of start(), for the job's record
SEVERAL = "ATU_SEVERAL"  # the environment variable of processes that train one model together
UNREPEATABLE = "does not have a deterministic implementation"  # torch's words
COMMIT = "ATU_COMMIT"  # the environment variable that says which code runs
ARCHIVED = "workflow/commit.txt"  # filled in by `git archive`
PACKAGES = ("torch", "transformers", "sentence-transformers", "accelerate", "snakemake")


class MissingPackageError(ExplainedError, RuntimeError):
    """A package that a setting asks for is not installed."""


class UnrepeatableError(ExplainedError, RuntimeError):
    """An operation would give different numbers each time, although ``deterministic`` is on."""


# The same job would fail with these again: wrong data and settings, a number that is not finite, a missing module.
# Other errors (memory, disk, network, a GPU's own errors, signals) may pass.
AGAIN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    IsADirectoryError,
    LookupError,
    NameError,
    NotADirectoryError,
    NotImplementedError,
    SyntaxError,
    TypeError,
    ValueError,
)


def comes_again(error: BaseException) -> bool:
    """Whether another try of the same job would fail in the same way."""
    return not error.passing if isinstance(error, ExplainedError) else isinstance(error, AGAIN)


@contextmanager
def unrepeatable_explained() -> Iterator[None]:
    """Turn torch's error about an operation without a deterministic form into a line that says what to do.

    Raises:
        UnrepeatableError: in place of torch's RuntimeError; all other errors are left as they are.
    """
    try:
        yield
    except RuntimeError as error:
        if UNREPEATABLE not in str(error):
            raise
        operation = str(error).partition(UNREPEATABLE)[0].strip().rpartition("\n")[-1]
        raise UnrepeatableError(
            f"deterministic: {operation} has no form on this device that repeats its numbers; set deterministic to "
            "false, and runs differ in their last digits, or choose a model or a device without it"
        ) from error


@contextmanager
def job_log(path: str | Path) -> Iterator[logging.Logger]:
    """Log to ``path`` and to stderr; an exception is logged with its traceback and raised again.

    A job that succeeds writes its provenance and times beside the log, as ``.json``, which is not an output for
    Snakemake. An :class:`ExplainedError` ends the job with only its message. A fault that would come again writes its
    message beside the log, as ``.fault``, so that the job is not tried again.
    """
    path, started = Path(path), time.time()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".fault").unlink(missing_ok=True)
    log = logging.getLogger("atu")
    log.setLevel(logging.INFO)
    file, terminal = logging.FileHandler(path, mode="w", encoding="utf-8"), logging.StreamHandler(sys.stderr)
    handlers: list[logging.Handler] = [file, terminal]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        log.addHandler(handler)
    # The traceback goes only to the file, since Python prints it to the terminal itself.
    try:
        with unrepeatable_explained():
            yield log
        times = {"started": started, "wall_seconds": round(time.time() - started, 3)}
        write_json(path.with_suffix(".json"), provenance() | STARTED | times)
    except ExplainedError as error:
        mark(path, error)
        log.error("%s", error)
        raise SystemExit(1) from None
    except BaseException as error:
        mark(path, error)
        log.removeHandler(terminal)
        log.exception("failed")
        raise
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


def mark(path: Path, error: BaseException) -> None:
    """Write the mark of a fault that would come again beside a log."""
    if comes_again(error):
        with suppress(OSError):  # the fault itself must still be reported
            path.with_suffix(".fault").write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8")


def progress(items: Iterable[T] | None, title: str, total: int | None = None) -> tqdm:
    """A progress line with an estimate of the time left; one line every 10 s if stderr is not a terminal.

    Iterate over it or, if ``items`` is None, call its ``update``. Of several processes, only the first shows it.
    """
    interval = 0.5 if sys.stderr.isatty() else 10
    quiet = os.environ.get("RANK", "0") != "0"
    return tqdm(items, desc=title, total=total, mininterval=interval, leave=sys.stderr.isatty(), disable=quiet)


def stage_seed(seed: int, stage: int) -> int:
    """The seed of one stage of a run, so that every stage has another order of batches.

    NumPy takes only seeds below 2**32; if a large seed (such as a date) exceeds that, the stage's seed is drawn.
    """
    number = 1000 * seed + stage
    return number if number < 2**32 else random.Random(number).getrandbits(32)


def repeat_numbers(deterministic: bool) -> None:
    """Let torch use only operations that give the same numbers each time on the same machine, or the fastest ones.

    Call this before CUDA starts, since cuBLAS reads its setting only once.
    """
    import torch

    if deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS streams do not share a workspace
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False  # each trial may find another algorithm fastest


def device_there(device: str) -> str:
    """The device on which :func:`start` will run models, "cuda" or "cpu"; this takes a GPU of the machine."""
    if device == "cpu":
        return "cpu"
    if not os.environ.get(SEVERAL):  # several processes share the GPUs that were taken for all of them
        take_gpus(1)
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def start(
    seed: int,
    threads: int,
    device: str = "auto",
    precision: str = "fp32",
    deterministic: bool = True,
    tracking: dict | None = None,
    run: str = "",
):
    """Seed every random generator and return an ``accelerate.Accelerator``.

    One of several processes (:mod:`atu.training.several`) joins the others: over GPUs, or over CPUs if there are no
    GPUs or ``device`` is "cpu".

    Args:
        seed: seeds ``random``, NumPy and torch; below 2**32.
        threads: CPU threads that torch may use; numbers repeat only with the same number of threads.
        device: "auto" (GPU if there is one), "cpu" or "cuda".
        precision: "fp32", or "bf16" for autocast on float32 weights.
        deterministic: whether to use the deterministic form of operations, and refuse operations that have none
            (:func:`job_log` says what to do then).
        tracking: {trackers: names that accelerate knows, project, folder}; every step that the accelerator logs goes
            there, until its ``end_training``.
        run: the run's name for the trackers.

    Raises:
        RuntimeError: if ``device`` is "cuda" and there is no GPU.
        MissingPackageError: if a tracker's package is not installed.
        ExplainedError: if there are fewer GPUs than processes.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import AutocastKwargs, InitProcessGroupKwargs, set_seed
    from transformers.utils import logging as transformers_logging

    device_there(device)
    repeat_numbers(deterministic)
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device is 'cuda' but torch sees no GPU; set device to 'auto' or 'cpu', or ask for a GPU")
    ranks = int(os.environ.get("WORLD_SIZE", 1)) if os.environ.get(SEVERAL) else 1
    on_gpus = ranks > 1 and device != "cpu" and torch.cuda.is_available()
    if on_gpus and torch.cuda.device_count() < ranks:
        raise ExplainedError(
            f"this job is one of {ranks} GPUs, and sees {torch.cuda.device_count()}: lower gpus_per_job or "
            "gpus_per_evaluation, or ask for a node that has so many"
        )
    # the gradients of a saturated loss (NPO's) are subnormal, and on these a CPU takes ten times as long; set before
    # torch starts threads, which inherit this
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    STARTED.update(threads=threads, deterministic=deterministic)
    set_seed(seed)
    transformers_logging.disable_progress_bar()
    tracking = tracking or {"trackers": []}
    trackers = tracking["trackers"]
    if missing := set(trackers) - set(map(str, get_available_trackers())):
        names = ", ".join(sorted(missing))
        raise MissingPackageError(f"no package for {names}: install it, or take it out of tracking.trackers")
    folder = Path(tracking["folder"], run) if trackers else None
    accelerator = Accelerator(
        cpu=device == "cpu" or (ranks > 1 and not on_gpus),
        mixed_precision="bf16" if precision == "bf16" else "no",
        log_with=trackers or None,
        project_dir=folder,
        kwargs_handlers=[
            # otherwise each process would keep 16-bit copies of all weights, although it holds only a part
            AutocastKwargs(cache_enabled=False),
            # the other processes wait while the first writes; the launcher notices if a process has ended
            InitProcessGroupKwargs(timeout=timedelta(days=7)),
        ]
        if ranks > 1
        else None,
    )
    torch.set_num_threads(max(1, threads // ranks))  # accelerate sets its own number for processes that share a CPU
    # a table's provenance is written on a login node, so the job's own log says what computed
    gpu = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else "CPU"
    gpu = gpu if ranks == 1 else f"{ranks} x {gpu}"
    logging.getLogger("atu").info("%s on %s, %d threads, seed %d", gpu, platform.node(), threads, seed)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        own = {"wandb": {"name": run, "dir": str(folder)}}
        accelerator.init_trackers(tracking["project"], init_kwargs=own)
    return accelerator


def code_version(root: Path) -> str | None:
    """The commit of a checkout, with "-dirty" if files differ from it, or the commit of an unpacked archive.

    Args:
        root: the checkout itself. A repository around it is ignored, since its commit would say nothing about it.

    Returns:
        The commit; None if it is unknown: no git on this machine, or files that were copied without their history.
    """
    if (root / ".git").exists():
        with tempfile.NamedTemporaryFile("w", suffix=".gitconfig") as trusted:
            # trust another user's checkout, only to describe it; git reads this setting only from a user's own config
            trusted.write(f"[safe]\n\tdirectory = {root.resolve()}\n")
            trusted.flush()
            describe = ["git", "--no-optional-locks", "-C", str(root), "describe", "--always", "--dirty"]
            with suppress(OSError):
                done = subprocess.run(
                    describe, capture_output=True, text=True, env=os.environ | {"GIT_CONFIG_GLOBAL": trusted.name}
                )
                return done.stdout.strip() or None
        return None
    archived = root / ARCHIVED
    commit = archived.read_text(encoding="utf-8").strip() if archived.exists() else ""
    return commit if re.fullmatch("[0-9a-f]{40}", commit) else None


def provenance(**settings) -> dict:
    """Versions, commit, device, the given settings and their hash, which are recorded beside each result.

    ``deterministic`` says whether torch uses only deterministic operations; None if torch is not loaded. The commit is
    the one at the start of the run, which the launcher of jobs leaves in the environment (:data:`COMMIT`).
    """
    gpu = deterministic = None
    if "torch" in sys.modules:
        import torch

        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        deterministic = torch.are_deterministic_algorithms_enabled()
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "git_commit": os.environ.get(COMMIT) or None,
        "gpu": gpu,
        "deterministic": deterministic,
        "cpu_count": os.cpu_count(),
        "settings": settings,
        "settings_sha256": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
    }
