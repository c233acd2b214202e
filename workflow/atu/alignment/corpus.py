"""Texts that the model writes about a subject, made as RWKU made its own.

They are biographies (real and made up), questions, and the model's answers to these questions.
"""

from itertools import cycle

from atu.engine.chat import chat_prompt, continued
from atu.engine.engine import Engine
from atu.engine.sampling import Sampling, seed_of

# RWKU, generation/pair_generation.py and question_generation.py
KNOWN = ("{intro} You know {name} very well.", "Please write a short biography of {name}.")
UNKNOWN = ("{intro} You don't know {name} at all.", "Please make up a short biography of {name}.")
ASKED = "{intro}\nPlease generate a question about {name} based on what you know about {name}\n"
QUESTION_TOKENS = 50
REFUSALS = ["I do not know the answer.", "I'm not sure.", "I don't have that information.", "I can't say."]


def write_texts(
    engine: Engine,
    kind: str,
    name: str,
    intro: str,
    *,
    texts: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> list[dict]:
    """Sample ``texts`` texts; empty ones are left out.

    Args:
        kind: "positive" (biographies), "negative" (made-up ones) or "reject" (questions with a refusal).
        temperature: if it is 0, all texts are the same: the likeliest one.
        seed: at least 0. Texts of another kind, or about another name, use independent random numbers.

    Returns:
        Rows in the form of RWKU's text sets: id, subject, intro, and text (or instruction and output).
    """
    fields = {"name": name, "intro": intro}
    if kind == "reject":
        prompt = chat_prompt(engine.tokenizer, ASKED.format(**fields), "Question:")
        max_new_tokens = min(max_new_tokens, QUESTION_TOKENS)
    else:
        system, message = KNOWN if kind == "positive" else UNKNOWN
        prompt = chat_prompt(engine.tokenizer, message.format(**fields), system=system.format(**fields))
    written = engine.generate(
        [prompt] * texts,
        max_new_tokens=max_new_tokens,
        sampling=Sampling(temperature, top_p, seed_of(seed, kind, name)) if temperature else None,
        stop_at_newline=kind == "reject",
        title=f"{kind} texts about {name}",
    )
    rows = []
    for i, (text, refusal) in enumerate(zip(written, cycle(REFUSALS))):
        own = {"instruction": text.strip(), "output": refusal} if kind == "reject" else {"text": text.strip()}
        if text.strip():
            rows.append({"id": f"{name} {i}"} | own | {"subject": name, "intro": intro})
    return rows


def answer_questions(engine: Engine, questions: list[dict], max_new_tokens: int) -> list[dict]:
    """Chats of a question and its likeliest answer; repeated questions are left out.

    Args:
        questions: rows with an instruction, as :func:`write_texts` writes for kind "reject".
        max_new_tokens: the most tokens of an answer.

    Returns:
        The same rows with a text, the whole chat, in place of instruction and output. Rows with an empty answer are
        left out.
    """
    first: dict[str, dict] = {}
    for row in questions:
        first.setdefault(row["instruction"], row)
    asked = list(first.values())
    prompts = [chat_prompt(engine.tokenizer, row["instruction"]) for row in asked]
    answers = engine.generate(prompts, max_new_tokens=max_new_tokens, title="answers")
    rows = []
    for row, prompt, answer in zip(asked, prompts, answers, strict=True):
        kept = {key: value for key, value in row.items() if key not in ("instruction", "output")}
        if answer.strip():
            rows.append(kept | {"text": continued(prompt, answer)})
    return rows
