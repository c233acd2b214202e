"""Quantisation: what small changes of weights have hidden can come back by rounding (Zhang et al. 2024, 2410.16454)."""

import torch
from torch import nn
from transformers import PreTrainedModel

from atu.attacks import Ask, Asked
from atu.common.errors import ExplainedError

BITS = {8: "int8", 4: "int4"}  # types of torch


def round_weights(llm: PreTrainedModel, bits: int, group: int) -> int:
    """Round the weights of all linear maps of the decoder to integers of some bits, in place.

    Symmetric round to nearest, one scale a group of ``group`` weights of a row (one a row where rows are no multiple of
    it), by torchao. Weights stay numbers of the model's own precision, of which few are left: what the model then
    computes is what an integer kernel would, and any device can do it. Embeddings and the head stay as they are.

    Returns:
        How many maps were rounded.

    Raises:
        ExplainedError: for another number of bits.
    """
    from torchao.quantization import IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    if bits not in BITS:
        raise ExplainedError(f"quantize: weights can be rounded to {' or '.join(map(str, BITS))} bits, not {bits}")
    maps = [part for part in llm.get_decoder().modules() if isinstance(part, nn.Linear)]
    for part in maps:
        fits = part.in_features % group == 0
        config = IntxWeightOnlyConfig(
            weight_dtype=getattr(torch, BITS[bits]), granularity=PerGroup(group) if fits else PerAxis(0)
        )
        holder = nn.Sequential(part)  # quantize_ looks at the children of what it is given
        dtype = part.weight.dtype
        quantize_(holder, config)
        part.weight = nn.Parameter(part.weight.dequantize().to(dtype), requires_grad=False)
    return len(maps)


def attack(asked: Asked, ask: Ask, *, bits: int, group: int) -> None:
    """Ask the model with rounded weights; it stays rounded."""
    round_weights(asked.engine.llm, bits, group)
    ask(0, asked)
