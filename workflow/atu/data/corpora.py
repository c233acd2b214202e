"""The kinds of texts that alignment reads, and how several are named together. No torch is loaded."""

from collections.abc import Iterable
from itertools import combinations

CORPORA = ("positive", "answers")  # biographies; the model's own answers to questions of its own
MADE_OF = {"answers": "reject"}  # of kinds that are made of texts of another kind, which
SEPARATOR = "+"


def joined(kinds: Iterable[str]) -> str:
    """The name of several kinds: "positive+answers", in whatever order they are given."""
    held = set(kinds)
    return SEPARATOR.join(kind for kind in CORPORA if kind in held)


def kinds_of(corpora: str) -> list[str]:
    """The kinds that a name is made of."""
    return corpora.split(SEPARATOR)


def all_joined() -> list[str]:
    """The names of all selections."""
    return [joined(chosen) for count in range(1, len(CORPORA) + 1) for chosen in combinations(CORPORA, count)]
