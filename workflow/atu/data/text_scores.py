"""The scores of a text under a language model: what tables call them, and their means. No torch is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp

from atu.data.metrics import PERCENT

# What the table of scores reads: of the kept model, and of the base model.
SCORED = ("files", "base")
LEAST = -709.0  # exp of more than its opposite is no float


@dataclass(frozen=True)
class TextScore:
    """How a score of each text becomes a number of a group of texts.

    Attributes:
        name: of the number, in tables for programs.
        label: of the number, in tables for readers.
        by_token: whether the mean is over all tokens of the group, so that long texts weigh more; else over texts.
        shown: from a mean to the number that is shown; it rises or falls throughout.
        digits: behind the point.
    """

    name: str
    label: str
    by_token: bool
    shown: Callable[[float], float]
    digits: int


def to_percent(share: float) -> float:
    """A share as percent."""
    return PERCENT * share


def perplexity(log_likelihood: float) -> float:
    """exp of minus the mean log-likelihood of a token; infinite beyond what a float holds."""
    return float("inf") if log_likelihood < LEAST else exp(-log_likelihood)


def as_it_is(value: float) -> float:
    """A number that is shown as it is."""
    return value


# By the column that scores of single texts have (atu/evaluation/texts.py computes them).
TEXT_SCORES = {
    "exact_memorization": TextScore("exact_memorization", "Exact memorisation %", False, to_percent, 1),
    "extraction_strength": TextScore("extraction_strength", "Extraction strength %", False, to_percent, 1),
    "kl": TextScore("kl", "KL, nats", True, as_it_is, 3),
    "log_likelihood": TextScore("perplexity", "Perplexity", True, perplexity, 2),
}
