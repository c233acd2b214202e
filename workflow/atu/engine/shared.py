"""An engine that divides its rows among several processes: each runs its part, and all of them get all results.

Each process has a copy of the model. All processes make every call, with the same arguments, and get the same results,
so callers need not know of each other.
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
    """The rows of each process, with about equally many tokens; rows of a group stay together to share their prefix.

    Args:
        lengths: tokens in each row.
        groups: the group of each row; None: all are one group.
    """
    names = list(groups or [""] * len(lengths))
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    order = sorted(range(len(lengths)), key=lambda i: places[names[i]])
    found: list[list[int]] = [[] for _ in range(count)]
    total = sum(lengths)
    for i, end in zip(order, accumulate(lengths[i] for i in order), strict=True):
        middle = end - lengths[i] / 2
        found[min(count - 1, int(middle * count / total)) if total else 0].append(i)
    return found


Run = Callable[[list[int], list[str] | None], list[T]]  # takes rows and their groups


@dataclass(frozen=True)
class SharedEngine(Engine):
    """An :class:`Engine` that shares its rows with the other processes; in a single process, a plain engine."""

    def share(self, run: Run, ids: Sequence[Sequence[int]], groups: Sequence[str] | None) -> list:
        """The results of ``run`` for all rows, in order; each process runs its part, and all must call this.

        Args:
            ids: token ids of each row.
        """
        own = parts([len(row) for row in ids], groups, ranks())[dist.get_rank()]
        chosen = [groups[i] for i in own] if groups else None
        handed: list[Any] = [None] * ranks()
        dist.all_gather_object(handed, list(zip(own, run(own, chosen) if own else [], strict=True)))
        found = {i: result for of_process in handed for i, result in of_process}
        return [found[i] for i in range(len(ids))]

    def generate(
        self, prompts: list[str], *, sampling: Sampling | None = None, groups: Sequence[str] | None = None, **how: Any
    ) -> list[str]:
        """As :meth:`Engine.generate`.

        Raises:
            ValueError: if several processes are to sample, since draws depend on a prompt's index among all prompts.
        """
        whole = super().generate
        if ranks() == 1:
            return whole(prompts, sampling=sampling, groups=groups, **how)
        if sampling is not None:
            raise ValueError("texts that are drawn are not shared among processes: write them in one")

        def run(rows: list[int], chosen: list[str] | None) -> list[str]:
            return whole([prompts[i] for i in rows], groups=chosen, **how)

        return self.share(run, self.encode(prompts), groups)

    def score_tokens(
        self, ids: list[list[int]], first: list[int], *, groups: Sequence[str] | None = None, **how: Any
    ) -> list[TokenScores]:
        """As :meth:`Engine.score_tokens`."""
        whole = super().score_tokens
        if ranks() == 1:
            return whole(ids, first, groups=groups, **how)

        def run(rows: list[int], chosen: list[str] | None) -> list[TokenScores]:
            return whole([ids[i] for i in rows], [first[i] for i in rows], groups=chosen, **how)

        return self.share(run, ids, groups)

    def weigh_next(
        self, prompts: list[str], candidates: list[str], *, groups: Sequence[str] | None = None, **how: Any
    ) -> list[Tensor]:
        """As :meth:`Engine.weigh_next`."""
        whole = super().weigh_next
        if ranks() == 1:
            return whole(prompts, candidates, groups=groups, **how)

        def run(rows: list[int], chosen: list[str] | None) -> list[Tensor]:
            return whole([prompts[i] for i in rows], candidates, groups=chosen, **how)

        return self.share(run, self.encode(prompts), groups)
