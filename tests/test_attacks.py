"""Forgetting by type of attack, by numbers worked out by hand."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from atu.attacks import COLUMNS, by_type, layout
from atu.figures import attacks


def outcomes(scores, split="test"):
    """Rows of forget_aa by type, and a question that plays no part."""
    rows = [
        ("forget_aa", f"forget_aa/{kind}/{i}", split, kind, f"{kind}{i}", score)
        for kind, values in scores.items()
        for i, score in enumerate(values)
    ]
    rows.append(("forget_qa", "forget_qa/0", split, "cloze", "q", 1.0))
    return pd.DataFrame(rows, columns=["set", "id", "split", "type", "query", "score"])


FRAMES = {
    ("before",): outcomes({"role playing": [1.0, 1.0], "reverse query": [0.5, 0.5]}),
    ("seed 0",): outcomes({"role playing": [0.0, 0.0], "reverse query": [0.4, 0.4]}),
    ("seed 1",): outcomes({"role playing": [0.2, 0.2], "reverse query": [0.4, 0.4]}),
    ("other",): outcomes({"role playing": [0.5, 0.5]}).assign(query="other"),
}


def run(name, target, file):
    return {"run": name, "target": target, "files": [file]}


def test_recall_by_type_by_hand():
    runs = [run("Before", "1_Ada", "before"), run("Before", "1_Ada", "before")]  # one file serves every seed
    runs += [run("ATU", "1_Ada", "seed 0"), run("ATU", "1_Ada", "seed 1"), run("ATU", "2_Bo", "other")]
    table = by_type(runs, 400, 0, read=lambda files: FRAMES[files]).set_index(["run", "type"])
    before = table.loc[("Before", "role playing")]
    assert before.tolist() == pytest.approx([100, 100, 100, 1, 2])
    # 10 % of the first target (mean over two seeds), 50 % of the second; a resample holds one or both
    assert table.loc[("ATU", "role playing")].tolist() == pytest.approx([30, 10, 50, 2, 4])
    # the second target was not asked this type
    assert table.loc[("ATU", "reverse query")].tolist() == pytest.approx([40, 40, 40, 1, 2])
    page = layout(table.reset_index()[COLUMNS])
    assert page.columns.tolist() == ["Attack", "Before", "ATU"]
    assert page["ATU"].tolist() == ["40.0 [40.0, 40.0]", "30.0 [10.0, 50.0]"]


def test_a_single_probe_has_no_interval():
    table = by_type([run("Before", "1_Ada", "one")], 10, 0, read=lambda files: outcomes({"role playing": [1.0]}))
    assert table[["recall", "probes"]].iloc[0].tolist() == [100, 1]
    assert table[["low", "high"]].isna().all(axis=None)
    assert layout(table)["Before"].tolist() == ["100.0"]
    plt.close(attacks(table))


def test_dev_probes_play_no_part():
    table = by_type([run("Before", "1_Ada", "dev")], 10, 0, read=lambda files: outcomes({"role playing": [1.0]}, "dev"))
    assert table.empty
    assert layout(table).columns.tolist() == ["Attack"]


@pytest.mark.parametrize("runs", [1, 2, 9])
def test_the_figure(runs):
    rows = [(f"M{i}" if i else "Before", kind, 50.0, 40.0, 60.0, 1, 3) for i in range(runs) for kind in "abc"]
    figure = attacks(pd.DataFrame(rows, columns=COLUMNS))
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["c", "b", "a"]
    plt.close(figure)


def test_the_figure_of_nothing():
    """Where no adversarial probes are asked the table is empty, and so is the figure."""
    figure = attacks(pd.DataFrame(columns=COLUMNS))
    figure.canvas.draw()
    plt.close(figure)
    assert layout(pd.DataFrame(columns=COLUMNS)).to_markdown(index=False)
