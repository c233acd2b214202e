"""Weights in bf16 while they train, their float32 values beside them: half the memory, and the same numbers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from atu.engine.sharded import gather, is_sharded

if TYPE_CHECKING:  # slow to import
    from transformers import PreTrainedModel

log_of_job = logging.getLogger("atu")
TELLING = 0.1  # share of the weights, beside the embedding, that stay float32: norms and biases are far less
VALUES = "float32_values"  # attribute of a bf16 weight: its values before rounding


def keep_in_half(llm: "PreTrainedModel") -> None:
    """Keep the linear maps of a float32 model in bf16, their float32 values beside them.

    Embeddings and norms stay float32, so that autocast computes what it would with float32 weights, bit by bit.
    Called before the model goes to its device: the float32 values stay where they are.
    """
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear maps

    embedding = llm.get_input_embeddings().weight
    for module in llm.modules():
        if not isinstance(module, nn.Linear | Conv1D) or module.weight is embedding:
            continue
        if module.weight.dtype == torch.float32:  # else another map has the same weight: its values are kept already
            set_values(module.weight, module.weight.data)
            module.weight.data = module.weight.data.bfloat16()
    # of a model of experts most weights, which are one tensor of all maps of a layer
    others = [weight for weight in llm.parameters() if weight.dtype == torch.float32 and weight is not embedding]
    share = sum(weight.numel() for weight in others) / sum(weight.numel() for weight in llm.parameters())
    if share > TELLING:
        log_of_job.warning(
            "%.0f%% of the weights of %s lie in no linear map of their own and stay float32: more memory is needed "
            "than is planned",
            100 * share,
            type(llm).__name__,
        )


def values_of(weight: Tensor) -> Tensor:
    """The float32 values of a weight; its own where it keeps no others."""
    return getattr(weight, VALUES, weight).detach().float()


def set_values(weight: Tensor, values: Tensor | None) -> None:
    """Keep float32 values beside a bf16 weight; None if it has no others than its own."""
    if values is not None:
        setattr(weight, VALUES, values)
    elif hasattr(weight, VALUES):
        delattr(weight, VALUES)


@contextmanager
def exact_weights(llm: nn.Module) -> Iterator[None]:
    """Inside the block bf16 weights that keep float32 values have these in their place, where they lie."""
    halved = {weight: weight.data for weight in llm.parameters() if hasattr(weight, VALUES)}
    for weight in halved:
        weight.data = getattr(weight, VALUES)
    try:
        yield
    finally:
        for weight, half in halved.items():
            weight.data = half


def exact_state(llm: "PreTrainedModel") -> dict[str, Tensor] | None:
    """All weights as float32, by name, on the host; None where they are float32 already."""
    if all(weight.dtype == torch.float32 for weight in llm.parameters()):
        return None
    known: dict[int, Tensor] = {}  # a weight that has two names is kept once
    return {
        name: known.setdefault(id(weight), values_of(weight).cpu() if weight.is_floating_point() else weight)
        for name, weight in llm.state_dict(keep_vars=True).items()
    }


def restore(llm: nn.Module) -> None:
    """Put the float32 values of all weights back, on the host: what :func:`keep_in_half` did is undone, if it was.

    Shards are put together on the first process's host; what the others then have has no values.
    """
    if is_sharded(llm):
        gather(llm)
    if all(weight.dtype == torch.float32 for weight in llm.parameters()):
        return
    llm.to("cpu")
    for weight in llm.parameters():
        weight.data = values_of(weight).cpu()
        set_values(weight, None)
