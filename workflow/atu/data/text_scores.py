"""The scores of a text under a language model: their names in tables, and their means. It does not load torch."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp

from atu.data.metrics import PERCENT

# What the table of scores reads: scores by the kept model, and by the base model.
SCORED = ("files", "base")
LEAST = -709.0  # below this, exp of the opposite overflows a float


@dataclass(frozen=True)
class TextScore:
    """How the scores of single texts become a number for a group of texts.

    Attributes:
        name: name of the number in tables for programs.
        label: name of the number in tables for readers.
        by_token: whether the mean is over all tokens of the group, so that long texts weigh more; otherwise over texts.
        shown: maps a mean to the number that is shown; it is monotonic.
        digits: decimals of the number.
    """

    name: str
    label: str
    by_token: bool
    shown: Callable[[float], float]
    digits: int


def to_percent(share: float) -> float:
    """A share in percent."""
    return PERCENT * share


def perplexity(log_likelihood: float) -> float:
    """exp of minus the mean log-likelihood of a token; infinity if a float would overflow."""
    return float("inf") if log_likelihood < LEAST else exp(-log_likelihood)


def as_it_is(value: float) -> float:
    """The number unchanged."""
    return value


# By column of the scores of single texts (computed in atu/evaluation/texts.py).
TEXT_SCORES = {
    "exact_memorization": TextScore("exact_memorization", "Exact memorisation %", False, to_percent, 1),
    "extraction_strength": TextScore("extraction_strength", "Extraction strength %", False, to_percent, 1),
    "kl": TextScore("kl", "KL, nats", True, as_it_is, 3),
    "log_likelihood": TextScore("perplexity", "Perplexity", True, perplexity, 2),
}
