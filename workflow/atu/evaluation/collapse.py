"""Whether a model has collapsed, judged by what it writes, since metrics of logits do not notice a collapse."""

import json
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import pandas as pd

from atu.data.metrics import bare, is_degenerate, is_empty, is_refusal, repeats
from atu.data.probe_sets import generated, judged, of_role

# In the details of predictions, nats per character under the base model: of the answer; and of the base model's own
# answers, swapped between prompts, and of words drawn from them (atu/evaluation/surprise.py).
SURPRISE, MOVED, DRAWN = "surprise", "surprise_moved", "surprise_drawn"
Judges = Mapping[str, Callable[[str], bool]]
SPEECHLESS: Judges = {"degenerate": is_degenerate, "empty": is_empty}
MOST = 0.5  # "most" means more than this share
APART = 1.5  # the base model tells language from noise if random words surprise it at least this many times as much
ECHOED, LEAST_ECHO = 0.8, 5  # an echo has this share of its words, and at least this many, in one piece of its prompt
LETTERS = ("L", "M")  # Unicode's categories of letters, and of marks that belong to letters


def without_speech(answers: pd.DataFrame, judges: Judges = SPEECHLESS) -> dict[str, float]:
    """Shares of answers that are ``degenerate`` and that are ``empty``, 0 to 1; NaN if there are no answers.

    Args:
        answers: generated answers, in the column prediction.
        judges: functions that judge an answer, by the name of the share; replaces the default two.
    """
    said = answers["prediction"]
    return {name: said.map(judge).astype(float).mean() for name, judge in judges.items()}


@lru_cache(maxsize=2**12)
def script(character: str) -> str:
    """The script of a letter: the first word of its name ("LATIN", "CYRILLIC", "CJK"); empty for other characters."""
    if unicodedata.category(character)[0] not in LETTERS:
        return ""
    return unicodedata.name(character, "").split(" ")[0].split("-")[0]


def scripts(text: str) -> dict[str, int]:
    """How many letters of each script a text has; wide letters and letter-like signs (µ, º) count as plain letters."""
    found: dict[str, int] = {}
    for character in unicodedata.normalize("NFKC", text):
        if name := script(character):
            found[name] = found.get(name, 0) + 1
    return found


def is_foreign(answer: str, known: set[str]) -> bool:
    """Whether most letters of an answer are of scripts outside ``known``."""
    found = scripts(answer)
    return sum(count for name, count in found.items() if name not in known) > MOST * sum(found.values())


def is_echo(answer: str, prompt: str) -> bool:
    """Whether an answer echoes its prompt: one run of words, most of the answer, is also in the prompt."""
    said, asked = bare(answer).split(), bare(prompt).split()
    length = max(LEAST_ECHO, int(np.ceil(ECHOED * len(said))))
    if len(said) < length:
        return False
    pieces = {tuple(asked[i : i + length]) for i in range(len(asked) - length + 1)}
    return any(tuple(said[i : i + length]) in pieces for i in range(len(said) - length + 1))


def measured(answers: pd.DataFrame, name: str) -> pd.Series:
    """The number with this name in each answer's details; NaN if there is none."""
    if "details" not in answers:
        return pd.Series(np.nan, index=answers.index)
    return answers["details"].map(lambda text: json.loads(text).get(name)).astype(float)


def limit(before: pd.DataFrame) -> float:
    """The surprise, in nats per character, above which an answer is noise.

    It is halfway between two surprises of the base model: at its own answers swapped between prompts (the third
    quartile), and at words drawn from them at random (the median).

    On SmolLM2-135M and two people the limit is 1.0 to 1.5. In each set, at least 83 % of the answers of 13 models that
    had unlearned and still wrote language were below it. Above it were all answers of random letters, 9 of 10 in French
    or in Spanish, and 7 of 10 of random words. If the base model's own answers are all about one thing, an unrelated
    name is above it too.

    Returns:
        The limit; infinity if the base model does not tell the two apart (:data:`APART`), or has fewer than two
        answers.
    """
    moved, drawn = measured(before, MOVED), measured(before, DRAWN)
    language, noise = moved.quantile(0.75), drawn.median()
    if moved.count() < 2 or not noise >= APART * language:
        return float("inf")
    return float(language + noise) / 2


def broken(answers: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Which answers to one set are broken, with a column for each kind.

    The kinds are degenerate, empty, echo (of the prompt), foreign (in scripts that neither the prompts nor the base
    model's answers have) and noise (above :func:`limit`, and not a refusal).

    Args:
        answers, before: answers of the model and of the base model to the same probes.
    """
    said, prompts = answers["prediction"], answers.get("prompt", pd.Series("", index=answers.index))
    known = set(scripts(" ".join([*prompts, *before["prediction"]])))
    return pd.DataFrame(
        {name: said.map(judge).astype(bool) for name, judge in SPEECHLESS.items()}
        | {
            "echo": pd.Series(map(is_echo, said, prompts), index=said.index, dtype=bool),
            "foreign": said.map(lambda answer: is_foreign(answer, known)).astype(bool),
            "noise": (measured(answers, SURPRISE) > limit(before)) & ~said.map(is_refusal).astype(bool),
        },
        index=answers.index,
    )


def why_collapsed(predictions: pd.DataFrame, before: pd.DataFrame, fluency_share: float) -> list[str]:
    """Why a model has collapsed, in words; empty if it has not.

    There are three criteria, all on generated answers: fluency; whether most answers of all sets repeat one word; and,
    for each set about the target, its neighbours or fluency, whether most answers are broken (:func:`broken`) while
    those of the base model are not.

    Args:
        predictions, before: predictions of the model and of the base model.
        fluency_share: fluency below this share of the base model's is a collapse.
    """
    found = []
    for name in of_role("fluency"):
        fluency, normal = (frame.loc[frame["set"] == name, "score"].mean() for frame in (predictions, before))
        if fluency < fluency_share * normal:
            found.append(f"fluency {fluency / normal:.0%} of before")
    answers = predictions.loc[predictions["set"].isin(generated()), "prediction"]
    if len(answers) and (share := answers.map(repeats).mean()) > MOST:
        found.append(f"{share:.0%} of all answers repeat one word")
    for name in judged():
        now, then = (frame[frame["set"] == name] for frame in (predictions, before))
        if not len(now):
            continue
        kinds = broken(now, then)
        share = kinds.any(axis=1).mean()
        if share > MOST and not broken(then, then).any(axis=1).mean() > MOST:
            found.append(f"{share:.0%} of {name} {' or '.join(kinds.columns[kinds.any()])}")
    return found
