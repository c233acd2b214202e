"""Weights that train in bf16, with their float32 values kept beside them: half the memory, and the same numbers."""

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
TELLING = 0.1  # warn if more than this share of weights, besides the embedding, stay float32; norms are far less
VALUES = "float32_values"  # attribute of a bf16 weight: its values before rounding


def keep_in_half(llm: "PreTrainedModel") -> None:
    """Convert the linear maps of a float32 model to bf16, and keep their float32 values beside them.

    Embeddings and norms stay float32, so autocast computes the same bits as with float32 weights. Call this before the
    model moves to its device; the float32 values stay where they are.
    """
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear maps

    embedding = llm.get_input_embeddings().weight
    for module in llm.modules():
        if not isinstance(module, nn.Linear | Conv1D) or module.weight is embedding:
            continue
        if module.weight.dtype == torch.float32:  # otherwise it is shared with a map that was converted before
            set_values(module.weight, module.weight.data)
            module.weight.data = module.weight.data.bfloat16()
    # in a mixture of experts these are most weights, since one tensor holds all maps of a layer
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
    """The float32 values of a weight: the kept ones, or else its own."""
    return getattr(weight, VALUES, weight).detach().float()


def set_values(weight: Tensor, values: Tensor | None) -> None:
    """Keep float32 values beside a bf16 weight; None removes them."""
    if values is not None:
        setattr(weight, VALUES, values)
    elif hasattr(weight, VALUES):
        delattr(weight, VALUES)


@contextmanager
def exact_weights(llm: nn.Module) -> Iterator[None]:
    """Inside the block, bf16 weights are replaced by their kept float32 values, on the device where these are."""
    halved = {weight: weight.data for weight in llm.parameters() if hasattr(weight, VALUES)}
    for weight in halved:
        weight.data = getattr(weight, VALUES)
    try:
        yield
    finally:
        for weight, half in halved.items():
            weight.data = half


def exact_state(llm: "PreTrainedModel") -> dict[str, Tensor] | None:
    """All weights as float32, by name, on the host; None if they are float32 already."""
    if all(weight.dtype == torch.float32 for weight in llm.parameters()):
        return None
    known: dict[int, Tensor] = {}  # store a weight with two names once
    return {
        name: known.setdefault(id(weight), values_of(weight).cpu() if weight.is_floating_point() else weight)
        for name, weight in llm.state_dict(keep_vars=True).items()
    }


def restore(llm: nn.Module) -> None:
    """Restore the float32 values of all weights, on the host; this undoes :func:`keep_in_half` if it was called.

    Shards are gathered on the first process's host; the other processes then hold weights without values.
    """
    if is_sharded(llm):
        gather(llm)
    if all(weight.dtype == torch.float32 for weight in llm.parameters()):
        return
    llm.to("cpu")
    for weight in llm.parameters():
        weight.data = values_of(weight).cpu()
        set_values(weight, None)
