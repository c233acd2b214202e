"""Published numbers beside ours, by numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from atu.data.probe_sets import PROBE_SETS
from atu.reporting.published import (
    compare,
    intervals,
    measure,
    probe_scores,
    published_page,
    resampled,
    sentences,
    shares_of_rows,
)
from atu.reporting.tables import HEADINGS
from atu_pipeline.recipes import Recipes
from atu_pipeline.settings import published_row, unlike
from conftest import ROOT
from test_settings import PAPER, check


def predictions(scores, name="forget_qa", query="", split="test"):
    rows = [(name, f"{name}/{i}", split, f"{query}{i}", score) for i, score in enumerate(scores)]
    return pd.DataFrame(rows, columns=["set", "id", "split", "query", "score"])


def test_probes_are_averaged_over_seeds():
    seeds = [predictions([1.0, 0.0]), predictions([0.0, 0.0])]
    assert probe_scores(seeds)["score"].tolist() == [0.5, 0.0]
    assert probe_scores([predictions([1.0], split="dev")]).empty


def test_an_interval_by_hand():
    """Two targets without spread among their probes: a resample holds one, both or the other."""
    targets = [probe_scores([predictions([value] * 3, query=name)]) for name, value in (("a", 0.2), ("b", 0.8))]
    row = intervals(targets, 2000, 0).iloc[0]
    assert row["metric"] == "forget_qa"
    assert row[["ours", "low", "high"]].tolist() == pytest.approx([50, 20, 80])
    assert row[["targets", "probes"]].tolist() == [2, 6]
    # one target: its probes alone; of four answers two are right, the mean of four draws has deviation 0.25
    one = intervals([probe_scores([predictions([0, 0, 1, 1])])], 4000, 0).iloc[0]
    assert one[["ours", "low", "high"]].tolist() == [50, 0, 100]
    # no spread at all: the interval is a point
    assert intervals([probe_scores([predictions([1, 1])])], 100, 0).iloc[0][["low", "high"]].tolist() == [100, 100]


def test_weighted_means_as_in_the_main_table():
    target = pd.concat([predictions([value], name) for name, value in (("neighbor_fb", 1.0), ("neighbor_qa", 0.0))])
    table = intervals([probe_scores([target])], 10, 0).set_index("metric")
    sizes = [PROBE_SETS[name].total for name in ("neighbor_fb", "neighbor_qa")]
    assert table.loc["neighbor_all", "ours"] == pytest.approx(100 * sizes[0] / sum(sizes))
    # a target that was not asked one of them has no such mean, and no weight in it
    both = intervals([probe_scores([target]), probe_scores([predictions([0.0], "neighbor_fb", "x")])], 50, 0)
    both = both.set_index("metric")
    assert both.loc["neighbor_all", ["ours", "targets"]].tolist() == pytest.approx([100 * sizes[0] / sum(sizes), 1])
    assert both.loc["neighbor_fb", ["ours", "targets"]].tolist() == pytest.approx([50, 2])


def test_membership_is_scaled_as_in_the_tables():
    assert intervals([probe_scores([predictions([-2.0], "mia_fm")])], 5, 0).iloc[0]["ours"] == pytest.approx(200)


def test_probes_that_targets_share_are_drawn_once():
    """With the same two probes in both targets a resample that draws one of them draws it for both."""
    chosen = np.array([[0, 1]] * 200)
    shared = [predictions([0, 1], "utility_gen"), predictions([0, 1], "utility_gen")]
    draws = resampled(shared, chosen, np.random.default_rng(0))
    assert (draws[:, 0] == draws[:, 1]).all()
    own = [predictions([0, 1], query="a"), predictions([0, 1], query="b")]
    draws = resampled(own, chosen, np.random.default_rng(0))
    assert (draws[:, 0] != draws[:, 1]).any()


PUBLISHED = pd.DataFrame(
    [
        ("llm", "Before", "forget_qa", 47.4, "RWKU Table 2"),
        ("llm", "ATU (tau=0.2)", "forget_qa", 30.0, "paper-notes"),
        ("llm", "ATU (tau=0.2)", "utility_gen", 64.5, "paper-notes"),
        ("llm", "GA (Full)", "forget_qa", 19.0, "RWKU Table 2"),
        ("other", "Before", "forget_qa", 99.0, "RWKU Table 1"),
    ],
    columns=["model", "method", "metric", "value", "source"],
)
FRAMES = {("before",): predictions([0.5] * 4), ("after",): predictions([0.25] * 4), ("again",): predictions([0.15] * 4)}


def compared():
    runs = [
        {"target": "1_Ada", "method": "atu", "seed": seed, "stage": stage, "files": [file], "run": run}
        | {"published_row": row}
        for seed, after in ((0, "after"), (1, "again"))
        for stage, file, run, row in ((0, "before", "Before", "Before"), (1, after, "ATU τ=0.2", "ATU (tau=0.2)"))
    ]
    ours = measure(runs, 50, 0, read=lambda files: FRAMES[files])
    gone = pd.DataFrame([("atu", 1, True), ("atu", 1, False)], columns=["method", "stage", "collapsed"])
    return compare(PUBLISHED, ours, "llm", shares_of_rows(runs, gone))


def test_the_comparison_by_hand():
    table = compared().set_index(["published_row", "metric"])
    before = table.loc[("Before", "forget_qa")]
    assert before[["ours", "low", "high", "difference"]].tolist() == pytest.approx([50, 50, 50, 2.6])
    assert before[["status", "outside", "seeds", "second_hand"]].tolist() == ["compared", True, 1, False]
    after = table.loc[("ATU (tau=0.2)", "forget_qa")]
    assert after[["ours", "published", "difference"]].tolist() == pytest.approx([20, 30, -10])
    assert after[["seeds", "collapsed", "second_hand"]].tolist() == [2, 0.5, True]
    assert table.loc[("ATU (tau=0.2)", "utility_gen"), "status"] == "not asked"
    other = table.loc[("GA (Full)", "forget_qa")]
    assert other["status"] == "not run"
    assert other[["ours", "low", "high", "difference", "outside"]].isna().all()
    assert len(table) == 4  # another model's numbers stay out


def test_readers_see_whose_number_is_whose():
    page = published_page(compared())
    assert page["Ours"].tolist() == ["50.0", "20.0"]
    assert page["Published by others"].tolist() == ["47.4", "30.0 ‡"]
    assert page["Outside"].tolist() == ["✗", "✗"]
    assert page["Run"].tolist() == ["Before", "ATU τ=0.2 † 50% collapsed"]
    assert page["Source"].tolist() == ["RWKU Table 2", "paper-notes (second-hand)"]
    said = sentences(compared(), PUBLISHED, "llm", "rwku", "rwku")
    assert said[0].startswith("2 of 2 published numbers lie outside")
    assert "Published, not run here: GA (Full)." in said
    assert f"Published, not asked here: ATU τ=0.2 {HEADINGS['utility_gen']}." in said


def test_a_value_within_the_interval_is_not_marked():
    """Bounds are as precise as what was published: 47.4 is not outside an interval from 47.43."""
    ours = pd.DataFrame([("forget_qa", "", 50.0, 47.43, 52.0, 1, 4, "Before", "Before", 1)])
    ours.columns = ["metric", "reading", "ours", "low", "high", "targets", "probes", "run", "published_row", "seeds"]
    assert not compare(PUBLISHED, ours, "llm", {}).iloc[0]["outside"]


def test_without_an_interval_there_is_no_mark():
    """One probe of one target: a point would look like certainty."""
    one = intervals([probe_scores([predictions([1.0])])], 10, 0).assign(run="Before", published_row="Before", seeds=1)
    assert one[["low", "high"]].isna().all(axis=None)
    table = compare(PUBLISHED, one, "llm", {})
    assert table["outside"].isna().all()
    assert published_page(table)[["95 % interval", "Outside"]].iloc[0].tolist() == ["none", ""]
    assert sentences(table, PUBLISHED, "llm", "rwku", "rwku")[0].startswith("0 of 1 published")


def test_nothing_to_compare_is_a_sentence():
    table = compare(PUBLISHED, measure([], 10, 0), "third", {})
    assert published_page(table).empty
    said = sentences(table, PUBLISHED, "third", "demo", "rwku")
    assert said == ["No published number is of third on demo; those in the file are of llm, other on rwku."]


def test_rows_of_the_published_tables():
    ga = {"method": "ga", "texts": "positive", "layers": "none", "retain": {"loss": "none"}, "lora": {"rank": 0}}
    ga |= {"train": {"epochs": 3}}
    atu = {"method": "atu", "unlearn": {"tau": [0.5, 0.4]}}
    epochs = [None] * 3
    blocks = {
        "ga": ga,
        "ga@1e-06": ga | {"lora": {"rank": 8}},
        "ga_star": ga | {"texts": "passage"},
        "ga-batch": ga,
        "ga-batch@1e-06": ga,
        "rmu": ga | {"method": "rmu"},
        "icu": {"method": "icu"},
        "atu": atu,
        "atu-tau035": atu | {"unlearn": {"tau": [0.5, 0.35]}},
    }
    expected = [
        ("ga", 0, epochs, "Before"),
        ("ga", 2, epochs, None),
        ("ga", 3, epochs, "GA (Full)"),
        ("ga@1e-06", 3, epochs, "GA (LoRA)"),
        ("ga_star", 3, epochs, "GA* (Full)"),
        ("ga-batch", 0, epochs, "Before"),
        ("ga-batch", 3, epochs, None),
        ("ga-batch@1e-06", 3, epochs, None),
        ("rmu", 3, epochs, None),
        ("icu", 1, [None], "ICU"),
        ("atu", 2, [0.5, 0.35], "ATU (tau=0.35)"),
        ("atu-tau035", 2, [0.5, 0.35], "ATU (tau=0.35)"),  # its last one counts
        ("atu-tau035", 1, [0.5, 0.35], None),
    ]
    for method, stage, taus, row in expected:
        assert published_row(method, {"method_settings": blocks}, stage, taus) == row


@pytest.mark.parametrize(
    ("method", "over", "said"),
    [
        ("npo", {}, []),
        ("npo", {"precision": "fp32", "seeds": [7]}, []),
        ("npo", {"train": {"epochs": 1}}, ["method_settings.npo.train.epochs: 1, published 3"]),
        ("npo", {"options": {"beta": 0.1}}, ["method_settings.npo.options.beta: 0.1, published 0.2"]),
        ("ga", {"retain": {"loss": "kl"}}, ["method_settings.ga.retain.loss: kl, published none"]),
        ("rt-lora", {"lora": {"rank": 4}}, ["method_settings.rt-lora.lora.rank: 4, published 8"]),
        ("rt-lora", {"lora": {"modules": ["q_proj", "v_proj"]}}, []),
        ("ga", {"corpus": {"text_set": "positive"}}, ["corpus.text_set: positive, published positive_phi"]),
        ("ga_star", {"corpus": {"text_set": "positive"}}, []),  # which reads passages
        ("dpo", {"corpus": {"source": "generate"}}, ["corpus.source: generate, published benchmark"]),
        ("icu", {"corpus": {"source": "generate"}}, []),
        ("atu", {}, []),
        ("atu", {"encoder": "all-MiniLM-L6-v2"}, ["encoder: all-MiniLM-L6-v2, published all-mpnet-base-v2"]),
        ("atu", {"align": {"steps": 9}}, ["method_settings.atu.align.steps: 9, published 15000"]),
        ("atu", {"unlearn": {"layers": "1-3"}}, ["method_settings.atu.unlearn.layers: 1-3, published none"]),
        ("atu", {"unlearn": {"lora": {"rank": 8}}}, ["method_settings.atu.unlearn.lora.rank: 8, published 0"]),
        ("atu-layer10", {}, ["method_settings.atu-layer10.layer: 10, published 29"]),
        ("npo-first", {}, ["method_settings.npo-first.layers: 0-4, published none"]),
    ],
)
def test_a_run_of_other_settings_is_told(method, over, said):
    """... and does not stand beside the numbers that were published."""
    top = {key: value for key, value in over.items() if key in ("precision", "seeds", "corpus", "encoder")}
    block = {key: value for key, value in over.items() if key not in top}
    known = {"models": {over["encoder"]: PAPER["models"]["all-mpnet-base-v2"]}} if "encoder" in over else {}
    config = check(PAPER, **top, **known, method_settings={method: block})
    taus = Recipes(config).stages(method)
    assert unlike(method, config, taus) == said


@pytest.mark.parametrize(
    ("taus", "same"),
    [([0.9, 0.8], True), ([0.9, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.4, 0.35], True), ([0.2], False), ([0.9, 0.9], False)],
)
def test_a_threshold_is_reached_down_the_published_schedule(taus, same):
    assert bool(unlike("atu", check(PAPER), taus)) != same


def test_the_authors_settings_are_those_of_the_paper():
    assert unlike("atu", check(PAPER), check(PAPER)["method_settings"]["atu"]["unlearn"]["tau"]) == []


def test_the_published_file():
    """One number a model, method and metric, each with a source; every row can be reached by a run of ours."""
    table = pd.read_csv(ROOT / "workflow/benchmarks/published.csv")
    assert not table.duplicated(["model", "method", "metric"]).any()
    assert table.notna().all(axis=None)
    assert set(table["metric"]) <= set(HEADINGS)
    config = check(PAPER)
    blocks, recipes = config["method_settings"], Recipes(config)
    rows = [
        published_row(name, config, stage, recipes.stages(name))
        for name in blocks
        for stage in range(recipes.last(name) + 1)
        if not stage or not unlike(name, config, recipes.stages(name)[:stage])
    ]
    assert set(table["method"]) <= set(rows)
    once = [row for row in rows if row not in (None, "Before")]
    assert len(set(once)) == len(once)  # no two blocks stand for one row
    assert published_row("rt-lora", config, 3, [None] * 3) == "RT (LoRA)"
    batch = {name for name in blocks if name.endswith("-batch")}
    assert len(batch) == 4
    assert not any(
        published_row(name, config, n, recipes.stages(name)) for name in batch for n in (1, recipes.last(name))
    )
