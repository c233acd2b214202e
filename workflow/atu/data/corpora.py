"""The kinds of texts that alignment reads and that stand for a target, and names for several kinds together.

It does not load torch.
"""

from collections.abc import Iterable
from itertools import combinations

CORPORA = ("positive", "answers")  # biographies; the model's own answers to its own questions
# what is embedded for a target: its name; the words of the name; the sentence that introduces it
TARGET_TEXTS = ("name", "parts", "intro")
MADE_OF = {"answers": "reject"}  # kinds that are made from texts of another kind
SEPARATOR = "+"


def joined(kinds: Iterable[str], known: tuple[str, ...] = CORPORA) -> str:
    """The name of several of the ``known`` kinds, such as "positive+answers", independent of their order."""
    held = set(kinds)
    return SEPARATOR.join(kind for kind in known if kind in held)


def kinds_of(corpora: str) -> list[str]:
    """The kinds in a name from :func:`joined`."""
    return corpora.split(SEPARATOR)


def all_joined(known: tuple[str, ...] = CORPORA) -> list[str]:
    """The names of all non-empty selections of the ``known`` kinds."""
    return [joined(chosen, known) for count in range(1, len(known) + 1) for chosen in combinations(known, count)]
