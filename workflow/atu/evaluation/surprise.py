"""How unlikely answers are to the base model, which tells language from noise and so reveals a collapsed model."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from atu.data.metrics import is_empty
from atu.data.probe_sets import judged, of_role
from atu.data.protocol import Protocol
from atu.engine.chat import continued
from atu.engine.engine import Engine
from atu.engine.prefill import context_length
from atu.evaluation.collapse import DRAWN, MOVED, SURPRISE

SHORT = 12  # characters; shorter answers count as this long, since in "No." a single unexpected word weighs too much


def surprises(engine: Engine, prompts: Sequence[str], answers: Sequence[str]) -> list[float | None]:
    """The negative log-probability of each answer given its prompt, in nats per character.

    A random word costs two or three times as much as a wrong answer, whatever the size of tokens. Short answers count
    as longer than they are (:data:`SHORT`).

    Returns:
        One number per answer; None if the answer is empty or does not fit the model's context.
    """
    texts = [answer.strip() for answer in answers]
    joined = [continued(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    first, ids = [len(row) for row in engine.encode(list(prompts))], engine.encode(joined)
    longest = context_length(engine.llm.config)
    kept = [
        i
        for i, row in enumerate(ids)
        if texts[i] and 0 < first[i] < len(row) and (longest is None or len(row) - 1 <= longest)
    ]
    scores = engine.score_tokens([ids[i] for i in kept], [first[i] for i in kept], title="surprise")
    found: list[float | None] = [None] * len(ids)
    for i, score in zip(kept, scores, strict=True):
        found[i] = -score.log_probs.double().sum().item() / max(len(texts[i]), SHORT)
    return found


def moved(answers: Sequence[str]) -> list[str]:
    """The answers shifted by half their number, so that each is language but does not answer its question."""
    half = len(answers) // 2
    return [*answers[half:], *answers[:half]]


def drawn(answers: Sequence[str], seed: int = 0) -> list[str]:
    """For each answer, as many words drawn at random from all answers: words, but not language."""
    rng, words = random.Random(seed), [word for answer in answers for word in answer.split()]
    return [" ".join(rng.choice(words) for _ in answer.split()) for answer in answers]


def add_surprises(predictions: pd.DataFrame, base: Engine, protocol: Protocol, own: bool) -> pd.DataFrame:
    """The predictions with the base model's surprise in the details, in place of any earlier one.

    Only sets that are judged by it get one (:func:`atu.data.probe_sets.judged`). Empty answers get none, since the text
    that stands for them was not written by a model.

    Args:
        base: the base model.
        own: whether these are the base model's own answers. Then the numbers by which other models are judged are added
            too: the surprise at answers swapped between prompts, and at random words. Fluency is treated separately
            from all other sets.
    """
    engine = replace(base, special_tokens=protocol.special_tokens)
    added: dict[object, dict[str, float]] = {}
    asked = predictions[predictions["set"].isin(judged()) & ~predictions["prediction"].map(is_empty).astype(bool)]
    # short answers and long texts separately, but sets together, since the answers to one set may all be the same
    for _, rows in asked.groupby(asked["set"].isin(of_role("fluency"))):
        prompts, answers = list(rows["prompt"]), list(rows["prediction"])
        measured = {SURPRISE: answers} | ({MOVED: moved(answers), DRAWN: drawn(answers)} if own else {})
        for name, texts in measured.items():
            for i, value in zip(rows.index, surprises(engine, prompts, texts), strict=True):
                if value is not None:
                    added.setdefault(i, {})[name] = value
    kept = [
        {name: value for name, value in json.loads(text).items() if name not in (SURPRISE, MOVED, DRAWN)}
        for text in predictions["details"]
    ]
    details = [json.dumps(old | added.get(i, {})) for i, old in zip(predictions.index, kept, strict=True)]
    return predictions.assign(details=pd.Series(details, index=predictions.index, dtype=object))
