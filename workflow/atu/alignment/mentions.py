"""Where texts mention a person: by the whole name, or by a word of it that begins with a capital letter."""

import re
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


def character_ends(ids: list[int], tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The character of the decoded text at which each token ends."""
    ends = [len(tokenizer.decode(ids[: i + 1], clean_up_tokenization_spaces=False)) for i in range(len(ids))]
    return torch.tensor(ends, dtype=torch.long).cummax(0).values.tolist() if ends else []


def near_mentions(corpus: WindowedCorpus, tokenizer: "PreTrainedTokenizerBase", name: str, width: int) -> Tensor:
    """Which tokens of a corpus are in a mention of ``name``, or at most ``width`` tokens before or after one, [N]."""
    called = "|".join(map(re.escape, sorted({name, *name_parts(name)}, key=len, reverse=True)))
    mention = re.compile(rf"(?<!\w)(?:{called})(?!\w)")
    near = torch.zeros(len(corpus.input_ids), dtype=torch.bool)
    for i in range(len(corpus)):
        ids = corpus.input_ids[corpus.text(i)].tolist()
        ends = character_ends(ids, tokenizer)
        starts = [0, *ends[:-1]]
        spans = [found.span() for found in mention.finditer(tokenizer.decode(ids, clean_up_tokenization_spaces=False))]
        inside = [any(a < stop and b > start for start, stop in spans) for a, b in zip(starts, ends, strict=True)]
        marks = torch.tensor(inside, dtype=torch.float)[None]
        near[corpus.text(i)] = F.max_pool1d(marks, 2 * width + 1, stride=1, padding=width)[0] > 0
    return near
