"""The kinds of texts that alignment reads, and names for several kinds together. It does not load torch."""

from collections.abc import Iterable
from itertools import combinations

CORPORA = ("positive", "answers")  # biographies; the model's own answers to its own questions
MADE_OF = {"answers": "reject"}  # kinds that are made from texts of another kind
SEPARATOR = "+"


def joined(kinds: Iterable[str]) -> str:
    """The name of several kinds, such as "positive+answers", independent of their order."""
    held = set(kinds)
    return SEPARATOR.join(kind for kind in CORPORA if kind in held)


def kinds_of(corpora: str) -> list[str]:
    """The kinds in a name from :func:`joined`."""
    return corpora.split(SEPARATOR)


def all_joined() -> list[str]:
    """The names of all non-empty selections of kinds."""
    return [joined(chosen) for count in range(1, len(CORPORA) + 1) for chosen in combinations(CORPORA, count)]
