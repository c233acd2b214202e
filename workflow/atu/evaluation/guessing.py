"""Whether a model answers better than guessing: what it cannot do, it cannot be seen to lose."""

import math

import pandas as pd

from atu.data.metrics import GUESS
from atu.data.probe_sets import PROBE_SETS, of_role
from atu.evaluation.collapse import measured

WRITTEN = 0.01  # the share of answers that a guess gets right where they are written, not chosen
CHANCE = 0.05  # what is called better than guessing comes about by guessing in this share of cases


def better_than_guessing(share: float, guess: float, count: int) -> bool:
    """Whether a guess would seldom be right so often: by the binomial distribution, one-sided.

    Args:
        share: of ``count`` answers those that are right, 0 to 1.
        guess: the share that a guess would have, 0 to 1.
    """
    from scipy.stats import binomtest

    return binomtest(round(share * count), count, max(guess, WRITTEN), alternative="greater").pvalue < CHANCE


def abilities(predictions: pd.DataFrame) -> pd.DataFrame:
    """How a model does on each utility set, beside a guess; a question that several targets share counts once.

    Sets of choices whose details do not say what a guess scores are left out.

    Returns:
        One row a set: set, share (mean score, 0 to 1), guess (the same of guesses; 0 where answers are written), count,
        able (:func:`better_than_guessing`). F1 is read as a share of right answers.
    """
    found = []
    for name in of_role("utility"):
        asked = predictions[predictions["set"] == name].drop_duplicates("query")
        if len(asked):
            share, guess = float(asked["score"].mean()), float(measured(asked, GUESS).mean())
            if PROBE_SETS[name].ask == "generate":
                guess = 0.0
            elif math.isnan(guess):
                continue
            found.append((name, share, guess, len(asked), better_than_guessing(share, guess, len(asked))))
    kinds = {"share": float, "guess": float, "count": int, "able": bool}
    return pd.DataFrame(found, columns=["set", *kinds]).astype(kinds)
