"""Whether a model answers better than guessing, since an ability that it lacks cannot be seen to get lost."""

import math

import pandas as pd

from atu.data.metrics import GUESS
from atu.data.probe_sets import PROBE_SETS, of_role
from atu.evaluation.collapse import measured

WRITTEN = 0.01  # the share of right guesses if answers are written, not chosen
CHANCE = 0.05  # the significance level: guessing passes as "better than guessing" in this share of cases


def better_than_guessing(share: float, guess: float, count: int) -> bool:
    """Whether guessing would rarely reach this share of right answers, by a one-sided binomial test.

    Args:
        share: the share of ``count`` answers that is right, 0 to 1.
        guess: the expected share of right guesses, 0 to 1.
    """
    from scipy.stats import binomtest

    return binomtest(round(share * count), count, max(guess, WRITTEN), alternative="greater").pvalue < CHANCE


def abilities(predictions: pd.DataFrame) -> pd.DataFrame:
    """A model's score on each utility set, beside that of a guess; a question that several targets share counts once.

    Sets of choices are left out if their details do not give the score of a guess.

    Returns:
        One row per set: set, share (mean score, 0 to 1), guess (mean score of guesses; 0 if answers are written),
        count, able (:func:`better_than_guessing`). F1 is taken as a share of right answers.
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
