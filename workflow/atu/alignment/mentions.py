"""Where texts mention a person: by the whole name, or by a word of it that begins with a capital letter."""

import re
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from atu.alignment.windows import WindowedCorpus

if TYPE_CHECKING:  # slow to import
    from transformers import PreTrainedTokenizerBase

SHORTEST = 3  # letters; Jr. and an initial stand for nobody


def name_parts(name: str) -> list[str]:
    """The words of a name by which a text may call its bearer, such as Leonardo and Vinci of "Leonardo da Vinci"."""
    words = re.findall(r"\w+(?:['\u2019-]\w+)*", name)
    return [word for word in words if word[0].isupper() and len(word) >= SHORTEST]


def decoded(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    """The text of some tokens, with special tokens."""
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)  # a batch of texts would give a list
    return text


def character_ends(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> list[int]:
    """The character of the decoded text at which each token ends.

    A token that ends within a character decodes to as many signs as it has bytes of it, so an end is at most any later
    one.
    """
    ends = [len(decoded(tokenizer, ids[: i + 1])) for i in range(len(ids))]
    return list(accumulate(reversed(ends), min))[::-1]


def near_mentions(corpus: WindowedCorpus, tokenizer: "PreTrainedTokenizerBase", name: str, width: int) -> Tensor:
    """Which tokens of a corpus are in a mention of ``name``, or at most ``width`` tokens before or after one, [N]."""
    called = "|".join(map(re.escape, sorted({name, *name_parts(name)}, key=len, reverse=True)))
    mention = re.compile(rf"(?<!\w)(?:{called})(?!\w)")
    near = torch.zeros(len(corpus.input_ids), dtype=torch.bool)
    for i in range(len(corpus)):
        if not (ids := corpus.input_ids[corpus.text(i)].tolist()):
            continue
        ends = character_ends(tokenizer, ids)
        starts = [0, *ends[:-1]]
        spans = [found.span() for found in mention.finditer(decoded(tokenizer, ids))]
        inside = [any(a < stop and b > start for start, stop in spans) for a, b in zip(starts, ends, strict=True)]
        marks = torch.tensor(inside, dtype=torch.float)[None]
        near[corpus.text(i)] = F.max_pool1d(marks, 2 * width + 1, stride=1, padding=width)[0] > 0
    return near
