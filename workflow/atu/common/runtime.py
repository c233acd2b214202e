"""What every job needs: seeds, a device, a log that also reaches the terminal."""

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
STARTED: dict[str, int] = {}  # what start() was given, for the job's record
SEVERAL = "ATU_SEVERAL"  # the environment variable of processes that train one model together
UNREPEATABLE = "does not have a deterministic implementation"  # torch's words
COMMIT = "ATU_COMMIT"  # the environment variable that says which code runs
ARCHIVED = "workflow/commit.txt"  # which `git archive` fills in
PACKAGES = ("torch", "transformers", "sentence-transformers", "accelerate", "snakemake")


class MissingPackageError(ExplainedError, RuntimeError):
    """A package that a setting asks for is not installed."""


class UnrepeatableError(ExplainedError, RuntimeError):
    """An operation would give other numbers each time, and ``deterministic`` is on."""


# The same job would meet these again: wrong data and settings, a number that is not finite, a missing module. The rest
# (memory, disk, network, a GPU's own errors, signals) may pass.
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
    """Turn what torch says of an operation without a deterministic form into a line that names the mend.

    Raises:
        UnrepeatableError: in place of torch's RuntimeError; all other errors pass as they are.
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

    A job that succeeds leaves its provenance and times beside the log, as ``.json``: they are no output that
    Snakemake would miss. An :class:`ExplainedError` ends the job with its message alone. A fault that would come
    again leaves its message beside the log, as ``.fault``: whoever sees to retries need not try again.
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
    # The traceback goes to the file alone: Python prints it to the terminal itself.
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
    """Leave the mark of a fault that would come again beside a log."""
    if comes_again(error):
        with suppress(OSError):  # the fault itself is what has to be told
            path.with_suffix(".fault").write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8")


def progress(items: Iterable[T] | None, title: str, total: int | None = None) -> tqdm:
    """A progress line with an estimate of the time left; one line every 10 s where stderr is no terminal.

    Iterate over it, or with ``items`` None call its ``update``. Of several processes the first shows it.
    """
    interval = 0.5 if sys.stderr.isatty() else 10
    quiet = os.environ.get("RANK", "0") != "0"
    return tqdm(items, desc=title, total=total, mininterval=interval, leave=sys.stderr.isatty(), disable=quiet)


def stage_seed(seed: int, stage: int) -> int:
    """The seed of one stage of a run: another order of batches in every stage.

    NumPy takes seeds below 2**32, so those of the stages of large seeds (a date, say) are drawn from there.
    """
    number = 1000 * seed + stage
    return number if number < 2**32 else random.Random(number).getrandbits(32)


def repeat_numbers(deterministic: bool) -> None:
    """Have torch take operations alone that give the same numbers each time on the same machine, or whichever are
    fastest. Called before CUDA starts: cuBLAS reads its setting once.
    """
    import torch

    if deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # the streams of cuBLAS share no workspace
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False  # the fastest algorithm of a trial may be another one each time


def device_there(device: str) -> str:
    """Whether :func:`start` will run models on "cuda" or on "cpu"; a GPU of this machine is taken."""
    if device == "cpu":
        return "cpu"
    if not os.environ.get(SEVERAL):  # several processes share what was taken for all of them
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

    In one of several processes (:mod:`atu.training.several`) it joins the others: over GPUs, or over CPUs where there
    are none or ``device`` is "cpu".

    Args:
        seed: seeds ``random``, NumPy and torch; below 2**32.
        threads: CPU threads torch may use; part of what makes numbers repeat.
        device: "auto" (GPU if there is one), "cpu" or "cuda".
        precision: "fp32", or "bf16" for autocast on float32 weights.
        deterministic: whether operations that may give other numbers each time are refused (:func:`job_log` says
            how to mend that) and such a form is taken of the others.
        tracking: {trackers: names that accelerate knows, project, folder}; every step that the accelerator
            logs goes there, until its ``end_training``.
        run: what the trackers call it.

    Raises:
        RuntimeError: if ``device`` is "cuda" and there is none.
        MissingPackageError: for a tracker's.
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
    # gradients of a loss that has saturated (NPO's) are subnormal, and a CPU works on those ten times as long; before
    # torch has threads, which take this over
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
            # else each process would keep 16-bit copies of all weights, of which it holds a part
            AutocastKwargs(cache_enabled=False),
            # the others wait while the first writes; of one that has ended the launcher knows
            InitProcessGroupKwargs(timeout=timedelta(days=7)),
        ]
        if ranks > 1
        else None,
    )
    torch.set_num_threads(max(1, threads // ranks))  # accelerate has its own mind on processes that share a CPU
    # the table's provenance is written on a login node: what computed stands in the job's own log
    gpu = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else "CPU"
    gpu = gpu if ranks == 1 else f"{ranks} x {gpu}"
    logging.getLogger("atu").info("%s on %s, %d threads, seed %d", gpu, platform.node(), threads, seed)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        own = {"wandb": {"name": run, "dir": str(folder)}}
        accelerator.init_trackers(tracking["project"], init_kwargs=own)
    return accelerator


def code_version(root: Path) -> str | None:
    """The commit of a checkout, with "-dirty" where files differ from it; of an unpacked archive the archive's.

    Args:
        root: the checkout itself. A repository around it, whose commit would say nothing of it, is not looked at.

    Returns:
        None where neither is known: no git on this machine, or files that were copied without their history.
    """
    if (root / ".git").exists():
        with tempfile.NamedTemporaryFile("w", suffix=".gitconfig") as trusted:
            # another user's checkout is trusted to be described; git takes that from a user's own config alone
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
    """Versions, commit, device, the given settings and their hash: recorded beside each result.

    ``deterministic`` is whether torch takes deterministic operations alone, None where it is not loaded.
    The commit is that of the start: whoever starts jobs leaves it in the environment (:data:`COMMIT`).
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
