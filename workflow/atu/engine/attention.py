"""The engines' attention: rows that begin alike share the keys and values of their common prefix.

A few-shot prompt is a long header and a short question. The header's keys and values are stored once for all rows that
begin with it, and its part of the attention is one matrix product for all of them; a row owns only the tokens after it.
The prefixes are in a context variable, because not every model class passes keywords on to its attention.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "shared_prefixes"


class GrowingLayer(DynamicLayer):
    """Keys and values of one layer, with spare room, so that appending a token does not copy all others."""

    room = 64  # tokens
    stored: list[Tensor]

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        used = self.get_seq_length()
        total = used + key_states.shape[-2]
        if not used or total > self.stored[0].shape[-2]:
            stored = [
                states.new_empty(*states.shape[:-2], total + self.room, states.shape[-1])
                for states in (key_states, value_states)
            ]
            if used and self.keys is not None and self.values is not None:
                for new, old in zip(stored, (self.keys, self.values), strict=True):
                    new[..., :used, :] = old
            self.stored, self.is_initialized = stored, True
        for place, states in zip(self.stored, (key_states, value_states), strict=True):
            place[..., used:total, :] = states
        self.keys, self.values = [place[..., :total, :] for place in self.stored]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        self.stored = [place[indices] for place in self.stored]
        total = self.get_seq_length()
        self.keys, self.values = [place[..., :total, :] for place in self.stored]


def new_cache() -> Cache:
    """An empty cache of growing layers; each stores all tokens, since the mask decides what a layer may see."""
    return Cache(layer_class_to_replicate=GrowingLayer)


class Prefixes:
    """Common prefixes of the rows of a batch, and which row continues which prefix.

    Attributes:
        keys, values: for each layer, [prefixes, key heads, longest prefix, head size].
        lengths: tokens in each prefix, [prefixes].
        group: the prefix of each row, [rows].
        slot: the row's place among the rows of the same prefix, [rows].
        positions: positions of the current queries, counted from the start of the prefix, [rows, queries].
    """

    positions: Tensor

    def __init__(self, caches: list[Cache], group: Tensor):
        """
        Args:
            caches: one for each prefix, with one row; an empty cache for rows without a prefix.
        """
        lengths = [cache.get_seq_length() for cache in caches]
        longest = max(zip(lengths, caches, strict=True), key=lambda pair: pair[0])[1]
        self.lengths = torch.tensor(lengths, device=group.device)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        for number, layer in enumerate(longest.layers):
            for name, stack in (("keys", self.keys), ("values", self.values)):
                padded = getattr(layer, name).new_zeros(len(caches), *getattr(layer, name).shape[1:])
                for row, cache, length in zip(padded, caches, lengths, strict=True):
                    if length:
                        row[:, :length] = getattr(cache.layers[number], name)[0]
                stack.append(padded)
        self.place(group)

    def place(self, group: Tensor) -> None:
        """Set which prefix each row continues."""
        self.group = group
        members = F.one_hot(group, len(self.lengths))
        self.slot = (members.cumsum(0) - 1).gather(1, group[:, None])[:, 0]
        self.slots = int(members.sum(0).max())

    def select(self, rows: Tensor) -> None:
        """Keep only these rows; unused prefixes are dropped once they are at least half of all."""
        group = self.group[rows]
        used, renamed = group.unique(return_inverse=True)
        if 2 * len(used) <= len(self.lengths):
            self.lengths, group = self.lengths[used], renamed
            self.keys, self.values = ([part[used] for part in parts] for parts in (self.keys, self.values))
        self.place(group)

    def by_prefix(self, rows: Tensor) -> Tensor:
        """Rearrange [rows, ...] into [prefixes, slots, ...], zero where a prefix has fewer rows."""
        grouped = rows.new_zeros(len(self.lengths), self.slots, *rows.shape[1:])
        grouped[self.group, self.slot] = rows
        return grouped

    def seen(self, window: int | None) -> Tensor:
        """Mask of the prefix tokens that each query may see, [rows, queries, longest prefix].

        Args:
            window: only tokens less than this far back are seen (None: all).
        """
        places = torch.arange(self.keys[0].shape[2], device=self.group.device)
        seen = places < self.lengths[self.group][:, None, None]
        if window is not None:
            seen = seen & (self.positions[..., None] - places < window)
        return seen.expand(*self.positions.shape, -1)


CONTINUED: ContextVar[Prefixes | None] = ContextVar("continued", default=None)  # prefixes of the rows being run


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """Softmax attention over a shared prefix (:data:`CONTINUED`) and a row's own tokens.

    Args:
        query: [rows, heads, queries, head size].
        key: keys of the row's own tokens, [rows, key heads, own, head size].
        value: values of the row's own tokens, shaped like the keys; some models use another head size for them.
        attention_mask: True where a query may see an own token, [rows, 1, queries, own].

    Returns:
        [rows, queries, heads, head size of the values], and None in place of weights.

    Raises:
        NotImplementedError: if the attention has learned sinks, or a windowed layer does not pass on its window.
    """
    if kwargs.get("s_aux") is not None:
        raise NotImplementedError(f"{type(module).__name__} has learned attention sinks, which the engines lack")
    if sliding_window is None and windowed(module):
        raise NotImplementedError(f"{type(module).__name__} does not hand its window on to its attention")
    prefixes = CONTINUED.get()
    rows, heads, queries, size = query.shape
    own, value_size = key.shape[2], value.shape[3]
    if sliding_window is not None and own > sliding_window:  # own tokens stand side by side in the cache
        last = torch.arange(own - queries, own, device=key.device)
        attention_mask = attention_mask & (last[:, None] - torch.arange(own, device=key.device) < sliding_window)
    if queries > 1 and softcap is None:  # the weights of many queries need too much memory: use the fused kernel
        if prefixes is None:
            return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling)
        return attend_by_prefix(module, query, key, value, attention_mask, scaling, sliding_window, prefixes), None

    key_heads = key.shape[1]
    scaling = size**-0.5 if scaling is None else scaling
    # heads that share keys are queries of the same product
    grouped = (query * scaling).reshape(rows, key_heads, -1, size)
    parts = [(grouped @ key.transpose(2, 3)).view(rows, heads, queries, own)]
    masks = [attention_mask.expand(rows, 1, queries, own)]
    if prefixes is not None:
        keys = prefixes.keys[layer_of(module)]
        asked = prefixes.by_prefix(grouped).transpose(1, 2).reshape(len(keys), key_heads, -1, size)
        scores = (asked @ keys.transpose(2, 3)).view(len(keys), key_heads, prefixes.slots, -1, keys.shape[2])
        scores = scores.transpose(1, 2)[prefixes.group, prefixes.slot]
        parts.append(scores.reshape(rows, heads, queries, -1))
        masks.append(prefixes.seen(sliding_window)[:, None])
    scores = torch.cat(parts, -1)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~torch.cat(masks, -1), torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    out = (weights[..., :own].reshape(rows, key_heads, -1, own) @ value).view(rows, heads, queries, value_size)
    if prefixes is not None:
        values = prefixes.values[layer_of(module)]
        shares = weights[..., own:].reshape(rows, key_heads, -1, values.shape[2])
        shares = prefixes.by_prefix(shares).transpose(1, 2).reshape(len(values), key_heads, -1, values.shape[2])
        found = (shares @ values).view(len(values), key_heads, prefixes.slots, -1, value_size)
        out = out + found.transpose(1, 2)[prefixes.group, prefixes.slot].reshape(rows, heads, queries, value_size)
    return out.transpose(1, 2).contiguous(), None


def attend_by_prefix(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None,
    sliding_window: int | None,
    prefixes: Prefixes,
) -> Tensor:
    """The output of :func:`attend`, computed prefix by prefix: only one prefix at a time is copied to its rows."""
    rows, heads, queries, _ = query.shape
    own_mask, prefix_mask = attention_mask.expand(rows, 1, queries, -1), prefixes.seen(sliding_window)[:, None]
    out = query.new_empty(rows, queries, heads, value.shape[3])
    for number, length in enumerate(prefixes.lengths.tolist()):
        of = (prefixes.group == number).nonzero()[:, 0]
        keys, values = (
            torch.cat([kept[number, :, :length].expand(len(of), -1, -1, -1), own[of]], dim=2)
            for kept, own in (
                (prefixes.keys[layer_of(module)], key),
                (prefixes.values[layer_of(module)], value),
            )
        )
        mask = torch.cat([prefix_mask[of, ..., :length], own_mask[of]], dim=-1)
        out[of] = sdpa_attention_forward(module, query[of], keys, values, mask, scaling=scaling)[0]
    return out


def windowed(module: torch.nn.Module) -> bool:
    """Whether the config says that this layer sees only a window of past tokens."""
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    return kinds is not None and kinds[layer_of(module)] == "sliding_attention"


def layer_of(module: torch.nn.Module) -> int:
    """Which layer of the decoder an attention module belongs to."""
    return cast(int, module.layer_idx)  # torch types every attribute of a module as a tensor or a module


AttentionInterface.register(NAME, attend)


@contextmanager
def shared_prefixes(llm: PreTrainedModel) -> Iterator[None]:
    """Inside the block, the model's layers use :func:`attend`."""
    before = llm.config._attn_implementation
    llm.set_attn_implementation(NAME)
    try:
        yield
    finally:
        llm.set_attn_implementation(before)


def run(
    llm: PreTrainedModel, input_ids: Tensor, mask: Tensor, cache: Cache | None = None, prefixes: Prefixes | None = None
) -> Tensor:
    """Hidden states [rows, length, hidden] of tokens after a shared prefix; call it inside :func:`shared_prefixes`.

    Args:
        input_ids: [rows, length].
        mask: 1 where a token is real, [rows, own]; tokens in the cache come first, and padding is on the left.
        cache: keys and values of earlier own tokens; new ones are appended.
    """
    own, length = mask.shape[1], input_ids.shape[1]
    places = torch.arange(own, device=mask.device)
    seen = mask[:, None, None].bool() & (places <= places[own - length :, None])
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, own - length :]
    if prefixes is not None:
        positions = positions + prefixes.lengths[prefixes.group][:, None]
        prefixes.positions = positions
    before = CONTINUED.set(prefixes)
    try:
        return llm.get_decoder()(
            input_ids=input_ids,
            attention_mask=seen,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
    finally:
        CONTINUED.reset(before)
