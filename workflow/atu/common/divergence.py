"""Marks of runs whose training has diverged to numbers that are not finite."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atu.common.errors import DivergedError
from atu.common.files import write_json

DIVERGED = "diverged.json"  # the only file in the checkpoint of a stage that training did not reach


@contextmanager
def rate_of(setting: str) -> Iterator[None]:
    """Inside the block, something trains at the learning rate that ``setting`` names.

    Raises:
        DivergedError: the block's own error, with the name of the setting added.
    """
    try:
        yield
    except DivergedError as error:
        raise DivergedError(f"{error} ({setting})") from error


def mark_diverged(checkpoint: Path, error: DivergedError, stage: int) -> None:
    """Write the mark of diverged training in place of a model.

    Args:
        stage: the first stage, or epoch, that training did not reach.
    """
    checkpoint.mkdir(parents=True, exist_ok=True)
    write_json(checkpoint / DIVERGED, {"first_stage_not_reached": stage, "message": str(error)})


def divergence(checkpoint: Path) -> str | None:
    """The message about how a checkpoint's training diverged; None if it did not."""
    mark = checkpoint / DIVERGED
    return json.loads(mark.read_text(encoding="utf-8"))["message"] if mark.exists() else None
