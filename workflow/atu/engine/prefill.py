"""Token sequences run through the decoder in batches, with common prefixes run once; generation and scoring use it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor
from transformers import Cache, PreTrainedConfig, PreTrainedModel

from atu.common.errors import ExplainedError
from atu.engine.attention import Prefixes, new_cache, run, shared_prefixes
from atu.engine.batching import budget_batches
from atu.engine.plain import plain_batches, why_plain


def context_length(config: PreTrainedConfig) -> int | None:
    """The most tokens that a model can read at once; None if its config does not say.

    A ``longrope`` model rotates positions differently once a text is longer than its original context. For such a model
    the result is the original context, since beyond it a row's numbers would depend on other rows in the batch.
    """
    longest = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        key = "original_max_position_embeddings"
        first = rope.get(key) or getattr(config, key, None)
        longest = min(filter(None, (longest, first)), default=None)
    return longest


def embeddings_of(llm: PreTrainedModel) -> int:
    """How many tokens the model has embeddings for."""
    return cast(int, llm.get_input_embeddings().num_embeddings)  # torch types attributes of modules as modules


def check_tokens(llm: PreTrainedModel, ids: list[list[int]], new_tokens: int) -> None:
    """Refuse sequences that the model cannot read.

    Raises:
        ExplainedError: if a sequence with its new tokens is longer than the model's context, or has a token that the
            model has no embedding for.
    """
    context, known = context_length(llm.config), embeddings_of(llm)
    longest = max(map(len, ids), default=0) + new_tokens
    if context is not None and longest > context:
        new = f" and {new_tokens} new ones" if new_tokens else ""
        raise ExplainedError(
            f"a text of {longest - new_tokens} tokens{new} is longer than the model's context of {context}; "
            "shorten it, ask for fewer new tokens, or choose a model with a longer context"
        )
    if (highest := max((token for row in ids for token in row), default=0)) >= known:
        raise ExplainedError(
            f"the tokenizer writes token {highest}, and the model has embeddings for {known} tokens alone: they do not "
            "belong together; fetch the model again, or another one"
        )


def common_prefix(rows: list[list[int]]) -> int:
    """The number of leading tokens that all rows share."""
    first, last = min(rows), max(rows)
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


class Prefilled(Protocol):
    """A batch whose given tokens have been run, on either path; all rows end in the last column.

    Attributes:
        states: hidden states of the last pass, [rows, length, hidden]; at first, those of the tokens after the common
            prefixes.
    """

    states: Tensor

    def feed(self, tokens: Tensor) -> None:
        """Run the next tokens of each row, [rows, length], and set ``states`` to their states."""

    def select(self, rows: Tensor) -> None:
        """Keep only these rows."""


@dataclass
class SharedRows:
    """Rows that continue common prefixes, padded on the left.

    Attributes:
        states: as in :class:`Prefilled`.
        mask: 1 where a token is real, [rows, own tokens].
        cache: keys and values of the tokens after the common prefixes; None if no tokens will follow.
        prefixes: the common prefixes; None if there are none.
    """

    llm: PreTrainedModel
    states: Tensor
    mask: Tensor
    cache: Cache | None
    prefixes: Prefixes | None

    def feed(self, tokens: Tensor) -> None:
        self.mask = torch.cat([self.mask, self.mask.new_ones(tokens.shape)], dim=1)
        self.states = run(self.llm, tokens, self.mask, self.cache, self.prefixes)

    def select(self, rows: Tensor) -> None:
        self.states, self.mask = self.states[rows], self.mask[rows]
        if self.cache is not None:
            self.cache.batch_select_indices(rows)
        if self.prefixes is not None:
            self.prefixes.select(rows)


def prefix_lengths(ids: list[list[int]], read: list[int], groups: Sequence[str]) -> list[int]:
    """For each sequence, how many first tokens its whole group shares, not counting positions that are read."""
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    shared = {
        group: min(common_prefix([ids[i] for i in rows]), *(len(ids[i]) - read[i] for i in rows))
        for group, rows in members.items()
        if len(rows) > 1
    }
    return [shared.get(group, 0) for group in groups]


def prefilled_batches(
    llm: PreTrainedModel,
    ids: list[list[int]],
    read: list[int],
    batch_tokens: int | None,
    groups: Sequence[str] | None = None,
    new_tokens: int = 0,
) -> Iterator[tuple[list[int], Prefilled]]:
    """Run all sequences through the decoder without its head, in batches of similar length.

    Sequences of the same group in ``groups`` (None: all are one group) share the keys and values of their common
    prefix, such as a few-shot header, which is run and stored once. Rows of several groups may share a batch. While the
    iterator is alive, the model uses :func:`atu.engine.attention.attend`. A model that cannot use it
    (:func:`atu.engine.plain.why_plain`) runs each sequence whole, with its own attention.

    Args:
        read: how many of the last positions of each sequence are read (at least 1).
        batch_tokens: the most tokens in a batch, including padding and ``new_tokens``. None runs every sequence whole
            and alone, so that its numbers depend only on itself, to the last bit.
        new_tokens: how many tokens will be generated after each sequence; 0 if no cache is needed.

    Yields:
        The indices of the sequences in a batch, and the batch.

    Raises:
        ExplainedError: if the model cannot read a sequence.
    """
    check_tokens(llm, ids, new_tokens)
    if batch_tokens is None:  # how much a row shares depends on its group, so each row gets its own
        batch_tokens, groups = 1, [str(i) for i in range(len(ids))]
    if why_plain(llm):
        yield from plain_batches(llm, ids, batch_tokens, new_tokens)
    else:
        yield from shared_batches(llm, ids, read, batch_tokens, groups or [""] * len(ids), new_tokens)


def shared_batches(
    llm: PreTrainedModel,
    ids: list[list[int]],
    read: list[int],
    batch_tokens: int,
    groups: Sequence[str],
    new_tokens: int,
) -> Iterator[tuple[list[int], SharedRows]]:
    """Yield what :func:`prefilled_batches` does, for sequences that share prefixes."""
    device = llm.device
    shared = prefix_lengths(ids, read, groups)
    lengths = [len(row) - start + new_tokens for row, start in zip(ids, shared, strict=True)]
    caches: dict[tuple[int, ...], Cache] = {}
    with shared_prefixes(llm):
        for batch in budget_batches(lengths, shared, batch_tokens, groups):
            wanted = [tuple(ids[i][: shared[i]]) for i in batch]
            distinct = list(dict.fromkeys(wanted))
            caches = {prefix: caches.get(prefix) or run_prefix(llm, prefix) for prefix in distinct}
            prefixes = None
            if any(distinct):
                group = torch.tensor([distinct.index(prefix) for prefix in wanted], device=device)
                prefixes = Prefixes([caches[prefix] for prefix in distinct], group)
            caches = {wanted[-1]: caches[wanted[-1]]}  # the next batch can reuse only the last group's prefix
            behind = [ids[i][shared[i] :] for i in batch]
            length = max(map(len, behind))
            input_ids = torch.tensor([[0] * (length - len(row)) + row for row in behind], device=device)
            mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in behind], device=device)
            cache = new_cache() if new_tokens else None
            yield batch, SharedRows(llm, run(llm, input_ids, mask, cache, prefixes), mask, cache, prefixes)


def run_prefix(llm: PreTrainedModel, prefix: tuple[int, ...]) -> Cache:
    """Keys and values of a prefix; an empty cache for an empty prefix."""
    cache = new_cache()
    if prefix:
        input_ids = torch.tensor([prefix], device=llm.device)
        run(llm, input_ids, torch.ones_like(input_ids), cache)
    return cache
