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
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    order = sorted(range(len(lengths)), key=lambda i: places[names[i]])
    found: list[list[int]] = [[] for _ in range(count)]
    total = sum(lengths)
    for i, end in zip(order, accumulate(lengths[i] for i in order), strict=True):
        middle = end - lengths[i] / 2
        found[min(count - 1, int(middle * count / total)) if total else 0].append(i)
    return found


Run = Callable[[list[int], list[str] | None], list[T]]  # some rows, and the groups of these


@dataclass(frozen=True)
class SharedEngine(Engine):
    """An :class:`Engine` in each of the processes that ask one model; in a single process just that."""

    def share(self, run: Run, ids: Sequence[Sequence[int]], groups: Sequence[str] | None) -> list:
        """What ``run`` gives for all rows, in their order, each process having run its part; a call of all of them.

        Args:
            ids: tokens of each row.
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
            ValueError: for sampling on several processes: tokens are drawn by the place of a prompt among all.
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
