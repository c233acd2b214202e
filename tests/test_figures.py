"""Tables and figures of long tables that are complete, sparse or have several methods."""

import itertools

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from atu.figures import FIGURES
from atu.tables import layout

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
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("table", TABLES)
def test_every_figure_of_every_table(name, table):
    figure = FIGURES[name](TABLES[table], ["2_Bo"])
    figure.canvas.draw()
    plt.close(figure)


def test_layout_by_hand():
    table = layout(TABLES["complete"], dev_targets=["2_Bo"])
    assert table["Method"].tolist() == ["Before", "ATU τ=0.2", "ATU τ=0"]
    assert table["Targets"].unique().tolist() == [1]  # the dev target is left out
    assert table["Forget QA ↓"].tolist() == [90, 80, 70]
    assert layout(TABLES["complete"], dev_targets=["1_Ada", "2_Bo"])["Forget QA ↓"].tolist() == [80, 70, 60]


def test_a_repeated_tau_keeps_its_row():
    table = layout(TABLES["two methods of other schedules"], [])
    assert table["Method"].tolist() == ["Before", "ATU τ=0.2", "ATU τ=0.1", "ATU τ=0.2", "ATU-X τ=0.5"]
