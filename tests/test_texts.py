"""Scores of texts: each by hand, on tiny models, and as a part of the workflow; and what is refused."""

import copy
import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from atu.common.errors import ExplainedError
from atu.data.text_scores import perplexity
from atu.engine.engine import Engine
from atu.engine.intervention import Intervention
from atu.evaluation.texts import (
    COLUMNS,
    exact_memorization,
    extraction_strength,
    kl_divergence,
    score_text,
    score_texts,
)
from atu.reporting.tables import ScoreError
from atu.reporting.texts import compare_texts, drawn_means, explained, of_group, read_scores, text_scores_page
from atu_pipeline.demands import demand
from atu_pipeline.inputs import Inputs
from atu_pipeline.paths import Stage
from atu_pipeline.settings import ConfigError, experiment_of
from conftest import Workflow, shared_folder
from test_robustness import ADA, BLOCKS, BO, with_attacks
from test_settings import PAPER, check


def hits(said: str) -> torch.Tensor:
    """x is a hit, . a miss."""
    return torch.tensor([letter == "x" for letter in said])


@pytest.mark.parametrize(
    ("said", "memorized", "extracted"),
    [
        ("xxxx", 1, 1),
        ("....", 0, 0),
        ("xxx.", 0.75, 0),  # greedy decoding ends otherwise than the text, whatever the prefix
        (".xxx", 0.75, 0.75),
        ("x.xx", 0.75, 0.5),
        ("x", 1, 1),
    ],
)
def test_what_is_known_by_heart(said, memorized, extracted):
    assert exact_memorization(hits(said)) == memorized
    assert extraction_strength(hits(said)) == extracted


def logits(*rows: list[float]) -> torch.Tensor:
    """Of probabilities of three tokens, at any height."""
    return torch.tensor(rows).log() + torch.arange(len(rows))[:, None]


BASE = logits([0.5, 0.25, 0.25], [0.25, 0.25, 0.5])
OWN = logits([0.25, 0.25, 0.5], [0.25, 0.25, 0.5])


def test_divergence_by_hand():
    # 0.5 log(0.5 / 0.25) + 0.25 log 1 + 0.25 log(0.25 / 0.5) = 0.25 log 2; and none where the two agree
    assert kl_divergence(BASE, OWN).tolist() == pytest.approx([0.25 * math.log(2), 0])
    lopsided = logits([0.25, 0.125, 0.625])
    other_way = 0.25 * math.log(0.5) + 0.125 * math.log(0.5) + 0.625 * math.log(2.5)
    assert kl_divergence(lopsided, BASE[:1]).tolist() == pytest.approx([other_way])
    assert kl_divergence(BASE[:1], lopsided).item() != pytest.approx(other_way)


def test_what_is_never_said_diverges_by_hand():
    """A token of probability 0 under the base model weighs nothing; one that the model alone rules out is infinite."""
    masked = logits([0.5, 0.5, 0.0])
    assert kl_divergence(masked, masked).tolist() == [0]
    assert kl_divergence(masked, BASE[:1]).tolist() == pytest.approx([0.5 * math.log(2)])
    assert kl_divergence(BASE[:1], masked).tolist() == [math.inf]


def test_the_scores_of_a_text_by_hand():
    found = score_text(OWN, BASE, [0, 2])
    assert found == {
        "exact_memorization": 0.5,  # 2 and 2 are likeliest
        "extraction_strength": 0.5,
        "kl": pytest.approx(0.125 * math.log(2)),
        "log_likelihood": pytest.approx((math.log(0.25) + math.log(0.5)) / 2),
    }
    assert score_text(OWN, None, [0, 2]) == found | {"kl": 0.0}
    assert perplexity(found["log_likelihood"]) == pytest.approx(math.sqrt(8))
    assert (perplexity(-1e4), math.isnan(perplexity(math.nan))) == (math.inf, True)


LONG = "Ada was born in Rome and wrote a song by the sea and lived in Paris by the river."
GROUPS = {
    "own": {ADA: [{"text": LONG}, {"text": "A"}, {"text": "the king of Rome"}]},
    "neutral": {BO: [{"text": "Bo wrote a book"}], "3_Cy": [{"text": "Cy wrote a play by the sea ."}]},
}


def knows(llm) -> Engine:
    """An engine of a model that has learnt a text by heart, all but its beginning."""
    model, tokenizer = copy.deepcopy(llm)
    ids = tokenizer(LONG, return_tensors="pt")["input_ids"]
    labels = ids.masked_fill(torch.arange(ids.shape[1]) < 5, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(15):
        model(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return Engine(model.eval(), tokenizer, 24)


def shortest_prefix(llm, ids: torch.Tensor) -> int:
    """Tokens behind the first one after which transformers' own greedy decoding writes the rest of a text."""
    for start in range(1, ids.shape[1]):
        left = ids.shape[1] - start
        found = llm.generate(ids[:, :start], min_new_tokens=left, max_new_tokens=left, do_sample=False)
        if torch.equal(found, ids):
            return start - 1
    return ids.shape[1] - 1


def test_scores_are_those_of_transformers_one_text_at_a_time(llm):
    engine, base = knows(llm), Engine(*llm, 24)
    table = score_texts(engine, base, GROUPS, 12)
    assert list(table.columns) == COLUMNS
    # a text of one token has no row, and the others keep their numbers
    assert table[["group", "subject", "text"]].to_numpy().tolist() == [
        ["own", ADA, 0],
        ["own", ADA, 2],
        ["neutral", BO, 0],
        ["neutral", "3_Cy", 0],
    ]
    for row in table.itertuples():
        text = GROUPS[row.group][row.subject][row.text]["text"]
        ids = engine.tokenizer(text, truncation=True, max_length=12, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            own, expected = (model(ids).logits[0, :-1].log_softmax(-1) for model in (engine.llm, base.llm))
        assert row.tokens == ids.shape[1] - 1
        assert row.exact_memorization == pytest.approx((own.argmax(-1) == ids[0, 1:]).double().mean().item())
        assert row.extraction_strength == pytest.approx(1 - shortest_prefix(engine.llm, ids) / row.tokens)
        assert row.log_likelihood == pytest.approx(own.gather(1, ids[0, 1:, None]).mean().item(), rel=1e-3)
        assert row.kl == pytest.approx((expected.exp() * (expected - own)).sum(1).mean().item(), rel=1e-3)
    assert table["tokens"].max() == 11
    assert 0 < table["extraction_strength"][0] < 1
    assert (table["kl"] > 0).all()


def test_a_model_beside_itself(llm):
    engine = Engine(*llm, 32)
    alone = score_texts(engine, None, GROUPS, 16)
    pd.testing.assert_frame_equal(score_texts(engine, Engine(*copy.deepcopy(llm), 32), GROUPS, 16), alone)
    assert (alone["kl"] == 0).all()


def test_texts_that_cannot_be_scored_are_told(llm, tiny, tmp_path):
    engine = Engine(*llm, 32)
    with pytest.raises(ExplainedError, match=r"text_scores.short: no text is longer than one token; name other texts"):
        score_texts(engine, None, GROUPS | {"short": {ADA: [{"text": "A"}]}}, 16)
    model, tokenizer = copy.deepcopy(llm)
    model.resize_token_embeddings(len(tokenizer) + 8)
    with pytest.raises(ExplainedError, match=r"vocabulary has 408 tokens, the base model's 400, so .* take its method"):
        score_texts(Engine(model, tokenizer, 32), engine, GROUPS, 16)
    tokenizer.add_tokens(["Rome"])
    with pytest.raises(ExplainedError, match=r"makes other tokens of a text than the base model's, so"):
        score_texts(Engine(model, tokenizer, 32), engine, GROUPS, 16)


def scored(group: str, subject: str, *rows: tuple[int, float, float]) -> pd.DataFrame:
    """A table of scores: tokens, exact memorisation and log-likelihood of each text."""
    return pd.DataFrame(
        {
            "group": group,
            "subject": subject,
            "text": n,
            "tokens": tokens,
            "exact_memorization": memorized,
            "extraction_strength": 0.0,
            "kl": -likelihood / 10,
            "log_likelihood": likelihood,
        }
        for n, (tokens, memorized, likelihood) in enumerate(rows)
    )


BEFORE = scored("own", ADA, (10, 1.0, -1.0), (30, 0.0, -1.0))
DATA = {
    ("a0",): scored("own", ADA, (10, 0.5, -1.0), (30, 0.0, -2.0)),
    ("a1",): scored("own", ADA, (10, 0.1, -3.0), (30, 0.0, -2.0)),
    ("b",): scored("own", BO, (5, 1.0, -4.0)),
    ("base",): BEFORE,
    ("base-b",): scored("own", BO, (5, 0.6, -1.0)),
    ("gone",): BEFORE.head(0),
}
RUNS = [
    {"target": ADA, "seed": 0, "files": ("a0",), "base": ("base",), "foreign": False, "seen": {"own": 1.0}},
    {"target": ADA, "seed": 1, "files": ("a1",), "base": ("base",), "foreign": False, "seen": {"own": 1.0}},
    {"target": BO, "seed": 0, "files": ("b",), "base": ("base-b",), "foreign": True, "seen": {"own": 0.25}},
]


def test_the_table_by_hand():
    runs = [run | {"method": "npo"} for run in RUNS]
    runs += [RUNS[0] | {"method": "mine", "files": ("gone",), "seen": {"own": math.nan}}]
    table = compare_texts(runs, 200, 0, read=DATA.__getitem__)
    assert set(table["method"]) == {"npo"}
    rows = table.set_index("score")
    # over texts and people alike: ((0.3 + 0) / 2 + 1) / 2, and of the base model (0.5 + 0.6) / 2
    exact = rows.loc["exact_memorization"]
    assert (exact["value"], exact["base"]) == (pytest.approx(57.5), pytest.approx(55))
    assert exact["low"] < 57.5 < exact["high"] <= 100
    # of Ada 10 tokens at -2 and 30 at -2, of Bo 5 at -4
    assert rows.loc["kl", "value"] == pytest.approx((0.2 + 0.4) / 2)
    assert rows.loc["perplexity", "value"] == pytest.approx(math.exp(3))
    assert rows.loc["perplexity", "low"] == pytest.approx(math.exp(2))
    assert rows.loc["perplexity", "high"] == pytest.approx(math.exp(4))
    assert (exact["targets"], exact["texts"], exact["foreign"]) == (2, 3, pytest.approx(1 / 3))
    assert exact["seen"] == 0.75
    page = text_scores_page(table, "own", {"npo": {"collapsed": 0.5}})
    assert page["Method"].tolist() == ["base model", "NPO † 50% collapsed"]
    assert page["Exact memorisation %"][0] == "55.0"
    assert page["Perplexity"].tolist() == ["2.72", "20.09 [7.39, 54.60]"]
    assert "† 33% of targets that it has not forgotten" in text_scores_page(table, "own")["Method"][1]


def test_a_run_that_diverged_counts_for_nothing(tmp_path):
    """Its file has no rows, and columns of no type."""
    for name, table in (("a", DATA["a0",]), ("b", pd.DataFrame(columns=COLUMNS))):
        table.to_parquet(tmp_path / f"{name}.parquet")
        DATA["base",].to_parquet(tmp_path / "base.parquet")
    run = RUNS[0] | {"method": "ga", "base": (str(tmp_path / "base.parquet"),)}
    runs = [run | {"seed": seed, "files": (str(tmp_path / f"{name}.parquet"),)} for seed, name in enumerate("ab")]
    found, alone = compare_texts(runs, 200, 0), compare_texts(runs[:1], 200, 0)
    pd.testing.assert_frame_equal(found, alone)
    assert compare_texts(runs[1:], 200, 0).empty


def test_long_texts_weigh_by_their_tokens():
    """10 tokens at -1 and 30 at -2 are -1.75 a token; and so in what is drawn."""
    (run, *_) = RUNS
    table = compare_texts([run | {"method": "ga"}], 500, 0, read=DATA.__getitem__).set_index("score")
    assert table.loc["perplexity", "value"] == pytest.approx(math.exp(1.75))
    assert table.loc["kl", "value"] == pytest.approx(0.175)
    assert table.loc["exact_memorization", "value"] == pytest.approx(25)
    part = of_group([DATA["a0",]], "own", "log_likelihood")
    chosen = np.zeros((200, 1), int)
    drawn = {by_token: np.round(drawn_means([part], chosen, 0, by_token), 6) for by_token in (True, False)}
    # either of the two twice, or each once
    assert set(drawn[True].ravel()) == {-1, -1.75, -2}
    assert set(drawn[False].ravel()) == {-1, -1.5, -2}


def test_a_single_text_has_no_interval_and_a_ruined_model_is_written_short():
    ruined = scored("own", BO, (5, 0.0, -900.0))
    run = RUNS[2] | {"method": "ga"}
    table = compare_texts([run], 100, 0, read=(DATA | {("b",): ruined}).__getitem__)
    assert table["low"].isna().all()
    assert text_scores_page(table, "own")["Perplexity"].tolist() == ["2.72", "inf"]
    spoilt = scored("own", BO, (5, 0.0, -30.0))
    table = compare_texts([run], 100, 0, read=(DATA | {("b",): spoilt}).__getitem__)
    assert text_scores_page(table, "own")["Perplexity"][1] == "1.1e+13"


def test_a_score_that_is_no_number_is_refused(tmp_path):
    BEFORE.assign(kl=[0.1, math.inf]).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ScoreError, match=r"a.parquet: kl of text 1 about 1_Ada is inf, as of 1 texts in all; check"):
        read_scores((str(tmp_path / "a.parquet"),))
    BEFORE.to_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(read_scores((str(tmp_path / "a.parquet"),)), BEFORE)


def test_who_has_read_the_texts_is_said():
    seen = {"ga": 1.0, "rmu": 0.5, "npo": 0.0, "mine": math.nan}
    table = pd.DataFrame([{"method": name, "group": "own", "seen": share} for name, share in seen.items()])
    others = {"texts": "positive", "about": "others", "subjects": 3}
    assert explained(table, "own", others) == (
        "Texts: `positive`, about 3 other people. Read by GA and RMU (50% of them); not known of MINE."
    )
    unread = table[table["method"] == "npo"]
    assert explained(unread, "own", {"texts": "relearn_unrelated", "about": "shared"}) == (
        "Texts: `relearn_unrelated`, about nobody. Read by no method."
    )


# in the workflow

TEXT_GROUPS = {
    "unlearned": {"texts": "positive", "about": "target", "seed": 0},
    "held_out": {"texts": "relearn", "about": "target", "seed": 0},
    "neutral": {"texts": "relearn_unrelated", "about": "shared", "subjects": None, "seed": 0},
    "others": {"texts": "passage", "about": "others", "subjects": 2, "seed": 0},
}
KNOWN = {"targets": [ADA], "methods": ["icu", "repe", "npo-apart"], "shows": ["text_scores"]}


def with_groups(tiny, directory, shown=KNOWN, **over) -> Workflow:
    """The tiny workflow with groups of texts, on a benchmark that has them."""
    workflow = with_attacks(tiny, directory)
    config = json.loads(workflow.config.read_text())
    config |= {"attacks": {}, "text_scores": TEXT_GROUPS, "experiments": {"by_heart": shown}} | over
    config["evaluation"] |= {"before_and_after": ["forget_qa", "neighbor_qa"]}
    config["method_settings"] |= BLOCKS | {"repe": {"options": {"layers": [2]}}}
    workflow.config.write_text(json.dumps(config))
    return workflow


@pytest.fixture(scope="session")
def by_heart(tiny, tmp_path_factory) -> Workflow:
    """A finished experiment with scores of texts; tests only look at it."""
    folder = shared_folder(tmp_path_factory, "by_heart", lambda folder: with_groups(tiny, folder).run("by_heart"))
    return Workflow(tiny, folder)


def scores_of(workflow: Workflow, pattern: str) -> pd.DataFrame:
    return pd.read_parquet(workflow.find(pattern))


def test_kept_models_and_the_base_model_read_all_groups(by_heart):
    base = scores_of(by_heart, "llm/tiny/text_scores/1_Ada-*.parquet")
    assert base.groupby("group", sort=False).size().to_dict() == {
        "unlearned": 6,
        "held_out": 3,
        "neutral": 2,
        "others": 12,
    }
    others = base.loc[base["group"] == "others", "subject"].unique()
    assert len(others) == 2
    assert ADA not in others
    assert (base["kl"] == 0).all()
    # an instruction stands before questions, and no text is one
    pd.testing.assert_frame_equal(scores_of(by_heart, "llm/tiny/1_Ada/seed0/icu-*/text_scores/1_Ada-*.parquet"), base)
    same = ["group", "subject", "text", "tokens"]
    for method in ("repe", "npo"):
        own = scores_of(by_heart, f"llm/tiny/1_Ada/seed0/{method}-*/text_scores/1_Ada-*.parquet")
        pd.testing.assert_frame_equal(own[same], base[same])
        assert (own["kl"] > 0).all(), method


def test_the_scores_are_those_of_the_model_that_is_kept(by_heart, tiny):
    """An adapter that is kept apart is on, and a vector is added: as the library has it."""
    base = Engine.load(tiny / "llm", 400)
    file = by_heart.find("llm/tiny/texts/positive/1_Ada-*.jsonl")
    texts = {"unlearned": {ADA: [json.loads(line) for line in file.read_text().splitlines()]}}
    apart = Engine.load(by_heart.find("llm/tiny/1_Ada/seed0/npo-*/weights"), 400, base=tiny / "llm")
    steering = Intervention.load(by_heart.find("llm/tiny/1_Ada/seed0/repe-*/intervention"))
    steered = Engine.load(tiny / "llm", 400)
    with steering.applied(steered.llm):
        expected = {"npo": score_texts(apart, base, texts, 64), "repe": score_texts(steered, base, texts, 64)}
    for method, table in expected.items():
        found = scores_of(by_heart, f"llm/tiny/1_Ada/seed0/{method}-*/text_scores/1_Ada-*.parquet")
        own = found[found["group"] == "unlearned"].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, table, rtol=1e-3, atol=1e-5)


def test_the_table_of_scores(by_heart):
    tables = by_heart.directory / "results/experiments/by_heart/tables"
    table = pd.read_csv(tables / "text_scores.csv")
    assert table.groupby("method")["group"].unique().map(list).to_dict() == {
        name: list(TEXT_GROUPS) for name in KNOWN["methods"]
    }
    kl = table[table["score"] == "kl"].set_index(["method", "group"])
    assert (kl["base"] == 0).all()
    assert (kl.loc["icu", "value"] == 0).all()
    assert (kl.loc["npo-apart", "value"] > 0).all()
    own = scores_of(by_heart, "llm/tiny/1_Ada/seed0/npo-*/text_scores/1_Ada-*.parquet")
    neutral = own[own["group"] == "neutral"]
    mean = (neutral["log_likelihood"] * neutral["tokens"]).sum() / neutral["tokens"].sum()
    shown = table.set_index(["method", "group", "score"]).loc[("npo-apart", "neutral", "perplexity"), "value"]
    assert shown == pytest.approx(math.exp(-mean))
    page = (tables / "text_scores.md").read_text()
    assert page.count("| base model ") == page.count("| NPO-apart") == 4
    assert "`positive`, about the target. Read by NPO-apart." in page
    assert "`relearn`, about the target. Read by no method." in page
    assert "`passage`, about 2 other people. Read by no method." in page


def test_nothing_is_scored_twice_and_changed_groups_alone(by_heart, tmp_path):
    assert by_heart.planned("by_heart") == {}
    shutil.copytree(by_heart.directory, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    copy = Workflow(by_heart.tiny, tmp_path)
    config = json.loads(copy.config.read_text())
    config["text_scores"]["others"]["seed"] = 1
    copy.config.write_text(json.dumps(config))
    planned = copy.planned("by_heart")
    assert (planned.pop("score_texts_before"), planned.pop("score_texts_after")) == (1, 3)
    assert set(planned) <= {"extract_texts", "text_scores_table", "by_heart"}


@pytest.mark.parametrize(
    ("groups", "experiment", "said"),
    [
        (
            {"mine": {"texts": "poems", "about": "target", "seed": 0}},
            {},
            r"text_scores.mine.texts: 'poems' is not one of",
        ),
        ({"mine": {"texts": "passage", "about": "target"}}, {}, r"text_scores.mine: lacks seed|text_scores.mine.seed"),
        (
            {"mine": {"texts": "passage", "about": "shared", "seed": 0}},
            {},
            r"text_scores.mine.about: shared, and texts is passage; that is relearn_unrelated alone",
        ),
        (
            {"mine": {"texts": "passage", "about": "others", "seed": 0}},
            {},
            r"text_scores.mine.subjects: says of how many others",
        ),
        (
            {"mine": {"texts": "passage", "about": "others", "subjects": 4, "seed": 0}},
            {},
            r"text_scores.mine.subjects: 4, and besides the target the benchmark has 3; set it lower",
        ),
        (
            {},
            {"targets": ["3_Cy"]},
            r"text_scores.held_out: .*3_Cy/relearn.json is missing; write it, or take text_scores.held_out out",
        ),
        (
            {"mine": {"texts": "relearn", "about": "others", "subjects": 3, "seed": 0}},
            {},
            r"text_scores.mine: .*_Cy/relearn.json is missing",
        ),
        ({}, {"shows": ["text_score"]}, r"experiments.by_heart.shows: unknown 'text_score'; did you mean text_scores"),
    ],
)
def test_what_a_group_of_texts_cannot_be(tiny, tmp_path, monkeypatch, groups, experiment, said):
    monkeypatch.chdir(tmp_path)
    workflow = with_groups(tiny, tmp_path, KNOWN | experiment, text_scores=TEXT_GROUPS | groups)
    with pytest.raises(ConfigError, match=said) as fault:
        experiment_of("by_heart", workflow.paths().config)
    assert len(str(fault.value).splitlines()) == 1


def test_an_experiment_without_groups_is_told():
    config = check(PAPER) | {"text_scores": {}}
    with pytest.raises(ConfigError, match=r"robustness.shows: text_scores, and there are no groups; name some in text"):
        experiment_of("robustness", config)


def test_a_benchmark_of_the_hub_lacks_texts_and_models_a_context(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = {"texts": "relearn", "about": "target", "seed": 0}
    with pytest.raises(
        ConfigError, match=r"text_scores.mine: reads relearn.json, which a benchmark of the hub does not"
    ):
        experiment_of("robustness", check(PAPER, text_scores={"mine": mine}))
    monkeypatch.setattr("atu_pipeline.settings.texts.described_model", lambda config: {"context": 128})
    with pytest.raises(ConfigError, match=r"corpus.max_tokens: 256 tokens do not fit into the model's context of 128"):
        experiment_of("robustness", check(PAPER))


def test_what_a_run_has_read_is_known(tiny, tmp_path, monkeypatch):
    """The texts that it forgets, those of its retain set, and those that an earlier run of a sequence has forgotten."""
    monkeypatch.chdir(tmp_path)
    groups = TEXT_GROUPS | {"retained": {"texts": "positive", "about": "others", "subjects": 3, "seed": 0}}
    blocks = {"ga": {}, "graddiff": {"other_subjects": 2}, "dpo": {}, "mine": {"method": "external", "model": "mine"}}
    blocks["mine"]["forgot"] = [ADA]
    workflow = with_groups(tiny, tmp_path, text_scores=groups)
    models = {"mine": {"source": "path", "path": str(tiny / "llm")}}
    inputs = Inputs(workflow.paths(method_settings=blocks, models=models))

    def seen(target, method, person=ADA):
        return inputs.seen(Stage(target, method, "0", inputs.recipes.last(method)), person)

    none = dict.fromkeys(groups, 0)
    assert seen(ADA, "ga") == seen(ADA, "dpo") == none | {"unlearned": 1}
    assert seen(ADA, "graddiff") == none | {"unlearned": 1, "retained": pytest.approx(2 / 3)}
    assert seen(ADA, "atu") == none | {"unlearned": 1, "retained": pytest.approx(2 / 3)}
    assert seen(ADA, "icu") == none
    assert all(math.isnan(share) for share in seen(ADA, "mine").values())
    assert seen(ADA, "ga", BO) == none | {"retained": pytest.approx(1 / 3)}
    first, second = inputs.recipes.groups.sequence([ADA, BO])
    assert first == ADA
    assert seen(second, "ga") == seen(second, "ga", BO) == none | {"unlearned": 1, "retained": pytest.approx(1 / 3)}


def test_what_jobs_need():
    """The base model stands beside what is kept: its weights and its logits once more; batches come in turn."""
    config = check(PAPER)
    before, after = (demand(f"score_texts_{when}", config) for when in ("before", "after"))
    assert (after.flop, after.moved) == (2 * before.flop, 2 * before.moved)
    assert after.device - before.device == pytest.approx(2 * 3.82e9 + 3 * 4 * 32064 * 256)
    assert after.copies == before.copies == 2 * 3.82e9
    # five subjects' texts: of the target two kinds, of others three; 500 texts of 256 tokens each
    assert before.flop == 2 * 3.82e9 * 5 * 500 * 256
    assert before.device > after.device - before.device
