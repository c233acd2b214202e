"""Quantisation: what small changes of weights have hidden can come back by rounding (Zhang et al. 2024, 2410.16454).

By bitsandbytes, by which most people load models in 8 and 4 bits, and which rounds on any device.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D  # GPT-2's linear maps, whose weights are [in, out]

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


MOST = 0.5  # of the decoder's weights must lie in linear maps, or what is asked is hardly another model


@torch.no_grad()
def round_weights(llm: PreTrainedModel, bits: int) -> int:
    """Round the weights of all linear maps of the decoder, in place; embeddings and the head stay as they are.

    Rounded weights are numbers of the model's own precision, of which few are left: the model computes what it would
    with the weights of that many bits, up to how an integer kernel adds.

    Returns:
        How many maps were rounded.

    Raises:
        ExplainedError: as of :func:`rounded`; or if most weights lie in no such map, as of experts that are one tensor.
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
