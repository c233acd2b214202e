"""A batch that several processes share: what each computes, and what it counts for in the loss of the whole batch.

A loss is a mean over tokens or over items. Means over unequal parts are no mean of the whole, so each process weighs
its own by what it counts: the sum over processes is the loss of one process, but for rounding.
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
        rank: of the process, counted from 0.
        ranks: how many there are.
    """

    rank: int = 0
    ranks: int = 1

    @classmethod
    def of(cls, accelerator: Accelerator) -> "Share":
        return cls(accelerator.process_index, accelerator.num_processes)

    def part(self, batch: Sequence[T]) -> list[T]:
        """The items of this process; the first where there is none for it: all take part in what they gather."""
        return list(batch[self.rank :: self.ranks] or batch[:1])

    def weight(self, counts: Sequence[float]) -> float:
        """What this process's mean counts for; 0 where there is no item for it.

        Args:
            counts: of each item of the whole batch, over how much the loss is a mean.
        """
        return sum(counts[self.rank :: self.ranks]) / sum(counts)

    def weighed(self, mean: Tensor, counts: Sequence[float] | None) -> Tensor:
        """A mean over this process's part, as a part of the sum over processes.

        Args:
            counts: as of :meth:`weight`; None of a mean that each process has computed over the whole batch.
        """
        if self.ranks == 1:
            return mean
        return mean * (1 / self.ranks if counts is None else self.weight(counts))

    def sums(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """Scalars, each summed over all processes: the same numbers on each of them."""
        if self.ranks == 1:
            return {name: value.item() for name, value in terms.items()}
        numbers = torch.stack([value.detach().float() for value in terms.values()])
        dist.all_reduce(numbers)
        return dict(zip(terms, numbers.tolist(), strict=True))

    def all(self, holds: bool, device: torch.device) -> bool:
        """Whether something holds on all processes."""
        if self.ranks == 1:
            return holds
        failed = torch.tensor(float(not holds), device=device)
        dist.all_reduce(failed)
        return not failed.item()
