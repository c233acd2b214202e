"""Checks for numbers that are not finite; a model of NaNs would seem to forget perfectly."""

from collections.abc import Iterable

import torch
from torch import Tensor

from atu.common.errors import ExplainedError


class NotFiniteError(ExplainedError, ValueError):
    """A file holds numbers that are not finite."""


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite. It costs one sum, at the speed of memory.

    A sum over a NaN or an infinity is not finite. Since a sum can also overflow, each value is then checked.
    """
    if not tensor.is_floating_point():
        return True
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def check_finite(tensors: Iterable[tuple[str, Tensor]], source: object) -> None:
    """Refuse tensors read from ``source`` if they have values that are not finite.

    Args:
        tensors: pairs of name and tensor.

    Raises:
        NotFiniteError: names the source and the first such tensor.
    """
    for name, tensor in tensors:
        if not is_finite(tensor):
            raise NotFiniteError(
                f"{source}: {name} holds values that are not finite: delete it to have it made again, and if it comes "
                "out the same, lower the learning rate that made it"
            )
