"""What both engines share: token sequences through the decoder in batches, common prefixes run once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from atu.batching import budget_batches


def common_prefix(rows: list[list[int]]) -> int:
    """Number of leading tokens that all rows share."""
    first, last = min(rows), max(rows)
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


@dataclass
class Prefilled:
    """A batch behind its last given token. Rows are left-padded: all end in the last column.

    Attributes:
        states: hidden states of what lies behind the common prefixes, [batch, length, hidden].
        mask: 1 where a token is real, [batch, prefix + length].
        cache: keys and values of all columns; None if they were not asked for.
    """

    states: Tensor
    mask: Tensor
    cache: DynamicCache | None


def prefix_lengths(ids: list[list[int]], read: list[int], groups: Sequence[str]) -> list[int]:
    """For each sequence, how many of its first tokens all of its group share; what is read lies behind them."""
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    shared = {
        group: min(common_prefix([ids[i] for i in rows]), *(len(ids[i]) - read[i] for i in rows))
        for group, rows in members.items()
        if len(rows) > 1
    }
    return [shared.get(group, 0) for group in groups]


def stack(caches: list[DynamicCache], which: list[int]) -> DynamicCache:
    """A cache whose row i is ``caches[which[i]]`` (of one row each), left-padded to the longest."""
    width = max(cache.get_seq_length() for cache in caches)
    index = torch.tensor(which, device=caches[0].layers[0].keys.device)
    stacked = DynamicCache()
    for number in range(len(caches[0].layers)):
        parts = [(cache.layers[number].keys, cache.layers[number].values) for cache in caches]
        keys, values = (
            torch.cat([torch.nn.functional.pad(part, (0, 0, width - part.shape[2], 0)) for part in kind])[index]
            for kind in zip(*parts, strict=True)
        )
        stacked.update(keys, values, number)
    return stacked


def prefilled_batches(
    llm: PreTrainedModel,
    ids: list[list[int]],
    read: list[int],
    batch_tokens: int,
    groups: Sequence[str] | None = None,
    new_tokens: int = 0,
) -> Iterator[tuple[list[int], Prefilled]]:
    """Run all sequences through the decoder without its head, in batches of similar length.

    Sequences of one of ``groups`` (None: all are one) share the keys and values of their common
    prefix (a few-shot header, say), which is run once; rows of several groups may share a batch.

    Args:
        read: how many of the last positions of each sequence are read (at least 1).
        batch_tokens: the most tokens, padding and ``new_tokens`` included, of a batch.
        new_tokens: tokens that will be generated behind each sequence; 0 if the cache is not needed.

    Yields:
        Indices of a batch, and the batch.
    """
    decoder, device = llm.get_decoder(), llm.device
    groups = groups or [""] * len(ids)
    shared = prefix_lengths(ids, read, groups)
    prefixes: dict[tuple[int, ...], DynamicCache] = {}
    lengths = [len(row) + new_tokens for row in ids]
    for batch in budget_batches(lengths, batch_tokens, groups):
        wanted = {i: tuple(ids[i][: shared[i]]) for i in batch}
        distinct = sorted({prefix for prefix in wanted.values() if prefix})
        prefixes = {prefix: cache for prefix, cache in prefixes.items() if prefix in distinct}
        for prefix in distinct:
            if prefix not in prefixes:  # a cache without config: full keys and values, whatever the attention
                start = torch.tensor([prefix], device=device)
                prefixes[prefix] = decoder(input_ids=start, past_key_values=DynamicCache()).past_key_values
        width = max((len(prefix) for prefix in distinct), default=0)
        length = max(len(ids[i]) - shared[i] for i in batch)
        input_ids = torch.zeros(len(batch), length, dtype=torch.long)
        mask = torch.zeros(len(batch), width + length, dtype=torch.long)
        for row, i in enumerate(batch):
            behind = ids[i][shared[i] :]
            input_ids[row, length - len(behind) :] = torch.tensor(behind)
            mask[row, width - shared[i] : width] = 1
            mask[row, width + length - len(behind) :] = 1
        cache = None
        if distinct:
            caches = [prefixes[prefix] for prefix in distinct]
            if any(not prefix for prefix in wanted.values()):  # a row without a prefix: all padding
                caches.append(prefixes[distinct[0]])
                distinct = [*distinct, ()]
            cache = stack(caches, [distinct.index(wanted[i]) for i in batch])
        elif new_tokens:
            cache = DynamicCache()
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, width:]
        mask = mask.to(device)
        states = decoder(
            input_ids=input_ids.to(device),
            attention_mask=mask,
            position_ids=positions.to(device),
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        yield batch, Prefilled(states, mask, cache)
