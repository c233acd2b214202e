"""Align-then-Unlearn: losses worked out by hand, causality, padding, seeds."""

import math

import pytest
import torch
from accelerate import Accelerator

from atu.alignment.hidden import HiddenStates, write_hidden_states
from atu.alignment.predictor import EmbeddingPredictor
from atu.alignment.windows import build_corpus
from atu.common.recipe import RecipeError
from atu.engine.models import load_llm
from atu.methods.atu import (
    AlignmentData,
    AlignmentText,
    align,
    align_loss,
    retain_loss,
    stays_below,
    unlearn,
    unlearn_loss,
)

OPTIMISATION = {"optimizer": "adamw", "learning_rate": 1e-2}
TEXTS = [
    "Ada was born in Rome by the sea",
    "Ada wrote a song",
    "Bo painted the red stone in Paris and lived by the river",
]


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


@pytest.fixture(scope="module")
def corpus(llm, encoder):
    return build_corpus(TEXTS, llm[1], encoder, k=2, max_tokens=64)


@pytest.fixture
def data(llm, corpus, tmp_path):
    write_hidden_states(llm[0], corpus, 2, tmp_path / "states")
    return AlignmentData([AlignmentText(corpus, HiddenStates(tmp_path / "states", corpus))])


def make_predictor(**options):
    torch.manual_seed(0)
    return EmbeddingPredictor(32, 16, width=16, layers=2, heads=2, dropout=0.0, **options)


def test_align_loss_by_hand():
    embeddings = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    predicted = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]])  # cosines 1, 0, -1
    assert align_loss(predicted, embeddings, torch.tensor([[True, True, True]])).item() == pytest.approx(1.0)
    assert align_loss(predicted, embeddings, torch.tensor([[True, True, False]])).item() == pytest.approx(0.5)
    assert align_loss(predicted, embeddings, torch.tensor([[False, False, False]])).item() == 0


def test_unlearn_loss_by_hand():
    target = torch.tensor([1.0, 0.0])
    predicted = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [5.0, 0.0]]])  # cosines 1, 0.7071, 0, padding
    mask = torch.tensor([[True, True, True, False]])
    expected = ((1 - 0.5) + (math.sqrt(0.5) - 0.5) + 0) / 3
    assert unlearn_loss(predicted, target, 0.5, mask).item() == pytest.approx(expected, abs=1e-6)
    assert unlearn_loss(predicted, target, 1.0, mask).item() == pytest.approx(0)


def test_losses_of_a_batch_are_means_over_positions():
    torch.manual_seed(0)
    predicted, embeddings = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    mask = torch.ones(2, 5, dtype=torch.bool)
    ones = [align_loss(predicted[i : i + 1], embeddings[i : i + 1], mask[:1]) for i in range(2)]
    torch.testing.assert_close(align_loss(predicted, embeddings, mask), sum(ones) / 2)
    ones = [unlearn_loss(predicted[i : i + 1], embeddings[0, 0], 0.1, mask[:1]) for i in range(2)]
    torch.testing.assert_close(unlearn_loss(predicted, embeddings[0, 0], 0.1, mask), sum(ones) / 2)


def test_retain_loss_by_hand():
    reference = torch.tensor([[[3.0, 4.0], [0.0, 5.0]]])  # squared norms 25, 25
    states = torch.tensor([[[3.0, 3.0], [7.0, 7.0]]])
    assert retain_loss(states, reference, torch.tensor([[True, False]])).item() == pytest.approx(1 / 25)
    assert retain_loss(reference, reference, torch.tensor([[True, True]])).item() == 0


def test_prediction_never_sees_the_future():
    predictor = make_predictor().eval()
    states = torch.randn(1, 6, 32)
    changed = states.clone()
    changed[:, 4:] += 1
    torch.testing.assert_close(predictor(states)[:, :4], predictor(changed)[:, :4])
    assert not torch.allclose(predictor(states)[:, 4:], predictor(changed)[:, 4:])


def test_released_attention_does_see_it():
    """The named option reproduces defect 1 of the released code."""
    predictor = make_predictor(released_attention=True).eval()
    states = torch.randn(1, 6, 32)
    changed = states.clone()
    changed[:, 4:] += 1
    assert not torch.allclose(predictor(states)[:, :4], predictor(changed)[:, :4])


def test_predictor_survives_the_disk(tmp_path):
    predictor = make_predictor().eval()
    predictor.texts = ["of Ada", "of Bo"]
    predictor.save(tmp_path)
    states = torch.randn(2, 3, 32)
    read = EmbeddingPredictor.load(tmp_path, ["of Ada", "of Bo"])
    torch.testing.assert_close(read.eval()(states), predictor(states))
    with pytest.raises(RecipeError, match="was aligned on other texts"):
        EmbeddingPredictor.load(tmp_path, ["of Ada", "of Cy"])


def test_alignment_learns_and_repeats(accelerator, data):
    logs = []
    for _ in range(2):
        logs.append(align(accelerator, make_predictor(), data, batch_size=2, steps=40, seed=3, **OPTIMISATION))
    assert logs[0] == logs[1]
    assert logs[0][-1]["loss"] < 0.7 * logs[0][0]["loss"]


def run_unlearn(accelerator, tiny, corpus, **options):
    llm, _ = load_llm(tiny / "llm")
    target = torch.ones(16)
    settings = {"layer": 2, "tau": -1.0, "batch_size": 2, "steps": 10, "seed": 0} | OPTIMISATION | options
    return llm, unlearn(accelerator, llm, make_predictor(), [corpus], target[None], **settings)


def test_unlearning_lowers_similarity_and_touches_only_lower_layers(accelerator, tiny, corpus, llm):
    changed, log = run_unlearn(accelerator, tiny, corpus)
    assert log[-1]["similarity"] < log[0]["similarity"]
    # tau = -1: loss = similarity + 1
    assert log[0]["loss"] == pytest.approx(log[0]["similarity"] + 1, abs=1e-5)
    before = dict(llm[0].named_parameters())
    for name, after in changed.named_parameters():
        same = torch.equal(after, before[name])
        assert same == ("layers.2." in name or name in ("model.norm.weight", "lm_head.weight")), name


def test_unlearning_repeats_and_depends_on_the_seed(accelerator, tiny, corpus):
    logs = [run_unlearn(accelerator, tiny, corpus, seed=seed)[1] for seed in (0, 0, 1)]
    assert logs[0] == logs[1]
    assert logs[0] != logs[2]


def test_a_stage_may_end_before_its_steps(accelerator, tiny, corpus):
    """Similarities of 0.5, 0.2 and 0.1 have stayed at 0.2 for two steps; a stage that ends early is the head of a whole
    one."""
    log = [{"similarity": value} for value in (0.5, 0.2, 0.1)]
    assert [stays_below(log, 0.2, patience) for patience in (1, 2, 3, 4, 0)] == [True, True, False, False, False]
    whole = run_unlearn(accelerator, tiny, corpus, tau=-1.0)[1]
    reached = whole[4]["similarity"]  # it falls with every step
    early = run_unlearn(accelerator, tiny, corpus, tau=reached, patience=1, retain_weight=0.0)[1]
    assert len(early) < len(whole) == 10
    assert early[-1]["similarity"] <= reached < early[-2]["similarity"]
    assert len(run_unlearn(accelerator, tiny, corpus, tau=-1.0, patience=1)[1]) == 10


def test_padding_changes_nothing(accelerator, tiny, corpus):
    """One step on a padded batch of two equals the mean, over positions, of its texts alone."""
    _, log = run_unlearn(accelerator, tiny, corpus, batch_size=3, steps=1)
    llm, _ = load_llm(tiny / "llm")
    predictor = make_predictor().eval()
    total = 0.0
    for i in range(len(corpus)):
        states = llm(corpus.input_ids[corpus.text(i)].long()[None], output_hidden_states=True).hidden_states[2]
        total += (torch.cosine_similarity(predictor(states), torch.ones(16), dim=-1) + 1).sum().item()
    assert log[0]["loss"] == pytest.approx(total / len(corpus.input_ids), abs=1e-5)


def test_retain_term_holds_other_texts(accelerator, tiny, corpus, data):
    drifts = []
    for weight in (1e-9, 10.0):
        _, log = run_unlearn(accelerator, tiny, corpus, retain=data, retain_weight=weight)
        assert log[0]["retain_loss"] == pytest.approx(0, abs=1e-6)  # nothing has moved yet
        drifts.append(log[-1]["retain_loss"])
    assert drifts[1] < drifts[0]


def test_nan_is_an_error_that_says_what_to_do(accelerator, tiny, corpus):
    with pytest.raises(FloatingPointError, match=r"unlearn: .*not finite at step \d+; lower the learning rate"):
        run_unlearn(accelerator, tiny, corpus, learning_rate=1e30, steps=5)
