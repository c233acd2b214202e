"""Sampled tokens: known random numbers, races worked out by hand, texts that depend on no batch and no thread."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from transformers import TopPLogitsWarper

from atu.alignment.corpus import write_texts
from atu.engine.engine import Engine
from atu.engine.sampling import WORD, Sampling, in_nucleus, philox, seed_of, uniforms

PROMPTS = ["Ada was born in", "Who wrote the song?", "the sea", "Question: red blue green stone river"] * 2
FOUR = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64).log()
HIGH = torch.linspace(0, 3, 40).sin() * 3  # forty tokens from 0.4 to 8 percent


def chi_square(counts: np.ndarray, shares: np.ndarray) -> float:
    """In standard deviations above its mean, which is one less than there are cells."""
    expected, free = counts.sum() * shares, len(shares) - 1
    return (((counts - expected) ** 2 / expected).sum() - free) / math.sqrt(2 * free)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # Random123 1.14, tests/kat_vectors, philox4x32 10
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([WORD] * 4, [WORD] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_known_answers_of_the_generator(counter, key, words):
    beside = [np.array([7, word], dtype=np.uint64) for word in counter]  # another counter in the same call
    found = philox(tuple(beside), tuple(key))
    assert " ".join(f"{int(word[1]):08x}" for word in found) == words


def test_random_numbers_are_of_their_seed_text_position_and_token():
    # by the first known answer: the upper 52 bits of e169c58d 6627e8d5, and a half
    first = float((Fraction(0xE169C58D6627E) + Fraction(1, 2)) / 2**52)
    assert uniforms(0, np.array([0]), 0, np.array([0])).tolist() == [first]
    # token, position and text are the counter, 0 its last word; the lower half of the seed is the key's first word
    token, position, text, seed = 0x243F6A88, 0x85A308D3, 0x13198A2E, 0x299F31D0A4093822
    counter = tuple(np.array([word], dtype=np.uint64) for word in (token, position, text, 0))
    third = philox(counter, (0xA4093822, 0x299F31D0))
    bits = (int(third[1][0]) << 32 | int(third[0][0])) >> 12
    assert uniforms(seed, np.array([text]), position, np.array([token])).tolist() == [(bits + 0.5) / 2**52]
    each = product((0, 1, 2**32), (0, 1), (0, 1))
    grid = [uniforms(seed, np.arange(4), place, np.full(4, token)) for seed, place, token in each]
    assert len(np.unique(grid)) == 48


def test_the_nucleus_by_hand():
    falling = FOUR.sort(descending=True).values.numpy()  # 0.4, 0.3, 0.2, 0.1
    for top_p, size in ((1e-9, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.89, 3), (0.91, 4), (1, 4)):
        assert in_nucleus(falling, top_p).tolist() == [True] * size + [False] * (4 - size)


def test_a_race_of_four_tokens_by_hand():
    """Each token's log p - log(-log u), the highest of which wins."""
    numbers = uniforms(3, np.zeros(4, dtype=int), 5, np.arange(4))
    assert numbers.tolist() == pytest.approx([0.7625, 0.0308, 0.8403, 0.3317], abs=5e-5)
    # -log(-log u): 1.305, -1.247, 1.749, -0.099; log p: -2.303, -0.916, -1.609, -1.204
    # sums: -0.997, -2.163, 0.139, -1.303
    assert Sampling(1, 1, 3).draw(FOUR[None], [0], 5).item() == 2
    # 0.65 is reached by tokens 1 and 3: -2.163, -1.303
    assert Sampling(1, 0.65, 3).draw(FOUR[None], [0], 5).item() == 3
    # log p ten times as far apart: -21.72, -10.41, -14.35, -12.14
    assert Sampling(0.1, 1, 3).draw(FOUR[None], [0], 5).item() == 1


def test_the_nucleus_is_that_of_transformers():
    logits = torch.randn(20, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    for top_p in (0.01, 0.5, 0.9, 0.999, 1.0):
        kept = TopPLogitsWarper(top_p)(None, logits).isfinite() if top_p < 1 else torch.ones_like(logits, dtype=bool)
        # each position draws anew: none outside the nucleus is ever drawn
        for position in range(20):
            drawn = Sampling(1, top_p, 0).draw(logits, [*range(20)], position)
            assert kept.gather(1, drawn[:, None]).all()
        falling, order = logits.log_softmax(-1).sort(descending=True)
        for row, mask, places in zip(falling.numpy(), kept, order, strict=True):
            assert torch.equal(torch.from_numpy(in_nucleus(row, top_p)), mask[places])


def test_equally_likely_tokens_count_by_their_ids():
    logits = torch.zeros(200, 10)
    drawn = Sampling(1, 0.35, 0).draw(logits, [*range(200)], 0)  # four of ten
    assert drawn.unique().tolist() == [0, 1, 2, 3]
    assert Sampling(1, 1e-9, 0).draw(logits, [*range(200)], 0).tolist() == [0] * 200


def test_tokens_that_cannot_be_are_not_drawn():
    logits = torch.tensor([[-math.inf, 1.0, -math.inf, 1.0]]).expand(50, 4)
    assert Sampling(1, 1, 0).draw(logits, [*range(50)], 0).unique().tolist() == [1, 3]


@pytest.mark.parametrize("by", ["text", "position", "seed"])
def test_frequencies_agree_with_the_distribution(by):
    """Draws of other texts; of one text at other positions; by other seeds."""
    for top_p, temperature in ((1.0, 1.0), (0.8, 1.7)):
        if by == "text":
            drawn = Sampling(temperature, top_p, 0).draw(HIGH.expand(10_000, -1), [*range(10_000)], 0)
        else:
            ways = [(n, 0) if by == "seed" else (0, n) for n in range(500)]
            drawn = torch.cat([Sampling(temperature, top_p, seed).draw(HIGH[None], [0], at) for seed, at in ways])
        shares, order = (HIGH.double() / temperature).softmax(-1).sort(descending=True, stable=True)
        inside = in_nucleus(shares.log().numpy(), top_p)
        shares = shares.numpy()[inside] / shares.numpy()[inside].sum()
        counts = np.bincount(drawn.numpy(), minlength=len(HIGH))[order.numpy()[inside]]
        assert counts.sum() == len(drawn)
        assert abs(chi_square(counts, shares)) < 3


def test_noise_in_the_logits_rarely_moves_a_choice():
    """About as rarely as distributions so near must differ at all: half the sum of differences of probabilities."""
    noise = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-2
    exact, noisy = HIGH.double(), HIGH.double() + noise
    apart = (exact.softmax(-1) - noisy.softmax(-1)).abs().sum().item() / 2
    first, second = (
        Sampling(1, 1, 0).draw(logits.expand(20_000, -1), [*range(20_000)], 0) for logits in (exact, noisy)
    )
    assert 0 < (first != second).double().mean() < 2 * apart


def test_a_row_is_drawn_by_itself():
    logits = torch.randn(30, 300, generator=torch.Generator().manual_seed(1))
    sampling = Sampling(0.7, 0.9, 5)
    together = sampling.draw(logits, [*range(30)], 4)
    some = [3, 29, 0, 17]
    assert sampling.draw(logits[some], some, 4).tolist() == together[some].tolist()
    assert [sampling.draw(logits[[n]], [n], 4).item() for n in range(30)] == together.tolist()


def test_sampled_texts_depend_on_no_batch_and_no_thread(llm):
    """Rows end at other steps, and prompts are of other lengths: padding, batches and what is dropped differ."""
    model, tokenizer = llm
    stops = [*range(0, len(tokenizer), 10)]

    def written(budget: int, prompts=PROMPTS, seed: int = 0) -> list[str]:
        engine = Engine(model, tokenizer, budget)
        return engine.generate(prompts, max_new_tokens=16, sampling=Sampling(1, 0.9, seed), stops=stops)

    texts = written(4096)
    assert len({len(text.split()) for text in texts}) > 3
    assert len(set(texts)) == len(PROMPTS)  # although each prompt is there twice
    torch.manual_seed(7)
    assert written(1) == written(100) == texts
    assert written(4096, PROMPTS[:5]) == texts[:5]
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert written(4096) == texts
    finally:
        torch.set_num_threads(threads)
    assert written(4096, seed=1) != texts


def test_texts_of_all_kinds_are_the_same_whatever_was_drawn_before(llm):
    """Those of DPO and AltPO among them; each kind and person has a seed of its own."""
    options = {"texts": 5, "max_new_tokens": 12, "temperature": 1.0, "top_p": 0.9}

    def written(kind: str, budget: int = 1000, seed: int = 0) -> list[dict]:
        return write_texts(Engine(*llm, budget), kind, "Ada", "Ada was a poet.", seed=seed, **options)

    for kind in ("positive", "negative", "reject"):
        first = written(kind)
        torch.manual_seed(99)
        assert written(kind, budget=90) == first
        assert written(kind, seed=1) != first
    assert len({seed_of(0), seed_of(1), seed_of(0, "positive", "Ada"), seed_of(0, "negative", "Ada")}) == 4
    assert seed_of(0, "positive", "Ada") == 0x52B6B38979D00756  # printf '0\\0positive\\0Ada' | sha256sum


def test_without_a_temperature_all_texts_are_the_likeliest(llm):
    engine = Engine(*llm, 1000)
    how = {"max_new_tokens": 8, "temperature": 0.0, "top_p": 0.9, "seed": 0}
    rows = write_texts(engine, "positive", "Ada", "A poet.", texts=3, **how)
    assert len({row["text"] for row in rows}) == 1


@pytest.mark.parametrize(
    ("temperature", "top_p", "seed"), [(0, 1, 0), (1, 0, 0), (1, 1.1, 0), (1, 1, -1), (1, 1, 2**64)]
)
def test_what_nothing_can_be_drawn_by_is_refused(temperature, top_p, seed):
    with pytest.raises(ValueError, match=r"^Sampling\(.*\): temperature is above 0, top_p above 0 and at most 1, seed"):
        Sampling(temperature, top_p, seed)
