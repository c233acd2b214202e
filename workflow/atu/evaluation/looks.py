"""Measurements from a few passes through a model, from which settings for it are suggested."""

import itertools
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from atu.engine.batching import pad
from atu.engine.models import decoder_layers, hidden_states, layers_up_to
from atu.evaluation.texts import kl_divergence

if TYPE_CHECKING:  # slow to import
    from transformers import PreTrainedConfig, PreTrainedModel


def cache_bytes(config: "PreTrainedConfig") -> float:
    """Bytes of one token's keys and values in 16 bits, in all layers that keep a cache of keys and values."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    recurrent = (getattr(config, "layer_types", None) or []).count("linear_attention")
    return 4.0 * (config.num_hidden_layers - recurrent) * heads * size


@torch.no_grad()
def first_token_ratio(llm: "PreTrainedModel", rows: list[list[int]], layer: int) -> float:
    """The median norm of a text's first hidden state, divided by that of its other hidden states.

    Args:
        rows: token ids of texts.
        layer: the layer whose output is read, 1 for the first.
    """
    ids, mask = (part.to(llm.device) for part in pad([torch.tensor(row) for row in rows]))
    with layers_up_to(llm, layer) as decoder:
        norms = hidden_states(decoder, ids, mask).float().norm(dim=-1)
    others = norms[:, 1:][mask[:, 1:].bool()]
    return float(norms[:, 0].median() / others.median())


def moved_by_a_step(llm: "PreTrainedModel", rows: list[list[int]], rates: list[float]) -> list[float]:
    """How far one step of Adam on some texts moves predictions for another: KL in nats per token, at each rate.

    Adam's first step moves each weight by the rate, against the sign of its gradient. This changes the model's weights.

    Args:
        rows: token ids of at least two texts; the step is on all but the last.
        rates: learning rates, ascending.
    """
    weights = [weight for weight in llm.parameters() if weight.is_floating_point()]
    for weight in weights:
        weight.requires_grad_(True)
    ids, mask = (part.to(llm.device) for part in pad([torch.tensor(row) for row in rows[:-1]]))
    llm(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100), use_cache=False).loss.backward()
    told = torch.tensor([rows[-1]], device=llm.device)
    with torch.no_grad():

        def predicted() -> Tensor:
            return llm(input_ids=told, use_cache=False).logits[0].float()

        expected, found = predicted(), []
        for before, rate in itertools.pairwise([0.0, *rates]):
            for weight in weights:
                if weight.grad is not None:
                    weight.sub_(weight.grad.sign(), alpha=rate - before)
            found.append(float(kl_divergence(expected, predicted()).mean()))
    llm.zero_grad()
    return found


def rate_at(rates: list[float], moved: list[float], wanted: float) -> float:
    """The rate at which a step moves predictions by ``wanted``, interpolated between the logarithms.

    Outside the measured range it is the nearest of ``rates``.

    Args:
        moved: from :func:`moved_by_a_step`.
    """
    points = [(math.log(rate), math.log(max(by, 1e-12))) for rate, by in zip(rates, moved, strict=True)]
    for (low, least), (high, most) in itertools.pairwise(points):
        if least <= math.log(wanted) <= most:
            share = (math.log(wanted) - least) / (most - least) if most > least else 0.0
            return math.exp(low + share * (high - low))
    return rates[0] if moved[0] > wanted else rates[-1]


def hook_layers(llm: "PreTrainedModel") -> tuple[int, int]:
    """The hook layers to try, counted from 1: the middle one, and one as deep as the paper's, 29 of 32."""
    count = len(decoder_layers(llm))
    return max(1, round(count / 2)), max(1, round(count * 29 / 32))
