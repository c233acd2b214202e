"""The stage that a rule chooses for each method: numbers worked out by hand."""

import pandas as pd
import pytest

from atu.common.errors import ExplainedError
from atu.reporting.selection import choose_stages, explained, selected_table, settings_tried
from atu.reporting.tables import COLUMNS, HEADINGS


def rows(method, recall, split="dev", target="1_Ada", seed=0):
    """Of each stage the recall of neighbours and of the person, in percent; stage 0 is the base model."""
    for stage, pair in enumerate(recall):
        for metric, value in zip(("neighbor_qa", "forget_qa"), pair, strict=True):
            if value is not None:
                yield ("llm", "demo", target, method, stage, None, split, metric, value, 4, seed)


def table(*parts):
    return pd.DataFrame([row for part in parts for row in part], columns=COLUMNS)


def chosen(long, kept=0.9, dev_targets=()):
    found = choose_stages(long, kept, list(dev_targets))
    assert found.groupby("method")["chosen"].sum().eq(1).all()
    return found[found["chosen"]].set_index("method")["stage"].to_dict()


@pytest.mark.parametrize(
    ("recall", "kept", "stage"),
    [
        ([(50, 80), (48, 60), (46, 20), (40, 0)], 0.9, 2),  # 0.9 of 50 is 45: the third has lost too much
        ([(50, 80), (48, 60), (45, 20), (40, 0)], 0.9, 2),  # just as much is enough
        ([(50, 80), (48, 60), (44.9, 20), (40, 0)], 0.9, 1),
        ([(50, 80), (30, 60), (46, 20), (40, 0)], 0.9, 2),  # a stage that comes back
        ([(50, 80), (50, 20), (50, 20), (50, 30)], 0.9, 1),  # of equal ones the earlier
        ([(50, 80), (50, 90), (20, 0)], 0.9, 1),  # the base model stands where no stage keeps it alone
        ([(50, 80), (44, 10), (20, 0)], 0.9, 0),  # none keeps it
        ([(50, 80), (44, 10), (20, 0)], 0, 2),
        ([(50, 80), (50, 70), (49.9, 0)], 1, 1),
        ([(30, 80), (21, 10)], 0.7, 1),  # 0.7 x 30 is 21, in floating point below it or above
        ([(90, 80), (81 - 1e-13, 10)], 0.9, 1),
        ([(0, 0), (0, 0), (10, 0)], 0.9, 1),
    ],
)
def test_the_stage_that_forgets_most_within_the_budget(recall, kept, stage):
    assert chosen(table(rows("atu", recall)), kept) == {"atu": stage}


def test_test_probes_play_no_part():
    dev, test = [(50, 80), (50, 40), (40, 0)], [(50, 80), (10, 80), (50, 0)]
    assert chosen(table(rows("npo", dev), rows("npo", test, "test"), rows("npo", test, "all"))) == {"npo": 1}


def test_dev_targets_alone_decide_where_there_are_any():
    """Means over both: 50, 46, 35; on Bo alone: 50, 42, 40."""
    both = [*rows("npo", [(50, 80), (50, 0), (30, 0)]), *rows("npo", [(50, 80), (42, 40), (40, 0)], target="2_Bo")]
    assert chosen(table(both)) == {"npo": 1}
    assert chosen(table(both), dev_targets=["2_Bo"]) == {"npo": 0}
    assert chosen(table(both), dev_targets=["3_Cy"]) == {"npo": 1}  # who is not run


def test_means_are_over_seeds_and_a_stage_that_a_run_did_not_reach_is_not_chosen():
    first, second = [(50, 80), (50, 40), (50, 0)], [(50, 80), (40, 40), (50, 0)]
    assert chosen(table(rows("atu", first), rows("atu", second, seed=1))) == {"atu": 2}
    stopped = table(rows("atu", first), rows("atu", second[:2], seed=1))
    assert chosen(stopped) == {"atu": 1}  # 45 of 50
    found = choose_stages(stopped, 0.9, []).set_index("stage")
    assert found["last"].tolist() == [False, False, True]
    assert found["neighbour_kept"].tolist() == pytest.approx([1, 0.9, float("nan")], nan_ok=True)
    assert found["forget_left"].tolist() == pytest.approx([1, 0.5, float("nan")], nan_ok=True)
    assert found["within_budget"].tolist() == [True, True, False]


def test_a_stage_that_was_not_asked_both_sets_is_not_chosen():
    assert chosen(table(rows("atu", [(50, 80), (None, 0), (50, 40)]))) == {"atu": 2}
    with pytest.raises(ExplainedError, match="atu: no stage can be chosen, since no probe of neighbor_qa is a dev"):
        chosen(table(rows("atu", [(None, 80), (None, 0)])))


def test_the_table_has_test_numbers_of_the_chosen_and_the_last_stage():
    dev = {"atu": [(50, 80), (50, 40), (10, 0)], "ga@0.1": [(50, 80), (0, 0), (0, 0)], "icu": [(50, 80), (50, 20)]}
    test = {"atu": [(60, 70), (61, 30), (12, 1)], "ga@0.1": [(60, 70), (2, 3), (4, 5)], "icu": [(60, 70), (55, 22)]}
    parts = [rows(name, recall) for name, recall in dev.items()]
    parts += [rows(name, recall, "test") for name, recall in test.items()]
    parts += [rows(name, [(0, 0)] * len(recall), target="2_Bo") for name, recall in dev.items()]  # no dev target
    long = table(*parts)
    rates = pd.DataFrame({"method": ["ga"] * 3, "variant": ["ga@0.1", "ga@1", "ga@2"], "chosen": [True, False, False]})
    assert settings_tried(rates) == {"ga@0.1": 3}
    choices = choose_stages(long, 0.9, ["1_Ada"], settings_tried(rates))
    shown = selected_table(long, choices, ["3_Cy"])
    neighbour, forget = HEADINGS["neighbor_qa"], HEADINGS["forget_qa"]
    assert list(shown) == ["Method", "Stage", "Settings", "Stages", "Targets", forget, neighbour]
    assert shown["Method"].tolist() == [
        *("Before", "ATU epoch 1", "ATU epoch 2", "GA@0.1: base model", "GA@0.1 epoch 2", "ICU")
    ]
    assert shown["Stage"].fillna("").tolist() == ["", "chosen", "last", "chosen", "last", "chosen and last"]
    assert shown[neighbour].tolist() == [60, 61, 12, 60, 4, 55]
    assert shown[forget].tolist() == [70, 30, 1, 70, 5, 22]
    assert shown["Settings"].fillna(0).tolist() == [0, 1, 1, 3, 3, 1]
    assert shown["Stages"].fillna(0).tolist() == [0, 2, 2, 2, 2, 1]
    said = explained(long, choices, 0.9, ["1_Ada"])
    assert "at least 0.9 of the base model's Neighbor QA recall the one with the lowest Forget QA recall" in said
    assert "(by dev probes alone: 4 of Neighbor QA, 4 of Forget QA; dev targets: 1)" in said
    assert "No stage of GA@0.1 keeps it." in said
    assert "recalls nothing" not in said
    assert "; targets: 2)" in explained(long, choices, 0.9, [])
    nothing = choose_stages(table(rows("atu", [(0, 80), (0, 0)])), 0.9, [])
    assert nothing["neighbour_kept"].isna().all()
    assert "recalls nothing of Neighbor QA there" in explained(long, nothing, 0.9, [])
