"""How unlikely the base model finds answers: what tells language from noise, and so a model that has collapsed."""

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

SHORT = 12  # characters; a shorter answer is measured as if it had so many: "No." pays for being another word, once


def surprises(engine: Engine, prompts: Sequence[str], answers: Sequence[str]) -> list[float | None]:
    """The negative log-probability of each answer behind its prompt, in nats a character: a word at random costs two or
    three times what a wrong answer does, in tokens of any size. Of few characters (:data:`SHORT`) it is less.

    Returns:
        None for an answer that is nothing, or that does not fit the model's context.
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
    """Each answer in the place of another, half of all further on: language that does not answer the question."""
    half = len(answers) // 2
    return [*answers[half:], *answers[:half]]


def drawn(answers: Sequence[str], seed: int = 0) -> list[str]:
    """As many words as each answer has, drawn at random from all of them: words that are no language."""
    rng, words = random.Random(seed), [word for answer in answers for word in answer.split()]
    return [" ".join(rng.choice(words) for _ in answer.split()) for answer in answers]


def add_surprises(predictions: pd.DataFrame, base: Engine, protocol: Protocol, own: bool) -> pd.DataFrame:
    """Predictions with the base model's surprise in the details of those that are judged by it
    (:func:`atu.data.probe_sets.judged`), and none from before. Empty answers have none: what stands for them is no
    answer of a model.

    Args:
        base: the base model.
        own: whether these are its own answers; then what others are judged by is added too: the surprise at each answer
            in another's place and at words drawn at random, of all sets but fluency together.
    """
    engine = replace(base, special_tokens=protocol.special_tokens)
    added: dict[object, dict[str, float]] = {}
    asked = predictions[predictions["set"].isin(judged()) & ~predictions["prediction"].map(is_empty).astype(bool)]
    # short answers and long texts apart; sets together, since answers to one may all be the same
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
