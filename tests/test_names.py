"""How rows are called: no two stages alike."""

import pandas as pd

from atu.common.names import label, name_runs, tau_name
from atu.reporting.breakdown import by_type
from atu.reporting.published import evaluations, shares_of_rows


def rows(method, taus, stages=None):
    found = [{"target": "1_Ada", "method": method, "seed": 0, "stage": n, "tau": tau} for n, tau in enumerate(taus)]
    return [row | {"files": [f"{method} {row['stage']}"]} for row in found if stages is None or row["stage"] in stages]


def test_a_tau_that_stands_twice():
    taus = {1: 0.2, 2: 0.0, 3: -0.0, 4: None}
    names = ["Before", "ATU τ=0.2", "ATU τ=0 (stage 2)", "ATU τ=0 (stage 3)"]
    assert [label("atu", stage, taus) for stage in range(4)] == names
    assert tau_name(4, taus) is None
    alike = {1: 0.1234567, 2: 0.1234568}  # printed alike
    assert label("atu", 2, alike) == "ATU τ=0.123457 (stage 2)"


def test_epochs_and_what_has_none():
    assert label("ga_star", 2, {1: None, 2: float("nan")}) == "GA* epoch 2"
    assert label("icu", 1, {1: None}) == "ICU"
    assert label("ga", 3, {3: None}) == "GA epoch 3"  # the epochs before were not asked


def test_runs_of_one_tau_are_not_averaged():
    """By hand: 40 % after the second stage, 10 % after the third, not 25 % of both."""
    runs = rows("atu", [None, 0.2, 0.0, 0.0])
    name_runs(runs)
    assert [run["run"] for run in runs[2:]] == ["ATU τ=0 (stage 2)", "ATU τ=0 (stage 3)"]
    scores = {"atu 0": 1.0, "atu 1": 0.8, "atu 2": 0.4, "atu 3": 0.1}

    def read(files):
        names = ["set", "id", "split", "type", "query", "score"]
        found = [("forget_aa", str(i), "test", "cloze", str(i), scores[files[0]]) for i in range(2)]
        return pd.DataFrame(found, columns=names)

    table = by_type(runs, 10, 0, read=read).set_index("run")["value"]
    assert table.to_dict() == {"Before": 100, "ATU τ=0.2": 80, "ATU τ=0 (stage 2)": 40, "ATU τ=0 (stage 3)": 10}
    assert len(evaluations(runs, "run")) == 4
    gone = pd.DataFrame([("atu", 2, False), ("atu", 3, True)], columns=["method", "stage", "collapsed"])
    assert shares_of_rows(runs, gone)["ATU τ=0 (stage 2)"]["collapsed"] == 0
    assert shares_of_rows(runs, gone)["ATU τ=0 (stage 3)"]["collapsed"] == 1
