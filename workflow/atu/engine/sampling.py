"""Sampling that draws the same tokens whatever else is in the batch, on any number of threads and any processor.

Random numbers are not read from a stream in some order. Each is a function of where it is used: of the seed, the
number of the text, the position in it and the token. A token is drawn by a race (Gumbel-max; Yellott 1977): each token
of the nucleus has its own random number, and the token with the largest log p + Gumbel noise wins. Token i wins with
probability p_i.

Logits differ in their last digits from one batch, thread count or processor to another. A race changes its winner only
if the first two are closer than that noise. This is hardly more often than samples from such similar distributions must
differ anyway (their distance in total variation). Inverting the cumulative distribution with one random number changes
the choice more often, since a change of one probability moves the boundaries of all tokens after it. Rounding the
logits to a grid first makes this worse: fewer logits change, but each that does changes by a larger step.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

WORD = 0xFFFFFFFF  # 32 bits
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = 0x9E3779B9, 0xBB67AE85  # added to the key in each round
ROUNDS = 10
SEEDS = 2**64


def philox(counter: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), for many counters at once.

    NumPy has only Philox4x64, with one object per starting counter; here every number has its own counter.

    Args:
        counter: four words for each counter, uint64 below 2**32, of shapes that broadcast.
        key: two words below 2**32.

    Returns:
        Four random words for each counter, uint64 below 2**32.
    """
    low, half = np.uint64(WORD), np.uint64(32)
    first, second, third, fourth = counter
    for number in range(ROUNDS):
        one, two = (np.uint64((word + number * step) & WORD) for word, step in zip(key, WEYL, strict=True))
        left, right = MULTIPLIERS[0] * first, MULTIPLIERS[1] * third  # of 64 bits each
        first, second = (right >> half) ^ second ^ one, right & low
        third, fourth = (left >> half) ^ fourth ^ two, left & low
    return [first, second, third, fourth]


def uniforms(seed: int, texts: np.ndarray, position: int, tokens: np.ndarray) -> np.ndarray:
    """A random number above 0 and below 1 for each pair of a text and a token, at a position in the texts, [n].

    Args:
        seed: at least 0 and below 2**64.
        texts, tokens: numbers of texts and ids of tokens, at least 0 and below 2**32, [n].
    """
    first, second, third, fourth = (np.asarray(word, dtype=np.uint64) for word in (tokens, position, texts, 0))
    words = philox((first, second, third, fourth), (seed & WORD, seed >> 32))
    # 52 bits plus one half; with one more bit, the largest would be rounded to 1
    return (((words[1] << np.uint64(32) | words[0]) >> np.uint64(12)) + 0.5) / 2.0**52


def seed_of(seed: int, *about: str) -> int:
    """A seed, below 2**64, derived from a seed and words, so that texts about two people use unrelated numbers."""
    return int.from_bytes(hashlib.sha256("\0".join([str(seed), *about]).encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: above 0; logits are divided by it.
        top_p: above 0, at most 1. Tokens are drawn from the nucleus: the likeliest tokens that together reach this
            probability. Among equally likely tokens, lower ids count as likelier.
        seed: at least 0, below 2**64.

    Raises:
        ValueError: if a value is out of these ranges.
    """

    temperature: float
    top_p: float
    seed: int

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 < self.top_p <= 1 and 0 <= self.seed < SEEDS):
            raise ValueError(f"{self}: temperature is above 0, top_p above 0 and at most 1, seed from 0 to 2**64 - 1")

    def draw(self, logits: Tensor, texts: list[int], position: int) -> Tensor:
        """The next token of each row, [batch]; rows do not depend on each other.

        Args:
            logits: [batch, vocabulary]; -inf for impossible tokens, but not for all of a row.
            texts: the number of each row's text.
            position: how many tokens of the texts have been drawn so far.
        """
        log_probs = (logits.double() / self.temperature).log_softmax(-1)
        # less likely tokens are in no nucleus, since all of them together have less probability than is left out
        least = (1 - self.top_p) / 2 / log_probs.shape[-1]
        places = (log_probs > (np.log(least) if least > 0 else -np.inf)).nonzero()
        rows, tokens = places.cpu().numpy().T
        values = log_probs[tuple(places.T)].cpu().numpy()
        order = np.lexsort((tokens, -values, rows))
        order = order[np.concatenate([in_nucleus(part, self.top_p) for part in by_row(values[order], rows[order])])]
        rows, tokens, values = rows[order], tokens[order], values[order]
        drawn = uniforms(self.seed, np.asarray(texts)[rows], position, tokens)
        noisy = values - np.log(-np.log(drawn))
        best = [token[of.argmax()] for token, of in zip(by_row(tokens, rows), by_row(noisy, rows), strict=True)]
        return torch.tensor(best, device=logits.device)


def by_row(values: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """Split values by row, from the first row to the last; every row has at least one.

    Args:
        rows: the row of each value, ascending, [n].
    """
    return np.split(values, np.flatnonzero(np.diff(rows)) + 1)


def in_nucleus(log_probs: np.ndarray, top_p: float) -> np.ndarray:
    """Mask of the tokens in the nucleus, [n]: those preceded by a total probability of less than ``top_p``.

    Args:
        log_probs: sorted from high to low, [n].
    """
    before = np.cumsum(np.exp(log_probs))
    return np.concatenate([[True], before[:-1] < top_p])
