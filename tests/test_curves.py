"""Methods at equal forgetting, by numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from atu.reporting.curves import (
    Curve,
    area,
    at_level,
    attacks_note,
    compare,
    end_level,
    marks_of,
    matched,
    read_runs,
    shares,
    under_attacks,
    why_no_level,
    with_attacks,
)

FORGET, KEPT = np.array([1.0, 0.6, 0.2]), np.array([1.0, 0.9, 0.5])


def test_what_is_kept_at_a_level():
    assert at_level(FORGET, KEPT, 0.6) == pytest.approx(0.9)
    assert at_level(FORGET, KEPT, 0.5) == pytest.approx(0.9 - 0.25 * 0.4)  # a quarter of the way
    assert at_level(FORGET, KEPT, 1.0) == 1.0
    assert np.isnan(at_level(FORGET, KEPT, 0.1))
    # the first crossing counts: what comes back later does not
    assert at_level(np.array([1.0, 0.4, 0.8, 0.2]), np.array([1.0, 0.7, 0.9, 0.1]), 0.4) == pytest.approx(0.7)


def test_area():
    # trapezoids over forgetting 0 to 0.4 and 0.4 to 0.8; nothing beyond
    exact = 0.4 * (1.0 + 0.9) / 2 + 0.4 * (0.9 + 0.5) / 2
    assert area(FORGET, KEPT) == pytest.approx(exact, abs=0.01)
    assert area(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(1.0)
    assert area(np.array([1.0]), np.array([1.0])) == pytest.approx(0.0, abs=0.01)


def run(forget, kept):
    return Curve(np.array(forget, dtype=float), np.array(kept, dtype=float))


def test_mean_curves_are_shares_of_before():
    one = run([[1, 1], [1, 0]], [[1, 0], [0, 0]])  # 1 -> 0.5; 0.5 -> 0
    two = run([[1, 0], [0, 0]], [[1, 1], [1, 1]])  # 0.5 -> 0; 1 -> 1
    forget, kept = shares([one, two])
    assert forget.tolist() == [1.0, pytest.approx(0.25 / 0.75)]
    assert kept.tolist() == [1.0, pytest.approx(0.5 / 0.75)]
    # a probe that counts twice
    forget, _ = shares([one], [(np.array([2, 0]), np.array([1, 1]))])
    assert forget.tolist() == [1.0, 1.0]


def test_the_better_method_wins_and_intervals_hold_the_value():
    rng = np.random.default_rng(0)
    good, bad = {}, {}
    for target in "abcd":
        before = np.ones((1, 20))
        forget = np.vstack([before, rng.random((1, 20)) < 0.2])
        good[target] = Curve(forget, np.vstack([before, rng.random((1, 20)) < 0.9]))
        bad[target] = Curve(forget, np.vstack([before, rng.random((1, 20)) < 0.3]))
    table = compare({"good": good, "bad": bad}, resamples=100, seed=0).set_index(["method", "measure"])
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert table.loc[("good", "kept at 50%"), "low"] > table.loc[("bad", "kept at 50%"), "high"]
    assert table.loc[("good", "area"), "value"] > table.loc[("bad", "area"), "value"]
    assert (table["reached"] > 0.9).all()
    pd.testing.assert_frame_equal(
        compare({"good": good}, resamples=20, seed=1), compare({"good": good}, resamples=20, seed=1)
    )


def test_a_level_that_is_not_reached():
    stays = {"a": run([[1, 1], [1, 1]], [[1, 1], [1, 1]])}
    table = compare({"stays": stays}, resamples=10, seed=0).set_index("measure")
    assert np.isnan(table.loc["kept at 50%", "value"])
    assert table.loc["kept at 50%", "reached"] == 0


def test_runs_are_read_from_outcomes(tmp_path):
    def write(name, forget):
        rows = [
            {"set": "forget_qa", "id": "forget_qa/1", "split": "test", "score": forget},
            {"set": "forget_qa", "id": "forget_qa/0", "split": "test", "score": 1.0},
            {"set": "forget_qa", "id": "forget_qa/2", "split": "dev", "score": 0.3},
            {"set": "neighbor_qa", "id": "neighbor_qa/0", "split": "test", "score": 0.8},
        ]
        pd.DataFrame(rows).to_parquet(tmp_path / name)
        return [str(tmp_path / name)]

    rows = [
        {"target": "1_Ada", "method": "ga", "seed": 0, "stage": stage, "files": write(f"{stage}.parquet", forget)}
        for stage, forget in ((1, 0.0), (0, 0.5))
    ]
    stopped = [row | {"target": "2_Bo"} for row in rows if row["stage"] == 0]
    runs = read_runs(rows + stopped, "neighbor_qa")["ga"]
    assert runs["1_Ada 0"].forget.tolist() == [[1.0, 0.5], [1.0, 0.0]]
    assert runs["1_Ada 0"].kept.tolist() == [[0.8], [0.8]]
    assert runs["2_Bo 0"].forget.tolist() == [[1.0, 0.5], [1.0, 0.5]]
    # a target of which the benchmark has no such set is left out
    bare = tmp_path / "bare.parquet"
    pd.DataFrame([{"set": "forget_qa", "id": "forget_qa/0", "split": "test", "score": 1.0}]).to_parquet(bare)
    lacking = [row | {"target": "3_Cy", "files": [str(bare)]} for row in rows]
    assert set(read_runs(rows + lacking, "neighbor_qa")["ga"]) == {"1_Ada 0"}
    # a set that was asked before alone makes no curve
    assert read_runs(rows[1:], "neighbor_qa") == {}
    table = matched(rows, resamples=5, seed=0)
    assert set(table["kept"]) == {"neighbor_qa"}  # no other set was asked
    # 1.5 of 2 is known before, 1 of 2 after: the curve ends at 67 %, with all of the neighbours kept
    by_measure = table.set_index("measure")["value"]
    assert by_measure["kept at 75%"] == pytest.approx(1.0)
    assert np.isnan(by_measure["kept at 50%"])


def test_nothing_to_compare(tmp_path):
    pd.DataFrame([{"set": "forget_qa", "id": "0", "split": "test", "score": 1.0}]).to_parquet(tmp_path / "x.parquet")
    row = {"target": "1_Ada", "method": "ga", "seed": 0, "files": [str(tmp_path / "x.parquet")]}
    assert matched([row | {"stage": stage} for stage in (0, 1)], resamples=5, seed=0).empty


def test_nothing_to_keep():
    knows_nothing = {"a": run([[1, 1], [0, 0]], [[0, 0], [0, 0]])}
    table = compare({"ga": knows_nothing}, resamples=5, seed=0).set_index("measure")
    assert table["value"].isna().all()


@pytest.mark.parametrize(
    ("forget", "level"),
    [
        ([1.0, 0.6, 0.2], 0.25),
        ([1.0, 0.6, 0.375], 0.5),  # as near to 25 %: the first counts
        ([1.0, 0.3, 0.2], 0.25),
        ([1.0, 0.25, 0.2], None),  # the matched point is the stage before
        ([1.0, 0.2, 0.3], None),
        ([1.0, 0.1], None),
        ([1.0, 0.9], None),
        ([1.0, 0.87], 0.75),
        ([np.nan, np.nan], None),
    ],
)
def test_at_which_level_a_run_ends(forget, level):
    assert end_level(np.array(forget)) == level


def test_why_there_is_no_level():
    assert (
        why_no_level(np.array([1.0, 0.2, 0.3]))
        == "its kept model recalls 30%, and an earlier stage had forgotten as much"
    )
    assert why_no_level(np.array([1.0, 0.05])) == "its kept model recalls 5%, which is near none of these levels"
    assert why_no_level(np.array([np.nan])) == "the base model recalls nothing"


def attacked(method, runs, before=30.0, after=60.0, probes=4, attack="again"):
    shared = {"step": 4, "set": "forget_qa", "measure": "recall", "asked": 4}
    return shared | {
        "method": method,
        "attack": attack,
        "before": before,
        "after": after,
        "probes": probes,
        "runs": runs,
    }


def test_attacks_stand_at_the_level_of_the_kept_model(tmp_path):
    """Each method has two stages of four forget probes; the kept model is that of the second."""

    def write(name, forget):
        path = tmp_path / f"{name}.parquet"
        rows = [("forget_qa", f"forget_qa/{n}", "test", score) for n, score in enumerate(forget)]
        rows += [("neighbor_qa", "neighbor_qa/0", "test", 1.0)]
        pd.DataFrame(rows, columns=["set", "id", "split", "score"]).to_parquet(path)
        return {str(path): None}

    base = write("base", [1.0] * 4)
    stages = {
        "npo": ([1, 1, 1, 0], [1, 0, 0, 0]),
        "ga": ([1, 0, 0, 0], [1, 0, 0, 0]),
        "atu": ([1, 1, 1, 0], [1, 0, 0, 0]),
    }
    rows = []
    for method, of_method in stages.items():
        shared = {"method": method, "target": "1_Ada", "seed": 0}
        rows.append(shared | {"stage": 0, "files": base})
        for n, forget in enumerate(of_method, 1):
            rows.append(shared | {"stage": n, "files": write(f"{method}{n}", forget)})
    attacks = pd.DataFrame(
        [
            attacked("npo", 1),
            attacked("npo", 1, 50.0, 40.0, probes=2, attack="reworded"),
            attacked("npo", 1, after=float("nan"), probes=0, attack="coarse"),
            attacked("ga", 1),
            attacked("atu", 0),
            attacked("npo", 1) | {"step": 2, "after": 99.0},
            attacked("npo", 1) | {"set": "neighbor_qa", "after": 98.0},
        ]
    )
    table, silent = with_attacks(matched(rows, 20, 0), attacks, rows)
    found = table[table["under again"] != ""]
    assert found[["method", "measure", "under again"]].to_numpy().tolist() == [
        ["npo", "kept at 25%", "at 25%: 30.0 → 60.0"]
    ]
    assert "under coarse" not in table
    one = under_attacks(table).loc["npo"]
    assert one.to_dict() == {"again": "at 25%: 30.0 → 60.0", "reworded": "at 25%: 50.0 → 40.0 (2 of 4)"}
    assert (under_attacks(table).loc[["ga", "atu"]] == "").all(axis=None)
    assert silent == [
        "GA: its kept model recalls 25%, and an earlier stage had forgotten as much.",
        "ATU: some of its runs have no kept model that could be attacked.",
    ]
    assert attacks_note(silent).endswith(" ".join(silent))
    assert "(75%, 50% and 25% of the base model's recall)" in attacks_note(silent)
    assert "within 12.5 points" in attacks_note(silent)


def test_runs_that_have_collapsed_are_marked():
    """One of two runs at some stage, though it has not at its last."""
    rows = [{"method": name, "foreign": name == "brought"} for name in ("ga", "ga", "npo", "brought")]
    judged = [("ga", "1_Ada", 1, True), ("ga", "1_Ada", 2, False), ("ga", "2_Bo", 1, False), ("npo", "1_Ada", 1, False)]
    collapsed = pd.DataFrame(judged, columns=["method", "target", "stage", "collapsed"]).assign(seed=0)
    marks = marks_of(rows, collapsed)
    assert marks["ga"] == {"collapsed": 0.5, "foreign": 0.0}
    assert (marks["npo"]["collapsed"], marks["brought"]) == (0.0, {"collapsed": 0.0, "foreign": 1.0})
