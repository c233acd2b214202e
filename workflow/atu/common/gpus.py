"""The choice of a job's GPUs on a machine without a scheduler: jobs that run side by side take different GPUs."""

import fcntl
import logging
import os
import re
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
QUERY = ("nvidia-smi", "--query-gpu=uuid,mig.mode.current,name", "--format=csv,noheader")  # in the order of PCI
WAIT = 1.0  # seconds between two tries if all cards are taken
HELD = ExitStack()  # the locks of this process; they are released when it ends, however it ends
log_of_job = logging.getLogger("atu")


def listed(text: str) -> dict[str, str]:
    """The cards in the output of :data:`QUERY`, with their models.

    Empty if a card is cut into instances (MIG), which the output does not name.
    """
    rows = [[field.strip() for field in line.split(",")] for line in text.splitlines() if line.strip()]
    return {} if any(mode == "Enabled" for _, mode, _ in rows) else {uuid: model for uuid, _, model in rows}


def installed() -> dict[str, str]:
    """The cards of this machine and their models; empty if they cannot be determined."""
    with suppress(OSError):  # nvidia-smi may be missing
        done = subprocess.run(QUERY, capture_output=True, text=True)
        return listed(done.stdout) if done.returncode == 0 else {}
    return {}


def visible() -> list[str]:
    """The cards that torch would see, as values for ``CUDA_VISIBLE_DEVICES``; empty if they cannot be determined."""
    if (named := os.environ.get(VISIBLE)) is None:
        return list(installed())
    return [name.strip() for name in named.split(",") if name.strip()]


def by_name(cards: list[str]) -> list[str]:
    """Replace numbers of cards by their names, so that runs with and without given numbers use the same locks.

    CUDA counts the fastest card first unless it is told to count as nvidia-smi does; for equal cards, both orders are
    the same. If cards differ, numbers are left as they are.
    """
    if not all(map(str.isdecimal, cards)):
        return cards
    known = installed()
    alike = len({*known.values()}) == 1 or os.environ.get(ORDER) == "PCI_BUS_ID"
    if not alike or any(int(card) >= len(known) for card in cards):
        return cards
    return [list(known)[int(card)] for card in cards]


def free(cards: list[str], count: int, folder: Path, stack: ExitStack) -> list[str]:
    """The first ``count`` cards that no job of this user holds; empty if there are fewer. ``stack`` then locks them."""
    with ExitStack() as tried:
        found = []
        for card in cards:
            file = tried.enter_context(open(folder / re.sub(r"\W", "-", card), "w"))
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append(card)
            if len(found) == count:
                stack.push(tried.pop_all())
                return found
    return []


def take_gpus(count: int) -> None:
    """Hold ``count`` GPUs until this process and its forks have ended, and let torch see only these.

    It waits while other jobs hold too many. If there are no more GPUs than ``count``, it does nothing: a single GPU is
    shared, and a scheduler shows each job only its own. Call it before anything uses CUDA, which looks only once.
    """
    cards = visible()
    if len(cards) <= count:
        return
    cards = by_name(cards)  # only now, since it asks the driver and most jobs do not get here
    folder = Path(tempfile.gettempdir(), f"atu-gpus-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    waits = False
    while not (found := free(cards, count, folder, HELD)):
        if not waits:
            log_of_job.info("other jobs hold the %d GPUs of this machine: waiting for %d", len(cards), count)
            waits = True
        time.sleep(WAIT)
    os.environ[VISIBLE] = ",".join(found)
