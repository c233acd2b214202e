"""The generation engine: greedy answers and sampled texts, batched by length."""

from functools import lru_cache

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from atu.batching import sorted_batches
from atu.runtime import progress


def chat_prompt(tokenizer: PreTrainedTokenizerBase, message: str, suffix: str = "", system: str | None = None) -> str:
    """The text a chat model sees: its template around the message, the generation prompt, the suffix."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": message})
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + suffix


@lru_cache(maxsize=2)  # the whole vocabulary is decoded: once a tokenizer, not once a probe set
def newline_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of all tokens whose text holds a line break."""
    return [i for i, text in enumerate(tokenizer.batch_decode([[i] for i in range(len(tokenizer))])) if "\n" in text]


def stop_tokens(llm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that end a turn, by the generation config and the tokenizer."""
    configured = llm.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return sorted({i for i in [*ids, tokenizer.eos_token_id] if i is not None})


class CountTokens(StoppingCriteria):
    """Stops nothing: moves a progress line by one for each token of a batch."""

    def __init__(self, bar):
        self.bar = bar

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        self.bar.update()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.inference_mode()
def generate(
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    *,
    max_new_tokens: int,
    batch_size: int,
    stop_at_newline: bool = False,
    temperature: float = 0.0,
    top_p: float = 1.0,
    title: str = "generate",
) -> list[str]:
    """Continue each prompt; greedy at temperature 0, else nucleus sampling (seeded by torch's global seed).

    Prompts are taken as they are: no special tokens are added. An error in any batch is raised,
    never scored as an empty answer.

    Returns:
        The continuations in the order of the prompts, up to the first line break if asked.
    """
    stops = stop_tokens(llm, tokenizer) + (newline_tokens(tokenizer) if stop_at_newline else [])
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    encoded = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    answers = [""] * len(prompts)
    batches = sorted_batches([len(ids) for ids in encoded], batch_size)
    bar = progress(None, title, total=len(batches) * max_new_tokens)
    for done, batch in enumerate(batches, start=1):
        inputs = tokenizer.pad({"input_ids": [encoded[i] for i in batch]}, padding_side="left", return_tensors="pt").to(
            llm.device
        )
        output = llm.generate(
            **inputs,
            **(sampling if temperature > 0 else {"do_sample": False}),
            max_new_tokens=max_new_tokens,
            repetition_penalty=1.0,  # whatever the model's generation config prefers
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id,
            stopping_criteria=StoppingCriteriaList([CountTokens(bar)]),
        )
        bar.update(done * max_new_tokens - bar.n)  # a batch may end early
        for i, ids in zip(batch, output[:, inputs["input_ids"].shape[1] :], strict=True):
            text = tokenizer.decode(ids, skip_special_tokens=True)
            answers[i] = text.split("\n")[0] if stop_at_newline else text
    bar.close()
    return answers
