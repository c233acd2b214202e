"""The plain path, for models whose rows cannot share states: transformers' own cache and attention, and no padding.

A layer that carries a state from token to token keeps only the state after the last token, and padding on the left
would change it. So rows are run whole, in batches of equal length.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from atu.engine.batching import equal_batches

ATTENTION = {"full_attention", "sliding_attention", "attention"}  # the kinds of layers whose prefixes can be shared
# Classes that predict something else with the engines' attention, as the comparison has found.
OWN = ("DiffLlamaForCausalLM", "DogeForCausalLM", "JetMoeForCausalLM", "PhimoeForCausalLM")


def why_plain(llm: PreTrainedModel) -> str | None:
    """Why the rows of a model cannot share prefixes, judged by its config and modules; None if they can.

    Only this decides which path a model takes. :func:`atu.engine.agreement.check_engine` checks that its numbers are
    right on that path.
    """
    config = llm.config
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or []
    if others := sorted(set(kinds) - ATTENTION):
        return f"it has layers of {', '.join(others)}"
    if llm._is_stateful:
        return "it has recurrent layers"
    if any(key.endswith("sinks") for key, _ in llm.named_parameters()):
        return "it has learned attention sinks"
    if getattr(config, "kv_lora_rank", None):
        return "it keeps compressed keys and values"
    if getattr(config, "num_kv_shared_layers", None):
        return "some of its layers use the keys and values of others"
    if type(llm).__name__ in OWN or not type(llm)._can_set_attn_implementation():
        return "it has an attention of its own"
    return None


def takes(llm: PreTrainedModel, name: str) -> bool:
    """Whether the decoder takes an argument with this name."""
    return name in inspect.signature(llm.get_decoder().forward).parameters


@dataclass
class PlainRows:
    """Rows of equal length.

    Attributes:
        going_on: whether tokens will follow, so that a cache is kept.
        states: hidden states of the last pass, [rows, length, hidden].
        cache: transformers' own cache of all tokens so far.
        length: the number of tokens so far.
    """

    llm: PreTrainedModel
    going_on: bool
    states: Tensor = field(init=False)
    cache: Cache | None = field(init=False, default=None)
    length: int = field(init=False, default=0)

    def feed(self, tokens: Tensor) -> None:
        """Run the next tokens of each row, [rows, length], and set ``states`` to their states."""
        places = {}
        if takes(self.llm, "position_ids"):  # as generate does; otherwise some classes would count from 0 again
            positions = torch.arange(self.length, self.length + tokens.shape[1], device=tokens.device)
            places = {"position_ids": positions.expand(tokens.shape)}
        decoder = self.llm.get_decoder()
        output = decoder(input_ids=tokens, past_key_values=self.cache, use_cache=self.going_on, **places)
        self.states, self.length = output.last_hidden_state, self.length + tokens.shape[1]
        if self.going_on:
            self.cache = output.past_key_values

    def select(self, rows: Tensor) -> None:
        """Keep only these rows."""
        self.states = self.states[rows]
        if self.cache is not None:
            # layers with a recurrent state have no other method to choose rows
            self.cache.reorder_cache(cast(torch.LongTensor, rows))


def plain_batches(
    llm: PreTrainedModel, ids: list[list[int]], batch_tokens: int, new_tokens: int
) -> Iterator[tuple[list[int], PlainRows]]:
    """Yield what :func:`atu.engine.prefill.prefilled_batches` does, with each sequence run whole."""
    for batch in equal_batches([len(row) + new_tokens for row in ids], batch_tokens):
        rows = PlainRows(llm, going_on=new_tokens > 0)
        rows.feed(torch.tensor([ids[i] for i in batch], device=llm.device))
        yield batch, rows
