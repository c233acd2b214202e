"""Sampled tokens that are the same everywhere: whatever else is in the batch, however many threads or which processor.

Random numbers are no stream that is read in some order. Each is a function of where it is used: of the seed, the
number of the text, the position in it and the token. A token is drawn by a race (Gumbel-max; Yellott 1977): each token
of the nucleus has a random number of its own, and the best of log p + Gumbel noise is taken, which is token i with
probability p_i.

Logits differ in their last digits from one batch, thread count or processor to another. A race changes its winner
where the first two are within that noise of each other, hardly more often than distributions so near must differ at
all (their distance in total variation). Inverting the cumulative distribution by one number changes its choice more
often: what one probability loses moves the boundaries of all tokens behind it. Rounding the logits to a grid first
makes that worse: the fewer cross to the next point of the grid, the larger the step of each that does.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

WORD = 0xFFFFFFFF  # 32 bits
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = 0x9E3779B9, 0xBB67AE85  # by which the key changes from round to round
ROUNDS = 10
SEEDS = 2**64


def philox(counter: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), for many counters at once.

    NumPy's own is Philox4x64, an object for each place to start at; here each number has another one.

    Args:
        counter: the four words of each, uint64 below 2**32, of shapes that broadcast.
        key: two words below 2**32.

    Returns:
        Four random words of each, as the counters are.
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
    """A random number above 0 and below 1 for each pair of a text and a token at a position of the texts, [n].

    Args:
        seed: at least 0 and below 2**64.
        texts, tokens: their numbers, at least 0 and below 2**32, [n].
    """
    first, second, third, fourth = (np.asarray(word, dtype=np.uint64) for word in (tokens, position, texts, 0))
    words = philox((first, second, third, fourth), (seed & WORD, seed >> 32))
    # 52 bits and a half: one bit more, and the largest would be rounded to 1
    return (((words[1] << np.uint64(32) | words[0]) >> np.uint64(12)) + 0.5) / 2.0**52


def seed_of(seed: int, *about: str) -> int:
    """A seed of its own for what the words tell, below 2**64: texts of one seed about two people have nothing alike."""
    return int.from_bytes(hashlib.sha256("\0".join([str(seed), *about]).encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: above 0; logits are divided by it.
        top_p: above 0, at most 1. Tokens are drawn from the nucleus: the likeliest ones, until they have this share of
            the probability together. Of equally likely tokens those of lower ids count as likelier.
        seed: at least 0, below 2**64.

    Raises:
        ValueError: for values out of these ranges.
    """

    temperature: float
    top_p: float
    seed: int

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 < self.top_p <= 1 and 0 <= self.seed < SEEDS):
            raise ValueError(f"{self}: temperature is above 0, top_p above 0 and at most 1, seed from 0 to 2**64 - 1")

    def draw(self, logits: Tensor, texts: list[int], position: int) -> Tensor:
        """Next token of each row, [batch]; a row's depends on no other row.

        Args:
            logits: [batch, vocabulary]; -inf for tokens that cannot be, not for all of a row.
            texts: the number of each row's text.
            position: how many tokens of the texts have been drawn before.
        """
        log_probs = (logits.double() / self.temperature).log_softmax(-1)
        # what is less likely is in no nucleus: all such tokens together have less than what is left out
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
    """Values of each row from the first to the last; each has some.

    Args:
        rows: of each value, in order, [n].
    """
    return np.split(values, np.flatnonzero(np.diff(rows)) + 1)


def in_nucleus(log_probs: np.ndarray, top_p: float) -> np.ndarray:
    """Which tokens of a distribution are in the nucleus: those before which less than ``top_p`` lies, [n].

    Args:
        log_probs: from high to low, [n].
    """
    before = np.cumsum(np.exp(log_probs))
    return np.concatenate([[True], before[:-1] < top_p])
