"""The forget corpus: short biographies written by the model itself, as RWKU made its own."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from atu.chat import chat_prompt
from atu.generation import generate

SYSTEM = "{intro} You know {name} very well."  # RWKU, generation/pair_generation.py
MESSAGE = "Please write a short biography of {name}."


def write_biographies(
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    intro: str,
    *,
    count: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    batch_tokens: int,
) -> list[dict]:
    """Sample ``count`` biographies; seeded by torch's global seed.

    Returns:
        Rows in the form of RWKU's ``train_positive``: id, text, subject, intro. Texts without a
        word are left out.
    """
    prompt = chat_prompt(tokenizer, MESSAGE.format(name=name), system=SYSTEM.format(intro=intro, name=name))
    texts = generate(
        llm,
        tokenizer,
        [prompt] * count,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        batch_tokens=batch_tokens,
        title=f"biographies of {name}",
    )
    return [
        {"id": f"{name} {i}", "text": text.strip(), "subject": name, "intro": intro}
        for i, text in enumerate(texts)
        if text.strip()
    ]
