"""Quantisation: rounding can bring back what small weight changes have hidden (Zhang et al. 2024, arXiv 2410.16454).

It uses bitsandbytes, with which most people load models in 8 and 4 bits, and which rounds on any device.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D  # GPT-2's linear maps, whose weights are [in, out]

from atu.attacks import Ask, Asked
from atu.common.errors import ExplainedError


def rounded(weights: Tensor, bits: int) -> Tensor:
    """Weights rounded to 8 bits (LLM.int8: integers, one scale per row) or 4 bits (NF4, one scale per 64 weights).

    Args:
        weights: [out, in].

    Returns:
        Rounded weights, with the shape and precision of ``weights``.

    Raises:
        ExplainedError: for any other number of bits.
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


MOST = 0.5  # the least share of the decoder's weights in linear maps; otherwise the model would hardly change


@torch.no_grad()
def round_weights(llm: PreTrainedModel, bits: int) -> int:
    """Round the weights of all linear maps of the decoder, in place; embeddings and the head stay as they are.

    Rounded weights keep the model's precision but take few distinct values. So the model computes what it would with
    weights of that many bits, except for the rounding of integer kernels.

    Returns:
        How many maps were rounded.

    Raises:
        ExplainedError: as :func:`rounded` does; or if most weights are not in such maps, as in a mixture of experts
            with one tensor for all.
    """
    decoder = llm.get_decoder()
    maps = [part for part in decoder.modules() if isinstance(part, nn.Linear | Conv1D)]
    embeddings = {part.weight for part in decoder.modules() if isinstance(part, nn.Embedding)}
    held = sum(weight.numel() for weight in decoder.parameters() if weight not in embeddings)
    if sum(part.weight.numel() for part in maps) < MOST * held:
        raise ExplainedError(
            f"quantize: most weights of {type(llm).__name__} lie in no linear map of their own and would stay as they "
            "are; leave this attack out"
        )
    for part in maps:
        turned = isinstance(part, Conv1D)
        weights = rounded(part.weight.T if turned else part.weight, bits)
        part.weight.copy_(weights.T if turned else weights)
    return len(maps)


def attack(asked: Asked, ask: Ask, *, bits: int) -> None:
    """Ask the model with rounded weights; it stays rounded."""
    round_weights(asked.engine.llm, bits)
    ask(0, asked)
