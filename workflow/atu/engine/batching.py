"""Batches of texts of similar length, to keep padding small."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor


def sorted_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices of all texts, longest first, ``batch_size`` at a time."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def budget_batches(
    lengths: Sequence[int], shared: Sequence[int], batch_tokens: int, groups: Sequence[str]
) -> list[list[int]]:
    """Indices of all texts in batches of at most ``batch_tokens`` tokens, padding included (or of one text).

    Groups stay together. Groups, and texts within them, go from long to short. No text is padded to more than twice its
    length.

    Args:
        lengths: tokens of each text, without its prefix.
        shared: tokens of each text's prefix, which a batch holds once for all texts of a group.
    """
    longest: dict[str, int] = {}
    for group, length in zip(groups, lengths, strict=True):
        longest[group] = max(longest.get(group, 0), length)
    batches: list[list[int]] = []
    width = prefix = 0
    held: set[str] = set()
    for i in sorted(range(len(lengths)), key=lambda i: (-longest[groups[i]], groups[i], -lengths[i], i)):
        width, prefix = max(width, lengths[i]), max(prefix, shared[i])
        held.add(groups[i])
        fits = batches and (len(batches[-1]) + 1) * width + len(held) * prefix <= batch_tokens
        if fits and 2 * lengths[i] >= width:
            batches[-1].append(i)
        else:
            batches.append([i])
            width, prefix, held = lengths[i], shared[i], {groups[i]}
    return batches


def equal_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices of all texts, longest first, in batches of texts of equal length.

    A batch has at most ``batch_tokens`` tokens, or a single text.
    """
    batches: list[list[int]] = []
    for length, alike in groupby(sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)), lengths.__getitem__):
        indices, size = list(alike), max(1, batch_tokens // max(1, length))
        batches += [indices[i : i + size] for i in range(0, len(indices), size)]
    return batches


def random_batches(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Yield ``steps`` batches of indices: random epochs, sorted by length within pools of 16 batches.

    An incomplete batch at the end of an epoch is left out of that epoch.
    """
    rng = np.random.default_rng(seed)
    batch_size = min(batch_size, len(lengths))
    batches: list[list[int]] = []
    for _ in range(steps):
        if not batches:
            epoch = rng.permutation(len(lengths))[: len(lengths) - len(lengths) % batch_size].tolist()
            for start in range(0, len(epoch), 16 * batch_size):
                pool = sorted(epoch[start : start + 16 * batch_size], key=lambda i: lengths[i])
                batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
            rng.shuffle(batches)
        yield batches.pop()


def pad(rows: Sequence[Tensor], value: float = 0) -> tuple[Tensor, Tensor]:
    """Right-pad rows [length_i, ...] to [batch, length, ...], and return them with their mask [batch, length]."""
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)
    lengths = torch.tensor([len(row) for row in rows])
    return padded, torch.arange(padded.shape[1])[None] < lengths[:, None]
