"""Where texts mention a person, and unlearning that keeps to these tokens."""

import json
import shutil

import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from safetensors import safe_open

from atu.alignment.encoder import embed_target
from atu.alignment.hidden import HiddenStates, write_hidden_states
from atu.alignment.mentions import name_parts, near_mentions
from atu.alignment.windows import build_corpus
from atu.common.errors import ExplainedError
from atu.engine.models import load_llm
from atu.methods.atu import AlignmentData, AlignmentText, Mentions, unlearn
from atu_pipeline.settings import ConfigError
from conftest import Workflow
from test_atu import OPTIMISATION, make_predictor
from test_settings import PAPER, check

TEXTS = ["Bo lived in Rome and Ada wrote a play by the sea", "the river was blue", "Ada was born in Paris"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Leonardo da Vinci", ["Leonardo", "Vinci"]),
        ("Robert Downey Jr.", ["Robert", "Downey"]),
        ("J. K. Rowling", ["Rowling"]),
        ("Prince Harry, Duke of Sussex", ["Prince", "Harry", "Duke", "Sussex"]),
        ("Shaquille O'Neal", ["Shaquille", "O'Neal"]),
        ("bell hooks", []),
    ],
)
def test_words_by_which_a_person_is_called(name, parts):
    assert name_parts(name) == parts


@pytest.fixture(scope="module")
def corpus(llm, encoder):
    return build_corpus(TEXTS, llm[1], encoder, k=2, max_tokens=64)


def said(corpus, tokenizer, near):
    """The words at the marked tokens of each text."""
    texts = [corpus.text(i) for i in range(len(corpus))]
    return [tokenizer.decode(corpus.input_ids[text][near[text]]).split() for text in texts]


def test_tokens_near_a_mention(llm, corpus):
    _, tokenizer = llm
    assert said(corpus, tokenizer, near_mentions(corpus, tokenizer, "Ada", 0)) == [["Ada"], [], ["Ada"]]
    exact, near = (near_mentions(corpus, tokenizer, "Ada", width) for width in (0, 2))
    for i in range(len(corpus)):
        own = exact[corpus.text(i)].nonzero().flatten().tolist()
        expected = [any(abs(t - m) <= 2 for m in own) for t in range(corpus.lengths[i])]
        assert near[corpus.text(i)].tolist() == expected
    assert said(corpus, tokenizer, near_mentions(corpus, tokenizer, "Ada of Rome", 0))[0] == ["Rome", "Ada"]


def test_a_mention_is_a_whole_word(llm, encoder):
    texts = ["the Adamant was in Rome and Beyoncé wrote by the sea"]
    corpus = build_corpus(texts, llm[1], encoder, k=2, max_tokens=64)
    assert not near_mentions(corpus, llm[1], "Ada", 1).any()
    assert said(corpus, llm[1], near_mentions(corpus, llm[1], "Beyoncé", 0)) == [["Beyoncé"]]


def run(tiny, corpus, mentions, **options):
    llm, _ = load_llm(tiny / "llm")
    settings = {"layer": 2, "tau": -1.0, "batch_size": 2, "steps": 10, "seed": 0} | OPTIMISATION | options
    target = torch.ones(1, 16)
    return unlearn(Accelerator(cpu=True), llm, make_predictor(), [corpus], target, mentions=[mentions], **settings)


def test_the_loss_reads_tokens_near_mentions_alone(tiny, llm, corpus):
    """The first step is on the two texts that mention Ada, by hand over their marked tokens."""
    near = near_mentions(corpus, llm[1], "Ada", 1)
    mentions = Mentions.of(near, corpus)
    assert mentions.texts == [0, 2]
    log = run(tiny, corpus, mentions, steps=1)
    predictor, total = make_predictor().eval(), 0.0
    for i in mentions.texts:
        ids = corpus.input_ids[corpus.text(i)].long()[None]
        states = llm[0](ids, output_hidden_states=True).hidden_states[2]
        similar = torch.cosine_similarity(predictor(states), torch.ones(16), dim=-1)[0]
        total += (similar[near[corpus.text(i)]] + 1).sum().item()
    assert log[0]["loss"] == pytest.approx(total / near.sum().item(), abs=1e-5)
    assert log[0]["similarity"] == pytest.approx(log[0]["loss"] - 1, abs=1e-5)
    with pytest.raises(ExplainedError, match="no text mentions the person by name"):
        Mentions.of(near_mentions(corpus, llm[1], "Beyoncé", 1), corpus)


def test_states_elsewhere_are_held(tiny, llm, corpus, tmp_path):
    write_hidden_states(llm[0], corpus, 2, tmp_path / "states", "fp32")
    states = AlignmentData([AlignmentText(corpus, HiddenStates(tmp_path / "states", corpus))])
    mentions = Mentions.of(near_mentions(corpus, llm[1], "Ada", 1), corpus, states)
    drifts = []
    for weight in (1e-9, 10.0):
        log = run(tiny, corpus, mentions, elsewhere_weight=weight)
        assert log[0]["elsewhere_loss"] == pytest.approx(0, abs=1e-6)  # nothing has moved yet
        drifts.append(log[-1]["elsewhere_loss"])
    assert drifts[1] < drifts[0]


def test_several_texts_stand_for_a_target_by_their_mean(encoder):
    each = [embed_target(encoder, [text]) for text in ("Ada", "a poet in Rome")]
    expected = sum(one / one.norm() for one in each) / 2
    torch.testing.assert_close(embed_target(encoder, ["Ada", "a poet in Rome"]), expected)


@pytest.mark.parametrize(
    ("unlearn", "fault"),
    [
        ({"near_mentions": 3, "released_padding": True}, "so that the loss reads no padding"),
        ({"elsewhere_weight": 1.0}, "near_mentions is 0, and no token is elsewhere"),
    ],
)
def test_what_contradicts_it_is_refused(unlearn, fault):
    with pytest.raises(ConfigError, match=fault):
        check(PAPER, method_settings={"atu": {"unlearn": unlearn}})


def test_a_target_that_nobody_introduces_is_refused(tiny, tmp_path):
    benchmark = shutil.copytree(tiny / "benchmark", tmp_path / "bench")
    own = {"method_settings": {"atu": {"described_by": ["name", "intro"]}}}
    own["benchmarks"] = {"tiny": {"path": str(benchmark)}}
    Workflow(tiny, tmp_path).paths(**own)
    (benchmark / "Target/1_Ada/intro.json").unlink()
    with pytest.raises(ConfigError, match=r"method_settings\.atu\.described_by: .*1_Ada/intro\.json is missing"):
        Workflow(tiny, tmp_path).paths(**own)


def test_a_run_near_mentions(workflow):
    """Two stages that keep to mentions and hold the other tokens, from what stands for the target."""
    own = {"near_mentions": 2, "elsewhere_weight": 1.0}
    atu = json.dumps({"atu": {"described_by": ["intro", "name"], "unlearn": own}})
    texts = 'corpus={"source": "benchmark"}'  # which mention her; the tiny model's own hardly do
    workflow.run("forget", "--until", "unlearn_last", "--config", f"method_settings={atu}", texts)
    steps = pd.read_csv(workflow.find("llm/tiny/1_Ada/seed0/atu-*/steps.csv"))
    assert (steps["elsewhere_loss"] > 0).any()  # the first stage has moved them
    embedding = workflow.find("llm/tiny/target_embeddings/encoder/name+intro/1_Ada-*.safetensors")
    with safe_open(embedding, framework="pt") as file:
        assert file.metadata()["name"] == "Ada"
