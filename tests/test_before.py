"""The base model alone, and what was published of it."""

import json
import shutil

import pandas as pd
import pytest

from atu.data.publications import PublishedError, read_published
from atu.reporting.before import before_page, notes, score_before
from atu.reporting.tables import main_table
from conftest import ROOT, Workflow

PUBLISHED = pd.DataFrame(
    [
        ("llm", "Before", "forget_qa", 60.0, "Table 2"),
        ("llm", "GA (Full)", "forget_qa", 1.0, "Table 2"),
        ("other", "Before", "forget_qa", 2.0, "Table 1"),
    ],
    columns=["model", "method", "metric", "value", "source"],
)


def predictions(name, scores, answer="Ada", query=""):
    rows = [(name, f"{name}/{i}", "test", f"{query}{i}", score, answer) for i, score in enumerate(scores)]
    rows.append((name, f"{name}/9", "dev", "dev", 0.0, ""))
    return pd.DataFrame(rows, columns=["set", "id", "split", "query", "score", "prediction"])


def test_scores_by_hand():
    """Two targets: 50 and 100 % of forget QA, three of four probes known; a likelihood is not known or unknown."""
    ada = pd.concat([predictions("forget_qa", [1.0, 0.0]), predictions("mia_fm", [-2.0, -2.0])])
    bo = predictions("forget_qa", [1.0, 1.0], query="Bo")
    table = score_before([ada, bo], PUBLISHED, "llm", 200, 0).set_index("metric")
    qa = table.loc["forget_qa"]
    assert qa[["value", "n", "known", "targets"]].tolist() == [75, 4, 3, 2]
    assert qa["low"] <= 50
    assert qa["high"] == 100
    assert qa[["published", "difference", "source"]].tolist() == [60, 15, "Table 2"]
    assert not qa["outside"]
    assert table.loc["mia_fm", ["value", "n", "targets"]].tolist() == [200, 2, 1]
    assert pd.isna(table.loc["mia_fm", "known"])
    assert pd.isna(table.loc["mia_fm", "published"])
    page = before_page(table.reset_index())
    assert page["Published by others"].tolist() == ["60.0", ""]
    assert page["Known"].tolist() == [3, ""]
    assert page.columns.tolist()[:6] == ["Metric", "Value", "95 % interval", "Probes", "Known", "Targets"]
    assert len(notes(table, [ada, bo], "llm", "tiny", "strict")) == 3  # the dev probes' empty answers are told


def test_without_published_numbers_their_columns_are_left_out():
    table = score_before([predictions("forget_qa", [1.0, 0.0])], PUBLISHED, "third", 20, 0)
    assert before_page(table).columns.tolist() == ["Metric", "Value", "95 % interval", "Probes", "Known", "Targets"]


def test_the_base_model_alone_is_planned_without_training(workflow):
    jobs = workflow.planned("before", "--config", "targets=[1_Ada,2_Bo]")
    probes = {"prepare_probes": 3, "evaluate_before": 3}  # two targets, and what they share
    assert jobs == {"download_model": 1, "check_model": 1, "before_table": 1, "before": 1} | probes


def test_its_table_has_the_numbers_of_the_main_table(finished, tmp_path):
    shutil.copytree(finished.directory, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    copy = Workflow(finished.tiny, tmp_path)
    config = json.loads(copy.config.read_text())
    config["published"] = {"file": str(tmp_path / "published.csv"), "benchmark": "tiny"}
    (tmp_path / "published.csv").write_text("model,method,metric,value,source\nllm,Before,forget_qa,30.0,Table 1\n")
    copy.config.write_text(json.dumps(config))
    assert copy.planned("before") == {"before_table": 1, "before": 1}
    copy.run("before")
    table = pd.read_csv(tmp_path / "results/tables/before.csv").set_index("metric")
    shown = main_table(pd.read_csv(tmp_path / "results/tables/main.csv"), []).iloc[0]
    assert table.loc["forget_qa", "value"] == pytest.approx(shown["Forget QA ↓"])
    assert table.loc["neighbor_all", "value"] == pytest.approx(shown["Neighbor All ↑"])
    assert table.loc["utility_flu", "value"] == pytest.approx(shown["Flu ↑"])
    assert table.loc["forget_qa", "published"] == 30
    known = pd.read_csv(tmp_path / "results/tables/known.csv").query("split == 'test' and set == 'forget_qa'")
    assert table.loc["forget_qa", ["n", "known"]].tolist() == [len(known), known["known"].sum()]
    assert "| Published by others" in (tmp_path / "results/tables/before.md").read_text()
    assert copy.planned("before") == {"before": 1}  # which prints its table


HEAD = "model,method,metric,value,source\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no CSV file with a line of names"),
        ("model,method,metric,value\n", "lacks the column source"),
        (HEAD + "llm,Before,forget_qa,47", "line 2: 4 fields of 5; it is cut"),
        (HEAD + "llm,Before,forget_qa,47,T\nllm,Before,forget_aa,nan,T\n", "line 3: the value nan is not finite"),
        (HEAD + "llm,Before,forget_qa,n/a,T\n", "line 2: the value 'n/a' is no number"),
        (HEAD + "llm,Before,forget_q,47,T\n", "line 2: unknown metric 'forget_q'"),
        (HEAD + "llm,,forget_qa,47,T\n", "line 2: method is empty"),
        (
            HEAD + "llm,GA,forget_qa,1,T\n\nllm,GA,forget_qa,2,T\n",
            "line 4: llm, GA, forget_qa stands there twice",
        ),
    ],
)
def test_a_file_of_published_numbers_that_is_damaged(tmp_path, text, said):
    path = tmp_path / "published.csv"
    path.write_text(text)
    with pytest.raises(PublishedError, match=said):
        read_published(path)


def test_our_own_file_of_published_numbers():
    rows = read_published(ROOT / "workflow/benchmarks/published.csv")
    assert len(rows) > 300
    assert all(isinstance(row["value"], float) for row in rows)
