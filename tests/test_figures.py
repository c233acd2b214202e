"""Tables and figures of long tables that are complete, sparse or have several methods."""

import html
import itertools
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from atu.common.errors import DivergedError, ExplainedError
from atu.evaluation.earlier import ASKED
from atu.reporting.figures import FIGURES, save_figure
from atu.reporting.hover import with_titles
from atu.reporting.tables import (
    choose_rates,
    find_collapsed,
    find_diverged,
    find_fallen,
    find_unreached,
    half_width,
    main_table,
    mark_damaged,
    remark,
    to_latex,
    why_collapsed,
    without_unchosen,
)

METRICS = ("forget_qa", "forget_aa", "neighbor_qa", "utility_gen", "utility_flu")


def long_table(metrics=METRICS, schedules=None, targets=("1_Ada", "2_Bo")):
    rows = []
    for method, taus in (schedules or {"atu": [0.2, 0.0]}).items():
        for (stage, tau), target, metric in itertools.product(enumerate([None, *taus]), targets, metrics):
            value = 90.0 - 10 * stage - 20 * (target == "2_Bo")
            rows.append(("llm", "demo", target, method, stage, tau, "test", metric, value, 4, 0))
    names = ["model", "benchmark", "target", "method", "stage", "tau", "split", "metric", "value", "n", "seed"]
    return pd.DataFrame(rows, columns=names)


TABLES = {
    "complete": long_table(),
    "two methods of other schedules": long_table(schedules={"atu": [0.2, 0.1, 0.2], "atu-x": [0.5]}),
    "epochs beside thresholds": long_table(schedules={"atu": [0.2, 0.0], "ga": [None] * 3, "icu": [None]}),
    "no neighbours, no utility": long_table(metrics=("forget_qa",)),
    "utility of zero": long_table().assign(value=0.0),
    "dev probes alone": long_table().assign(split="dev"),
}


# What the stages of each method are called, and what is known of the one target that counts, by stage.
THRESHOLDS = {"ATU": ["before", "0.2", "0"]}
STAGES = {
    "complete": THRESHOLDS,
    "two methods of other schedules": {
        "ATU": ["before", "0.2 (stage 1)", "0.1", "0.2 (stage 3)"],
        "ATU-x": ["before", "0.5"],
    },
    "epochs beside thresholds": THRESHOLDS | {"GA": ["before", "1", "2", "3"], "ICU": ["before", "1"]},
    "no neighbours, no utility": THRESHOLDS,
    "utility of zero": THRESHOLDS,
}
VALUES = [90, 80, 70, 60]


def expected(table: str, stages: list[str], kind: str = "forget") -> list[float]:
    """Values of a method's stages; none where a figure has nothing to draw."""
    if (table == "no neighbours, no utility" and kind != "forget") or (
        table == "utility of zero" and kind == "utility"
    ):
        return []
    values = [0 if table == "utility of zero" else value for value in VALUES[: len(stages)]]
    return [pytest.approx(100 * value / 90) for value in values] if kind == "utility" else values


def draw(name: str, table: str):
    """A figure of a table whose stages 2 have all collapsed."""
    long = TABLES[table]
    collapsed = long.loc[long["stage"] > 0, ["target", "method", "seed", "stage"]].drop_duplicates()
    figure = FIGURES[name](long, ["2_Bo"], collapsed.assign(collapsed=collapsed["stage"] == 2))
    figure.canvas.draw()
    plt.close(figure)
    return figure


def curves(axis) -> list[tuple[str, list, list]]:
    """Label, x and y of each curve."""
    lines = [line for line in axis.lines if line.get_marker() != "x"]
    return [(line.get_label(), line.get_xdata().tolist(), line.get_ydata().tolist()) for line in lines]


def crosses(axis) -> list[tuple[float, float]]:
    """Points that are crossed out."""
    return [point for line in axis.lines if line.get_marker() == "x" for point in line.get_xydata().tolist()]


def texts(artists) -> list[str]:
    return [artist.get_text() for artist in artists]


@pytest.mark.parametrize("name", ["tradeoff", "stages", "targets"])
def test_a_figure_without_test_probes_says_so(name):
    (axis,) = draw(name, "dev probes alone").axes
    assert texts(axis.texts) == ["No test probe was asked."]
    assert not axis.lines and not axis.patches


@pytest.mark.parametrize("table", STAGES)
def test_what_is_kept_while_a_method_forgets(table):
    figure = draw("tradeoff", table)
    assert texts(figure.legends[0].get_texts()) == list(STAGES[table])
    panels = {"kept": "neighbour QA recall", "utility": "utility kept"}
    for axis, (kind, label) in zip(figure.axes, panels.items(), strict=True):
        drawn = {method: expected(table, stages, kind) for method, stages in STAGES[table].items()}
        forget = {method: expected(table, STAGES[table][method])[: len(y)] for method, y in drawn.items()}
        assert curves(axis) == [(method, forget[method], y) for method, y in drawn.items()]
        assert crosses(axis) == [[forget[method][2], y[2]] for method, y in drawn.items() if len(y) > 2]
        assert axis.get_ylabel().startswith(label)
        assert axis.get_xlabel() == "forget QA recall, % (lower is better)"
        assert (axis.get_xlim(), axis.get_ylim()) == ((108, -4), (-4, 112))
        named = [f"τ={stage}" for stages in STAGES[table].values() for stage in stages[1:]]
        assert texts(axis.texts) == (["before", *named] if len(drawn) < 3 and drawn["ATU"] else [])


@pytest.mark.parametrize("table", STAGES)
def test_the_stages_of_each_method(table):
    figure = draw("stages", table)
    parts = {"forget": ["QA", "AA"], "kept": ["QA"], "utility": ["GEN", "FLU"]}
    if table == "no neighbours, no utility":
        parts["forget"] = ["QA"]
    panels = itertools.product(STAGES[table].items(), parts.items())
    for axis, ((method, stages), (kind, names)) in zip(figure.axes, panels, strict=True):
        y = expected(table, stages, kind)
        assert curves(axis) == [(name, list(range(len(stages))), y) for name in names if y]
        assert crosses(axis) == [[2, y[2]] for _ in names if len(y) > 2]
        assert texts(axis.legend_.get_texts() if axis.legend_ else []) == [name for name in names if y]
        assert texts(axis.get_xticklabels()) == stages
        assert axis.get_xlabel() == ("stage, by τ" if method.startswith("ATU") else "stage")
        assert axis.get_ylim() == (0, 108)
        titled = len(STAGES[table]) > 1 and kind == "forget"
        assert axis.get_title("left") == (method if titled else "")


@pytest.mark.parametrize("table", STAGES)
def test_every_target_before_and_after(table):
    figure = draw("targets", table)
    assert texts(figure.legends[0].get_texts()) == ["before", "after"]
    panels = itertools.product(STAGES[table].items(), ("forget QA", "forget AA", "neighbour QA"))
    for axis, ((method, stages), title) in zip(figure.axes, panels, strict=True):
        there = table != "no neighbours, no utility" or title == "forget QA"
        ada = [expected(table, stages)[i] for i in (0, -1)]
        bo = [max(0, value - 20) for value in ada]  # the dev target is shown, and said to be one
        bars = [[bar.get_width() for bar in container] for container in axis.containers]
        wanted = [list(pair) for pair in zip(ada, bo, strict=True)] if there else [[np.nan] * 2] * 2
        np.testing.assert_array_equal(bars, wanted)
        head = f"{method}: " if len(STAGES[table]) > 1 else ""
        assert axis.get_title() == head + title + (" †" if len(stages) > 2 else "")
        assert axis.get_xlabel() == f"recall, % ({'lower' if title.startswith('forget') else 'higher'} is better)"
        assert axis.get_xlim() == (0, 105)
    assert texts(figure.axes[0].get_yticklabels()) == ["Ada", "Bo (dev)"]
    assert figure.axes[0].get_yticks().tolist() == [1, 0]


@pytest.mark.parametrize("table", ["complete", "two methods of other schedules"])
def test_figures_say_of_how_many_targets_and_probes_they_are(table):
    """Four a set and target; of the dev target those that are shown, in the figure of every target."""
    means = "Means over 1 held-out target; test probes: 4 of Forget QA and 4 of Neighbor QA."
    assert [draw(name, table).get_suptitle() for name in ("tradeoff", "stages")] == [means] * 2
    every = "test probes of all targets: 8 of Forget QA, 8 of Forget AA and 8 of Neighbor QA"
    assert draw("targets", table).get_supxlabel() == every


def told(name: str, tmp_path) -> list[str]:
    """What the mouse is told of a figure's points, in the order in which they are drawn."""
    paths = [tmp_path / f"{name}{turn}.svg" for turn in (1, 2)]
    for path in paths:
        save_figure(draw(name, "complete"), [str(path)])
    first, again = (path.read_text("utf-8") for path in paths)
    assert first == again
    return [html.unescape(text) for text in re.findall("<g><title>(.*?)</title><(?:use|path) ", first)]


def test_the_mouse_is_told_what_a_point_is(tmp_path):
    """Four probes a set; of the abilities, which are 90, 80 and 70, in percent of before."""
    panels = [[f"neighbour QA {value}.0 (n=4)" for value in (90, 80, 70)]]
    panels += [[f"utility kept {value} %" for value in ("100.0", "88.9", "77.8")]]
    stages = [
        f"{name}: forget QA {value}.0 (n=4), "
        for name, value in {"ATU, before": 90, "ATU τ=0.2": 80, "ATU τ=0": 70}.items()
    ]
    expected = []
    for kept in panels:
        points = [stage + text for stage, text in zip(stages, kept, strict=True)]
        expected += [*points, f"{points[-1]}, collapsed"]
    assert told("tradeoff", tmp_path) == expected
    by_stage = told("stages", tmp_path)
    assert by_stage[:3] == [
        "ATU, before: Forget QA 90.0 (n=4)",
        *(f"ATU τ={t}: Forget QA {v}.0 (n=4)" for t, v in ((0.2, 80), (0, 70))),
    ]
    assert "ATU τ=0.2: Flu 88.9 % of before (n=4)" in by_stage
    bars = told("targets", tmp_path)
    assert bars[:4] == [f"{name}, before: forget QA {value}.0 (n=4)" for name, value in (("Ada", 90), ("Bo", 70))] + [
        f"{name}, after: forget QA {value}.0 (n=4)" for name, value in (("Ada", 70), ("Bo", 50))
    ]


def test_more_texts_than_points_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        with_titles('<svg xmlns="http://www.w3.org/2000/svg"><g id="told:[&quot;a&quot;]"><g /></g></svg>')


def test_collapsed_points_are_crossed_out():
    collapsed = pd.DataFrame([("1_Ada", "atu", 0, 2, True)], columns=["target", "method", "seed", "stage", "collapsed"])
    figure = FIGURES["tradeoff"](TABLES["complete"], dev_targets=["2_Bo"], collapsed=collapsed)
    curve, cross = figure.axes[0].lines
    assert curve.get_xdata().tolist() == [90, 80, 70]
    assert cross.get_marker() == "x"
    assert cross.get_xdata().tolist() == [70]
    utility = figure.axes[1].lines[0]
    assert utility.get_ydata().tolist() == [100, pytest.approx(100 * 80 / 90), pytest.approx(100 * 70 / 90)]
    plt.close(figure)


def test_layout_by_hand():
    table = main_table(TABLES["complete"], dev_targets=["2_Bo"])
    assert table["Method"].tolist() == ["Before", "ATU τ=0.2", "ATU τ=0"]
    assert table["Targets"].unique().tolist() == [1]  # the dev target is left out
    assert table["Forget QA ↓"].tolist() == [90, 80, 70]
    assert main_table(TABLES["complete"], dev_targets=["1_Ada", "2_Bo"])["Forget QA ↓"].tolist() == [80, 70, 60]
    without = main_table(TABLES["complete"].assign(split="dev"), dev_targets=[])  # dev probes are in no table
    assert without.empty
    assert mark_damaged(without).columns.tolist() == ["Method", "Targets"]


def test_a_row_counts_the_targets_whose_runs_reached_its_stage():
    """Ada's 90, 80 and 70, Bo's 70 and 60: where Bo's run has ended the mean is Ada's alone."""
    long = long_table(metrics=("forget_qa",))
    table = main_table(long[(long["target"] != "2_Bo") | (long["stage"] < 2)], [])
    assert table["Targets"].tolist() == [2, 2, 1]
    assert table["Forget QA ↓"].tolist() == [80, 70, 70]


def test_layout_of_several_seeds():
    """Means 60, 70 and 80 of three seeds: 70 ± 4.303 x 10 / sqrt(3); the model before has no seed."""
    parts = []
    for seed, shift in enumerate((-10, 0, 10)):
        part = long_table(metrics=("forget_qa",), schedules={"atu": [0.2]}, targets=("1_Ada",)).assign(seed=seed)
        part.loc[part["stage"] == 1, "value"] = 70.0 + shift
        parts.append(part)
    parts.append(long_table(("utility_flu",), {"atu": []}, ("1_Ada",)))  # not asked after stage 1
    table = main_table(pd.concat(parts), [])
    assert table["Forget QA ↓"].tolist() == ["90.0", "70.0 ± 24.8"]
    assert table["Flu ↑"].fillna("").tolist() == ["90.0", ""]
    assert table["Seeds"].tolist() == [3, 3]
    assert "Seeds" not in main_table(parts[0], [])
    assert main_table(parts[0], [])["Forget QA ↓"].tolist() == [90.0, 60.0]


def test_a_seed_without_a_value():
    """A run that was stopped: the interval is of the seeds that are there."""
    assert half_width(pd.Series([60.0, 80.0, float("nan")])) == pytest.approx(12.706 * 14.142 / 2**0.5, rel=1e-3)
    assert pd.isna(half_width(pd.Series([60.0])))


def test_a_repeated_tau_keeps_its_row():
    table = main_table(TABLES["two methods of other schedules"], [])
    names = ["Before", "ATU τ=0.2 (stage 1)", "ATU τ=0.1", "ATU τ=0.2 (stage 3)", "ATU-x τ=0.5"]
    assert table["Method"].tolist() == names


def test_the_labels_of_points_do_not_overlap():
    """Also where all points lie on one another, the worst there can be, with more of them than the paper has."""
    schedules = {"atu": [0.9, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.4, 0.3, 0.2, 0.2], "atu-x": [0.0, 0.0]}
    figure = FIGURES["tradeoff"](long_table(schedules=schedules).assign(value=50.0), dev_targets=[])
    figure.canvas.draw()
    for axis in figure.axes:
        boxes = [Text.get_window_extent(text) for text in axis.texts]
        assert len(boxes) == 14
        assert not any(one.overlaps(two) for one, two in itertools.combinations(boxes, 2))
        assert {"τ=0.2 (stage 10)", "τ=0.2 (stage 11)", "τ=0.9"} <= {text.get_text() for text in axis.texts}
    plt.close(figure)


def tried(rate):
    """A variant of a grid."""
    return {"learning_rate": rate, "settings": {"options.beta": [0.1], "train.learning_rate": rate}}


def test_each_attack_has_a_panel_of_its_name():
    rows = [
        (attack, "forget_qa", "recall", step, method, 10.0 * step, 5.0, 60.0, 80.0, 9)
        for attack in ("relearn-target", "relearn-others")
        for method in ("npo", "atu")
        for step in (0, 5)
    ]
    columns = ["attack", "set", "measure", "step", "method", "after", "low", "high", "base_after", "probes"]
    figure = FIGURES["robustness"](pd.DataFrame(rows, columns=columns), [])
    assert [axis.get_title() for axis in figure.axes] == ["relearn-target (n=9)", "relearn-others (n=9)"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["base model", "NPO", "ATU"]


def test_the_rate_is_chosen_on_dev_probes():
    def rows(method, split, forget, neighbor, target="1_Ada"):
        for stage, scale in ((0, 1.0), (1, None)):
            for metric, after in (("forget_qa", forget), ("neighbor_qa", neighbor)):
                value = 80.0 if scale else 80.0 * after
                yield ("llm", "demo", target, method, stage, None, split, metric, value, 4, 0)

    long = pd.DataFrame(
        [
            *rows("ga@1e-06", "dev", 0.9, 1.0),  # keeps all and forgets little: 0.1
            *rows("ga@1e-05", "dev", 0.3, 0.8),  # 0.5
            *rows("ga@0.0001", "dev", 0.0, 0.1),  # 0.1
            *rows("ga@0.0001", "test", 0.0, 1.0),  # test probes play no part
            *rows("ga@1e-06", "dev", 0.0, 1.0, "2_Bo"),  # nor do the others' where there are dev targets
        ],
        columns=long_table().columns,
    )
    grids = {"ga": {f"ga@{rate:g}": tried(rate) for rate in (1e-6, 1e-5, 1e-4)}}
    # one of two runs has collapsed before its last stage: its rate has no score, however well the other one did
    stopped = pd.DataFrame([*rows("ga@1e-05", "dev", 0.0, 1.0, "2_Bo")], columns=long.columns)
    both, left = pd.concat([long, stopped[stopped["stage"] == 0]]), {"ga@1e-05"}
    rates = choose_rates(both, grids, ["1_Ada", "2_Bo"], unreached=left)
    assert rates["score"].isna().tolist() == [False, True, False]
    with pytest.raises(ExplainedError, match="ga: nothing of its grid can be chosen, since at every setting some run"):
        choose_rates(both, {"ga": {"ga@1e-05": tried(1e-5)}}, ["1_Ada", "2_Bo"], unreached=left)
    rates = choose_rates(long, grids, ["1_Ada"])
    assert rates["chosen"].tolist() == [False, True, False]
    assert rates["score"].tolist() == [pytest.approx(0.1), pytest.approx(0.5), pytest.approx(0.1)]
    assert rates["neighbour_kept"].tolist() == [pytest.approx(1.0), pytest.approx(0.8), pytest.approx(0.1)]
    assert rates["forget_left"].tolist() == [pytest.approx(0.9), pytest.approx(0.3), pytest.approx(0.0)]
    assert without_unchosen(long, rates)["method"].unique().tolist() == ["ga@1e-05"]
    assert choose_rates(long, {}, []).empty
    assert rates["settings"].tolist()[1] == "options.beta: [0.1], train.learning_rate: 1e-05"
    assert choose_rates(long, {"npo": {"npo@1e-06": tried(1e-6)}}, []).empty  # an experiment without it
    rates = choose_rates(long, grids, ["1_Ada"], {"ga@1e-05"})  # which would be the best
    assert rates["chosen"].tolist() == [False, False, True]
    assert rates["diverged"].tolist() == [False, True, False]
    assert np.isnan(rates["score"][1])
    rates = choose_rates(long, grids, ["1_Ada"], fallen={"ga@1e-05"})
    assert rates["chosen"].tolist() == [False, False, True]
    assert rates["collapsed"].tolist() == [False, True, False]
    assert rates["score"][1] == pytest.approx(0.5)  # shown, though it cannot be chosen
    assert choose_rates(long, grids, ["1_Ada"], fallen=set(grids["ga"]))["chosen"].tolist() == [False, True, False]
    with pytest.raises(
        DivergedError, match=r"every setting of its grid \(learning rates 1e-06, 1e-05, 0.0001\); .* 1e-07 say"
    ):
        choose_rates(long, grids, ["1_Ada"], grids["ga"])
    with pytest.raises(
        ExplainedError, match="ga: nothing of its grid can be chosen, since no dev probe was known before"
    ):
        choose_rates(long.assign(value=0.0), grids, ["1_Ada"])


def test_settings_at_which_a_judged_run_collapsed():
    """Runs of dev targets judge; where there are none, all do. What is of no grid is nobody's choice."""
    rows = [("1_Ada", "ga@1", False), ("1_Ada", "ga@2", True), ("2_Bo", "ga@1", True), ("1_Ada", "rmu", True)]
    collapsed = pd.DataFrame(rows, columns=["target", "method", "collapsed"])
    grids = {"ga": {"ga@1": tried(1.0), "ga@2": tried(2.0)}}
    assert find_fallen(collapsed, grids, ["1_Ada"]) == {"ga@2"}
    assert find_fallen(collapsed, grids, []) == {"ga@1", "ga@2"}
    assert find_fallen(collapsed.iloc[:0], grids, []) == set()


def test_a_diverged_run_is_known_by_what_its_evaluation_left(tmp_path):
    from atu.evaluation.evaluate import COLUMNS

    files = {name: str(tmp_path / f"{name}.parquet") for name in ("before", "done", "diverged")}
    predictions(6.0, ["Ada"]).to_parquet(files["before"])
    predictions(6.0, ["Ada"]).to_parquet(files["done"])
    nothing = pd.DataFrame(columns=COLUMNS)
    nothing.attrs["diverged"] = "ga: loss not finite at step 2"
    nothing.to_parquet(files["diverged"])
    runs = [
        {"target": "1_Ada", "method": method, "seed": 0, "stage": stage, "files": [files[name]]}
        for method, after in (("ga@0.1", "done"), ("ga@10", "diverged"), ("npo", "diverged"))
        for stage, name in enumerate(("before", after))
    ]
    assert find_diverged(runs, {"ga": {"ga@0.1": tried(0.1), "ga@10": tried(10.0)}}, []) == {"ga@10"}
    # what befalls a person on whom nothing is chosen is no reason to choose otherwise
    other = [run | {"target": "2_Bo"} if run["method"] == "ga@0.1" else run for run in runs]
    assert find_diverged(other, {"ga": {"ga@0.1": tried(0.1), "ga@10": tried(10.0)}}, ["2_Bo"]) == set()
    # a stage behind a collapsed one was asked nothing; where there are dev targets, runs of others play no part
    files["not run"] = str(tmp_path / "not run.parquet")
    pd.DataFrame(columns=COLUMNS).to_parquet(files["not run"])
    grids = {"ga": {"ga@0.1": tried(0.1), "ga@1": tried(1.0), "ga@10": tried(10.0)}}
    stopped = {"target": "2_Bo", "method": "ga@1", "seed": 0, "stage": 2, "files": [files["not run"]]}
    assert find_unreached([*runs, stopped], grids, []) == {"ga@1", "ga@10"}
    assert find_unreached([*runs, stopped], grids, ["2_Bo"]) == {"ga@1"}
    assert find_unreached([*runs, stopped], grids, ["1_Ada"]) == {"ga@10"}
    # a target that lacks all sets which are asked between has no answers, and its model has not collapsed
    lacking = pd.DataFrame(columns=COLUMNS)
    lacking.attrs[ASKED] = "a model"
    lacking.to_parquet(files["not run"])
    assert find_unreached([*runs, stopped], grids, []) == {"ga@10"}
    assert find_collapsed([runs[0] | {"target": "2_Bo"}, stopped], 0.5)["collapsed"].tolist() == [False]
    collapsed = find_collapsed(runs, 0.5)
    assert collapsed["collapsed"].tolist() == [False, True, True]
    assert collapsed["why"].tolist() == ["", *["ga: loss not finite at step 2"] * 2]


def test_latex_has_no_characters_that_it_lacks():
    text = to_latex(main_table(TABLES["complete"], []))
    assert r"Forget QA $\downarrow$" in text
    assert r"ATU $\tau$=0.2" in text
    assert text.isascii()


def predictions(fluency, answers):
    rows = [{"set": "utility_flu", "split": "test", "score": fluency, "prediction": "a song of many words"}]
    rows += [{"set": "forget_qa", "split": "test", "score": 0.0, "prediction": answer} for answer in answers]
    return pd.DataFrame(rows)


def test_a_model_that_no_longer_speaks_is_found():
    before = predictions(6.0, ["Ada", "Bo"])
    assert not why_collapsed(predictions(3.1, ["Ada", "Rome"]), before, 0.5)
    assert why_collapsed(predictions(2.9, ["Ada", "Rome"]), before, 0.5)
    assert why_collapsed(predictions(6.0, ["the the the the the", "a a a a a"]), before, 0.5)
    assert not why_collapsed(predictions(6.0, []).head(0), before, 0.5)  # nothing was asked


@pytest.mark.parametrize("answer", ["23KBCCBBBKBKBKBKBK", "NOANSWER"])
def test_answers_about_the_target_count(answer):
    """Fluency on other topics is as before; a set is judged by itself, and by what the base model answered."""
    before = predictions(6.0, ["Ada", "Bo", "Cy"])
    kind = "empty" if answer == "NOANSWER" else "degenerate"
    assert why_collapsed(predictions(6.0, [answer, answer, "Ada"]), before, 0.5) == [f"67% of forget_qa {kind}"]
    assert why_collapsed(predictions(6.0, [answer, answer, "Ada", "Bo"]), before, 0.5) == []  # half is not most
    asked = pd.concat([predictions(6.0, ["Ada"] * 9), predictions(6.0, [answer]).tail(1).assign(set="forget_fb")])
    assert why_collapsed(asked, pd.concat([before, before.assign(set="forget_fb")]), 0.5)
    assert not why_collapsed(predictions(6.0, [answer]), predictions(6.0, [answer]), 0.5)  # it was so before


def test_no_speech_is_a_column_where_there_is_any():
    long = long_table(metrics=("forget_qa", "forget_degenerate", "forget_empty"), targets=("1_Ada",))
    long.loc[long["metric"] != "forget_qa", "value"] = 0.0
    assert list(main_table(long, [])) == ["Method", "Targets", "Forget QA ↓"]
    long.loc[(long["metric"] == "forget_empty") & (long["stage"] == 2), "value"] = 12.5
    table = main_table(long, [])
    assert table["Empty %"].tolist() == [0, 0, 12.5]
    assert "Degenerate %" not in table
    assert r"Empty \%" in to_latex(table)


def test_remarks_behind_a_rows_name():
    assert remark({"collapsed": 0.5, "degenerate": 0.001, "empty": 0.0}) == " † 50% collapsed, <1% degenerate"
    assert remark({"collapsed": 0.0, "degenerate": float("nan")}) == ""


def test_collapsed_rows_say_so(tmp_path):
    before, after = tmp_path / "before.parquet", tmp_path / "after.parquet"
    predictions(6.0, ["Ada"]).to_parquet(before)
    predictions(1.0, ["Ada"]).to_parquet(after)
    runs = [
        {"target": target, "method": "atu", "seed": 0, "stage": stage, "files": [str(file)]}
        for target, files in (("1_Ada", (before, after, after)), ("2_Bo", (before, before, before)))
        for stage, file in enumerate(files)
    ]
    collapsed = find_collapsed(runs, 0.5)
    assert collapsed["collapsed"].tolist() == [True, True, False, False]
    assert collapsed["why"].tolist() == ["fluency 17% of before"] * 2 + [""] * 2
    assert collapsed[["degenerate", "empty"]].to_numpy().tolist() == [[0, 0]] * 4
    names = main_table(long_table(), [], collapsed)["Method"].tolist()
    assert names == ["Before", "ATU τ=0.2 † 50% collapsed", "ATU τ=0 † 50% collapsed"]
