"""Scores by type of probe, by numbers worked out by hand."""

import json

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from atu.reporting.breakdown import (
    COLUMNS,
    SCORES,
    by_type,
    read_attacks,
    read_membership,
    remarked,
    separations,
    types_page,
)
from atu.reporting.figures import attacks
from atu.reporting.tables import ScoreError


def predictions(scores, split="test"):
    """Rows of forget_aa by type."""
    rows = [
        ("forget_aa", f"forget_aa/{kind}/{i}", split, kind, f"{kind}{i}", score)
        for kind, values in scores.items()
        for i, score in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["set", "id", "split", "type", "query", "score"])


FRAMES = {
    ("before",): predictions({"role playing": [1.0, 1.0], "reverse query": [0.5, 0.5]}),
    ("seed 0",): predictions({"role playing": [0.0, 0.0], "reverse query": [0.4, 0.4]}),
    ("seed 1",): predictions({"role playing": [0.2, 0.2], "reverse query": [0.4, 0.4]}),
    ("other",): predictions({"role playing": [0.5, 0.5]}).assign(query="other"),
}


def run(name, target, file):
    return {"run": name, "target": target, "files": [file]}


FEW = {"zlib": -0.1, "min_k": -7.0, "min_k_plus_plus": -1.0}


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
    page = types_page(table.reset_index()[COLUMNS], "Attack")
    assert page.columns.tolist() == ["Attack", "Probes", "Before", "ATU"]
    assert page["Probes"].tolist() == [2, 4]
    assert page["ATU"].tolist() == ["40.0 [40.0, 40.0]", "30.0 [10.0, 50.0]"]


def test_a_single_probe_has_no_interval():
    table = by_type([run("Before", "1_Ada", "one")], 10, 0, read=lambda files: predictions({"role playing": [1.0]}))
    assert table[["value", "probes"]].iloc[0].tolist() == [100, 1]
    assert table[["low", "high"]].isna().all(axis=None)
    assert types_page(table, "Attack")["Before"].tolist() == ["100.0"]
    plt.close(attacks(table))


def test_dev_probes_play_no_part():
    table = by_type(
        [run("Before", "1_Ada", "dev")], 10, 0, read=lambda files: predictions({"role playing": [1.0]}, "dev")
    )
    assert table.empty
    assert types_page(table, "Attack").columns.tolist() == ["Attack", "Probes"]


def test_a_legend_of_long_names_stays_within_the_figure():
    name = "ATU τ=0 (stage {}) † 50% collapsed, 12% degenerate"
    rows = [(name.format(i), kind, 50.0, 40.0, 60.0, 1, 3) for i in range(5) for kind in "abc"]
    figure = attacks(pd.DataFrame(rows, columns=COLUMNS))
    figure.canvas.draw()
    legend, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert whole.x0 <= legend.x0
    assert legend.x1 <= whole.x1
    plt.close(figure)


@pytest.mark.parametrize("runs", [1, 2, 9])
def test_the_figure(runs):
    rows = [(f"M{i}" if i else "Before", kind, 50.0, 40.0, 60.0, 1, 3) for i in range(runs) for kind in "abc"]
    figure = attacks(pd.DataFrame(rows, columns=COLUMNS))
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["c (3)", "b (3)", "a (3)"]
    plt.close(figure)


def test_the_figure_of_nothing():
    """Where no adversarial probes are asked the table is empty, and so is the figure."""
    figure = attacks(pd.DataFrame(columns=COLUMNS))
    figure.canvas.draw()
    plt.close(figure)
    assert types_page(pd.DataFrame(columns=COLUMNS), "Attack").to_markdown(index=False)


def test_how_often_texts_about_the_target_look_trained_on():
    """Two texts about the person against three of others, by hand: of six pairs two are won and one is even."""

    def texts(*scores):
        return pd.DataFrame({"score": scores})

    data = {
        ("a",): {"mia_fm": texts(-1.0, -2.0), "mia_rm": texts(-1.0, -1.5, -3.0)},  # 2.5 of 3, 1 of 3
        ("b",): {"mia_fm": texts(-9.0), "mia_rm": texts(-1.0, -1.5, -3.0)},  # none of 3
    }
    runs = [{"run": "NPO", "target": name, "files": (name,)} for name in ("a", "b")]
    read = lambda files: dict.fromkeys(SCORES, data[files])  # noqa: E731
    table = separations(runs, 200, 0, read=read)
    assert table["type"].tolist() == [f"AUC, {written}" for written in SCORES.values()]
    first = table.iloc[0]
    assert first["value"] == pytest.approx(100 * (3.5 / 6 + 0) / 2)
    assert 0 <= first["low"] <= first["value"] <= first["high"] <= 100
    assert (first["targets"], first["probes"]) == (2, 3)
    lacking = separations(runs[:1], 10, 0, read=lambda files: {key: {"mia_fm": texts(-1.0)} for key in SCORES})
    assert lacking.empty


def test_membership_by_score(tmp_path):
    details = [{"loss": -2.0, "zlib": -0.04, "min_k": -5.0, "min_k_plus_plus": 1.5}, {"loss": -4.0} | dict(FEW)]
    rows = [
        {"set": name, "id": f"{name}/0", "split": "test", "query": name, "score": -1.0, "details": json.dumps(found)}
        for name, found in zip(("mia_fm", "mia_rm"), details, strict=True)
    ]
    path = tmp_path / "probes.parquet"
    pd.DataFrame([*rows, rows[0] | {"set": "forget_qa", "details": "{}"}]).to_parquet(path)
    assert read_attacks((path,)).empty
    table = by_type([run("Before", "1_Ada", path)], 10, 0, read=read_membership).set_index("type")["value"]
    assert table["FM, loss"] == pytest.approx(200)  # -100 x the mean log-likelihood, as RWKU reports it
    assert table["FM, zlib"] == pytest.approx(4)
    assert table["FM, Min-K%++"] == pytest.approx(-150)
    assert table["RM, loss"] == pytest.approx(400)
    assert len(table) == 8


def test_a_score_that_is_no_number(tmp_path):
    """One of the four scores of a text, where the one in the tables is finite."""
    details = json.dumps({"loss": -2.0, "zlib": -0.04, "min_k": -5.0, "min_k_plus_plus": float("nan")})
    row = {"set": "mia_fm", "id": "mia_fm/0", "split": "test", "query": "x", "score": -2.0, "details": details}
    path = tmp_path / "probes.parquet"
    pd.DataFrame([row]).to_parquet(path)
    with pytest.raises(ScoreError, match=r"probes\.parquet: the score of mia_fm/0 is nan"):
        by_type([run("Before", "1_Ada", path)], 10, 0, read=read_membership)


def test_remarks_stand_in_headings_and_shares_in_columns():
    rows = [("Before", "a", 50.0, 40.0, 60.0, 1, 3), ("ATU τ=0", "a", 20.0, 10.0, 30.0, 1, 3)]
    table = pd.DataFrame(rows, columns=COLUMNS).assign(collapsed=[0.0, 0.5], degenerate=[0.0, 0.0], empty=[0.0, 0.25])
    names = ["Attack", "Probes", "Before", "ATU τ=0 † 50% collapsed, 25% empty"]
    assert types_page(table, "Attack").columns.tolist() == names
    assert remarked(pd.DataFrame(columns=COLUMNS)).empty
