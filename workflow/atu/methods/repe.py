"""Representation engineering (Zou et al. 2023): a control vector is added to the activations at inference.

The vector is the difference between two representations of a question: asked of somebody who has never heard of the
target, minus asked of an expert on the target. No weight changes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from atu.common.runtime import progress
from atu.engine.batching import pad, sorted_batches
from atu.engine.chat import chat_prompt, prompt_ids
from atu.engine.intervention import Intervention
from atu.engine.prefill import check_tokens
from atu.methods import Applied

EXPERT = "Pretend you know everything about {name}. {question}"
NOVICE = "Pretend you have never heard of {name}. {question}"


def control_vector(expert: Tensor, novice: Tensor) -> Tensor:
    """Mean difference novice - expert of paired hidden states, [..., hidden] from [pairs, ..., hidden]."""
    return (novice - expert).mean(0)


@torch.inference_mode()
def last_states(
    llm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], layers: list[int], batch_size: int
) -> Tensor:
    """Hidden states at the last token of each prompt, [prompts, layers, hidden], in float32."""
    ids = prompt_ids(tokenizer, prompts)
    check_tokens(llm, ids, 0)
    states = torch.zeros(len(ids), len(layers), llm.config.hidden_size)
    for chosen in progress(sorted_batches([len(row) for row in ids], batch_size), "control vector"):
        input_ids, mask = (x.to(llm.device) for x in pad([torch.tensor(ids[i]) for i in chosen]))
        output = llm.get_decoder()(input_ids=input_ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
        last = mask.sum(1) - 1
        for place, layer in enumerate(layers):
            states[chosen, place] = output.hidden_states[layer][torch.arange(len(chosen)), last].float().cpu()
    return states


def find_control_vectors(
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    questions: list[str],
    layers: list[int],
    batch_size: int = 16,
) -> Tensor:
    """Control vectors of the outputs of the given layers (counted from 1), [layers, hidden]."""
    expert, novice = (
        last_states(
            llm,
            tokenizer,
            [chat_prompt(tokenizer, persona.format(name=name, question=question)) for question in questions],
            layers,
            batch_size,
        )
        for persona in (EXPERT, NOVICE)
    )
    return control_vector(expert, novice)


class RepE(Applied):
    """Args:
    layers: layers whose outputs are steered, counted from 1.
    coefficient: factor of the control vector. The vector is as long as the mean difference of the states, so a factor
        of a few is already large. Above 10000, norms, which square it, come near to overflow.
    """

    name = "RepE"
    published = "RepE"
    texts = ("reject",)
    positive = ("layers",)
    distinct = ("layers",)
    largest = {"coefficient": 10000}  # noqa: RUF012

    def __init__(self, layers: Sequence[int] = (14, 15, 16, 17, 18), coefficient: float = 1.0):
        self.layers, self.coefficient = list(layers), coefficient

    def find(
        self, llm: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase | None, name: str, texts: list[dict]
    ) -> Intervention:
        assert llm is not None and tokenizer is not None  # `reads_model`
        questions = [row["instruction"] for row in texts]
        vectors = find_control_vectors(llm, tokenizer, name, questions, self.layers)
        return Intervention(vectors=vectors, layers=self.layers, coefficient=self.coefficient)


METHOD = RepE
