"""An engine whose rows several processes share: each runs its part on a copy of the model, and all get all results.

Whoever asks need not know: every call is one of all processes, with the same arguments and the same results.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

from atu.engine.engine import Engine
from atu.engine.likelihood import TokenScores
from atu.engine.sampling import Sampling
from atu.engine.sharded import ranks

T = TypeVar("T")


def parts(lengths: Sequence[int], groups: Sequence[str] | None, count: int) -> list[list[int]]:
    """Which rows each process takes: about as many tokens each, rows of a group beside each other, since they share a
    prefix.

    Args:
        lengths: tokens of each row.
        groups: of each row; None: all are of one.
    """
    names = list(groups or [""] * len(lengths))
    order = sorted(range(len(lengths)), key=lambda i: names.index(names[i]))
    found: list[list[int]] = [[] for _ in range(count)]
    total = sum(lengths)
    for i, end in zip(order, accumulate(lengths[i] for i in order), strict=True):
        middle = end - lengths[i] / 2
        found[min(count - 1, int(middle * count / total)) if total else 0].append(i)
    return found


def shared(run: Callable[[list[int]], list[T]], lengths: Sequence[int], groups: Sequence[str] | None) -> list[T]:
    """What ``run`` gives for all rows, in their order, each process having run its part; a call of all of them."""
    if ranks() == 1:
        return run(list(range(len(lengths))))
    own = parts(lengths, groups, ranks())[dist.get_rank()]
    handed: list[Any] = [None] * ranks()
    dist.all_gather_object(handed, list(zip(own, run(own) if own else [], strict=True)))
    found = {i: result for of_process in handed for i, result in of_process}
    return [found[i] for i in range(len(lengths))]


@dataclass(frozen=True)
class SharedEngine(Engine):
    """An :class:`Engine` in each of the processes that ask one model; in a single process just that."""

    def lengths(self, texts: list[str]) -> list[int]:
        return [len(row) for row in self.encode(texts)]

    def generate(
        self,
        prompts: list[str],
        *,
        sampling: Sampling | None = None,
        groups: Sequence[str] | None = None,
        **how: Any,
    ) -> list[str]:
        """As :meth:`Engine.generate`.

        Raises:
            ValueError: for sampling on several processes: tokens are drawn by the place of a prompt among all.
        """
        if sampling is not None and ranks() > 1:
            raise ValueError("texts that are drawn are not shared among processes: write them in one")

        def run(rows: list[int]) -> list[str]:
            chosen = [groups[i] for i in rows] if groups else None
            return Engine.generate(self, [prompts[i] for i in rows], sampling=sampling, groups=chosen, **how)

        return shared(run, self.lengths(prompts), groups)

    def score_tokens(
        self, ids: list[list[int]], first: list[int], *, groups: Sequence[str] | None = None, title: str = "likelihood"
    ) -> list[TokenScores]:
        """As :meth:`Engine.score_tokens`."""

        def run(rows: list[int]) -> list[TokenScores]:
            own = [ids[i] for i in rows], [first[i] for i in rows]
            return Engine.score_tokens(self, *own, groups=[groups[i] for i in rows] if groups else None, title=title)

        return shared(run, [len(row) for row in ids], groups)

    def weigh_next(
        self,
        prompts: list[str],
        candidates: list[str],
        *,
        groups: Sequence[str] | None = None,
        title: str = "choices",
    ) -> list[Tensor]:
        """As :meth:`Engine.weigh_next`."""

        def run(rows: list[int]) -> list[Tensor]:
            chosen = [groups[i] for i in rows] if groups else None
            return Engine.weigh_next(self, [prompts[i] for i in rows], candidates, groups=chosen, title=title)

        return shared(run, self.lengths(prompts), groups)
