"""Which GPUs of a machine a job takes, where no scheduler deals them out: jobs side by side take different ones."""

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
WAIT = 1.0  # seconds between two looks at cards that are all taken
HELD = ExitStack()  # the locks of this process; they end with it, however it ends
log_of_job = logging.getLogger("atu")


def listed(text: str) -> dict[str, str]:
    """The cards in what :data:`QUERY` prints, and their models; none where one is cut into instances (MIG), which it
    does not name."""
    rows = [[field.strip() for field in line.split(",")] for line in text.splitlines() if line.strip()]
    return {} if any(mode == "Enabled" for _, mode, _ in rows) else {uuid: model for uuid, _, model in rows}


def installed() -> dict[str, str]:
    """The cards of this machine and their models; nothing where nobody can say."""
    with suppress(OSError):  # there is no such program
        done = subprocess.run(QUERY, capture_output=True, text=True)
        return listed(done.stdout) if done.returncode == 0 else {}
    return {}


def visible() -> list[str]:
    """What torch would see, by what ``CUDA_VISIBLE_DEVICES`` takes; nothing where nobody can say."""
    if (named := os.environ.get(VISIBLE)) is None:
        return list(installed())
    return [name.strip() for name in named.split(",") if name.strip()]


def by_name(cards: list[str]) -> list[str]:
    """Numbers of cards as their names: a run that was given numbers holds the same locks as one that was not.

    CUDA counts the fastest card first, unless it is told to count as nvidia-smi does; of equal ones that is the same.
    Where cards are different, numbers stay as they are.
    """
    if not all(map(str.isdecimal, cards)):
        return cards
    known = installed()
    alike = len({*known.values()}) == 1 or os.environ.get(ORDER) == "PCI_BUS_ID"
    if not alike or any(int(card) >= len(known) for card in cards):
        return cards
    return [list(known)[int(card)] for card in cards]


def free(cards: list[str], count: int, folder: Path, stack: ExitStack) -> list[str]:
    """The first ``count`` cards that no job of this user holds, which ``stack`` holds from then on; else none."""
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
    """Hold ``count`` GPUs until this process and those that it forks have ended, and let torch see these alone.

    It waits while other jobs hold too many. Nothing is done where there are no more GPUs than that: one is shared, and
    a scheduler shows a job its own. Called before anything asks for CUDA, which looks once.
    """
    cards = visible()
    if len(cards) <= count:
        return
    cards = by_name(cards)  # only here: it asks the driver, and most jobs see no more than they take
    folder = Path(tempfile.gettempdir(), f"atu-gpus-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    waits = False
    while not (found := free(cards, count, folder, HELD)):
        if not waits:
            log_of_job.info("other jobs hold the %d GPUs of this machine: waiting for %d", len(cards), count)
            waits = True
        time.sleep(WAIT)
    os.environ[VISIBLE] = ",".join(found)
