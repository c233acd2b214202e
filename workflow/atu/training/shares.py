"""A batch shared by several processes: the part of each process, and its weight in the loss of the whole batch.

A loss is a mean over tokens or over items. The parts are unequal, so each process multiplies its mean by the weight of
its part. The sum over processes is then the loss that a single process would compute, but for rounding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """The share of one of several processes.

    Attributes:
        rank: the number of the process, counted from 0.
        ranks: the number of processes.
    """

    rank: int = 0
    ranks: int = 1

    @classmethod
    def of(cls, accelerator: Accelerator) -> "Share":
        return cls(accelerator.process_index, accelerator.num_processes)

    def part(self, batch: Sequence[T]) -> list[T]:
        """The items of this process; the batch's first item if it has none, since every process must take part."""
        return list(batch[self.rank :: self.ranks] or batch[:1])

    def weight(self, counts: Sequence[float]) -> float:
        """The weight of this process's mean; 0 if the process has no items.

        Args:
            counts: for each item of the whole batch, how many elements the mean is over.
        """
        return sum(counts[self.rank :: self.ranks]) / sum(counts)

    def weighed(self, mean: Tensor, counts: Sequence[float] | None) -> Tensor:
        """The mean over this process's part, as a summand of the sum over processes.

        Args:
            counts: as in :meth:`weight`; None if each process computed the mean over the whole batch.
        """
        if self.ranks == 1:
            return mean
        return mean * (1 / self.ranks if counts is None else self.weight(counts))

    def sums(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """Each scalar summed over all processes; every process gets the same numbers."""
        if self.ranks == 1:
            return {name: value.item() for name, value in terms.items()}
        numbers = torch.stack([value.detach().float() for value in terms.values()])
        dist.all_reduce(numbers)
        return dict(zip(terms, numbers.tolist(), strict=True))

    def all(self, holds: bool, device: torch.device) -> bool:
        """Whether ``holds`` is true on all processes."""
        if self.ranks == 1:
            return holds
        failed = torch.tensor(float(not holds), device=device)
        dist.all_reduce(failed)
        return not failed.item()
