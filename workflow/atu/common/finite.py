"""Numbers that are not finite: a model of NaNs forgets perfectly, so none is trained on, kept or read."""

from collections.abc import Iterable

import torch
from torch import Tensor

from atu.common.errors import ExplainedError


class NotFiniteError(ExplainedError, ValueError):
    """A file holds numbers that are not finite."""


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite. Cost: one sum, at the speed of memory.

    A sum with a NaN or an infinity in it is not finite; one that overflows is looked at value by value.
    """
    if not tensor.is_floating_point():
        return True
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def check_finite(tensors: Iterable[tuple[str, Tensor]], source: object) -> None:
    """Refuse what was read from ``source`` if it holds values that are not finite.

    Args:
        tensors: with their names.

    Raises:
        NotFiniteError: naming the source and the first such tensor.
    """
    for name, tensor in tensors:
        if not is_finite(tensor):
            raise NotFiniteError(
                f"{source}: {name} holds values that are not finite: delete it to have it made again, and if it comes "
                "out the same, lower the learning rate that made it"
            )
