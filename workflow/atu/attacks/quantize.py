"""Quantisation: what small changes of weights have hidden can come back by rounding (Zhang et al. 2024, 2410.16454).

By bitsandbytes, by which most people load models in 8 and 4 bits, and which rounds on any device.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from atu.attacks import Ask, Asked
from atu.common.errors import ExplainedError


def rounded(weights: Tensor, bits: int) -> Tensor:
    """Weights as 8 or 4 bits leave them: integers with one scale a row (LLM.int8), or NF4 with one for each 64 weights.

    Args:
        weights: [out, in].

    Returns:
        Shaped as ``weights``, in their precision.

    Raises:
        ExplainedError: for another number of bits.
    """
    from bitsandbytes import functional

    match bits:
        case 8:
            integers, scales, _ = functional.int8_vectorwise_quant(weights.half())
            return (integers * scales[:, None] / 127).to(weights.dtype)
        case 4:
            codes, state = functional.quantize_4bit(weights.contiguous(), quant_type="nf4", blocksize=64)
            return functional.dequantize_4bit(codes, state).to(weights.dtype)
    raise ExplainedError(f"quantize: weights can be rounded to 8 or 4 bits, not {bits}")


@torch.no_grad()
def round_weights(llm: PreTrainedModel, bits: int) -> int:
    """Round the weights of all linear maps of the decoder, in place; embeddings and the head stay as they are.

    Rounded weights are numbers of the model's own precision, of which few are left: the model computes what it would
    with the weights of that many bits, up to how an integer kernel adds.

    Returns:
        How many maps were rounded.

    Raises:
        ExplainedError: as of :func:`rounded`.
    """
    maps = [part for part in llm.get_decoder().modules() if isinstance(part, nn.Linear)]
    for part in maps:
        part.weight.copy_(rounded(part.weight, bits))
    return len(maps)


def attack(asked: Asked, ask: Ask, *, bits: int) -> None:
    """Ask the model with rounded weights; it stays rounded."""
    round_weights(asked.engine.llm, bits)
    ask(0, asked)
