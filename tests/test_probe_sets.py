"""Probe sets and metrics are declared once: what is refused, and what a new set needs, its entry and its file."""

import json
import re
import shutil
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from atu.data import probe_sets
from atu.data.forms import FORMS
from atu.data.metrics import ASKINGS, METRICS
from atu.data.probe_sets import (
    AVERAGES,
    PROBE_SETS,
    ProbeSetError,
    check_probe_sets,
    headings,
    of_role,
    primary,
    read_probe_sets,
)
from atu.reporting.tables import summarize, why_collapsed
from atu_pipeline.recipes import Recipes
from conftest import ROOT, Workflow, options_of
from test_settings import PAPER, check

SETS = "workflow/benchmarks/rwku/probe_sets.yaml"
DECLARED = yaml.safe_load((ROOT / SETS).read_text(encoding="utf-8"))
LEVEL_4 = {"label": "Forget L4", "better": "lower", "role": "forget", "file": "forget_level4", "level": "4", "total": 9}
LEVEL_4 |= DECLARED["alike"]["qa"]


def changed(name="utility_fac", without=(), **keys):
    """The file with other keys of one set."""
    file = deepcopy(DECLARED)
    file["sets"][name] = {key: value for key, value in (file["sets"][name] | keys).items() if key not in without}
    return file


def test_roles_by_hand():
    assert of_role("forget") == ["forget_fb", "forget_qa", "forget_aa"]
    assert of_role("fluency", "neighbour") == ["neighbor_fb", "neighbor_qa", "utility_flu"]
    assert [primary("forget"), primary("neighbour")] == ["forget_qa", "neighbor_qa"]
    assert probe_sets.shared_sets() == ["mia_rm", *of_role("utility", "fluency")]
    assert probe_sets.generated("forget", "utility") == [*of_role("forget"), "utility_rea", "utility_fac"]
    assert probe_sets.recalled("forget", "membership") == of_role("forget")  # a likelihood is no share
    assert probe_sets.typed() == ["forget_aa"]
    with pytest.raises(ProbeSetError, match="role: unknown 'forgotten'; known: forget, neighbour, membership"):
        of_role("forgotten")
    with pytest.raises(ProbeSetError, match="unknown 'utility'; known: forget, neighbour"):
        primary("utility")


def test_columns_by_hand():
    """Each average behind the last of its sets; the arrow says which way is better."""
    assert list(headings().items())[2:7] == [
        ("forget_aa", "Forget AA ↓"),
        ("forget_all", "Forget All ↓"),
        ("neighbor_fb", "Neighbor FB ↑"),
        ("neighbor_qa", "Neighbor QA ↑"),
        ("neighbor_all", "Neighbor All ↑"),
    ]
    assert AVERAGES["forget_all"].weights == {"forget_fb": 3268, "forget_qa": 2879, "forget_aa": 6984}
    assert PROBE_SETS["mia_fm"].heading == "MIA FM ↑"
    assert PROBE_SETS["utility_gen"].short == "GEN"
    assert PROBE_SETS["forget_qa"].probes == pytest.approx(14.395)  # 2,879 over 200 targets
    assert PROBE_SETS["utility_gen"].probes == 171


def test_jobs_depend_on_how_a_set_is_asked_and_not_on_its_name_in_tables():
    asked = PROBE_SETS["utility_tru"]
    assert asked.asking() == {
        "ask": "choices",
        "message": "{primer_truthfulqa}\n\nQ: {query}",
        "suffix": "A:",
        "metric": "truthfulness",
        "spaced_suffix": True,
    }
    shown = replace(asked, label="Truth", better="lower", role="forget", size=3, shared=False, long_prompt=True)
    assert shown.asking() == asked.asking()
    assert replace(asked, suffix="B:").asking() != asked.asking()


def test_probes_depend_on_how_their_rows_are_read():
    read = PROBE_SETS["forget_qa"]
    assert read.reading() == {"file": "forget_level2", "rows": "questions", "level": "2", "gives": ["answers"]}
    assert replace(read, label="F", message="{query}", metric="exact").reading() == read.reading()
    config = check(PAPER)
    assert replace(read, shared=True).reading() != read.reading()
    recipe = Recipes(config).probes("1_Stephen_King")
    assert set(recipe["rows"]) == set(PROBE_SETS)
    assert recipe["rows"]["forget_qa"] != recipe["rows"]["forget_fb"]


def test_tables_depend_on_all_that_is_declared(copy, checkout):
    """The total of a set is its weight in an average: tables are made anew, and nothing is asked again."""
    options = options_of(checkout)
    assert not {"overall_table", "evaluate_after"} & set(copy.planned(*options))
    file = checkout / SETS
    file.write_text(file.read_text().replace("total: 6984", "total: 7000"))
    jobs = copy.planned(*options)
    assert jobs["overall_table"] == 1
    assert not {"prepare_probes", "evaluate_before", "evaluate_after", "unlearn", "unlearn_last"} & set(jobs)


def test_ways_of_asking_and_their_declarations_are_the_same():
    from atu.evaluation.evaluate import ASK

    assert set(ASK) == set(ASKINGS) == {metric.asking for metric in METRICS.values()}
    assert {probe_set.rows for probe_set in PROBE_SETS.values()} == set(FORMS)
    assert {probe_set.metric for probe_set in PROBE_SETS.values()} == set(METRICS)


def test_no_code_knows_a_set_by_its_name():
    files = [path for kind in ("py", "smk") for path in (ROOT / "workflow").rglob(f"*.{kind}")]
    named = re.compile("|".join(f"""["']{name}["']""" for name in (*PROBE_SETS, *AVERAGES)))
    found = {str(path): named.findall(path.read_text(encoding="utf-8")) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (changed(colour="red"), "sets.utility_fac: unknown 'colour'; known: label, better, role, file, rows, ask"),
        (changed(role="skill"), "sets.utility_fac.role: unknown 'skill'; known: forget, neighbour, membership"),
        (changed(better="more"), "sets.utility_fac.better: unknown 'more'; known: lower, higher"),
        (changed(rows="quiz"), "sets.utility_fac.rows: unknown 'quiz'; known: questions, choices, reasoning"),
        (changed(ask="sing"), "sets.utility_fac.ask: unknown 'sing'; known: generate, next_token, choices, text"),
        (changed(metric="bleu"), "sets.utility_fac.metric: unknown 'bleu'; known: rouge_l_recall, reasoning_exact"),
        (changed(metric="accuracy"), "accuracy scores what is asked by next_token; by generate is asked for rouge_l"),
        (changed(rows="instruction"), "factuality reads answers, which rows of form instruction lack; those of ques"),
        (changed("utility_gen", rows="trivia"), "accuracy reads choices, which rows of form trivia lack; those of ch"),
        (changed(total=True), "sets.utility_fac.total: True is not of type int | None"),
        (changed(size=0), "sets.utility_fac.size: 0 is less than 1"),
        (changed(shared="yes"), "sets.utility_fac.shared: 'yes' is not of type bool"),
        (changed(label=None), "sets.utility_fac.label: None is not of type str"),
        (changed(without=["label"]), "sets.utility_fac: lacks label"),
        (changed(without=["size"]), "sets.utility_fac: lacks total or size"),
        (changed(without=["max_new_tokens"]), "sets.utility_fac: ask generate needs max_new_tokens"),
        (changed(without=["message"]), "sets.utility_fac: ask generate needs a message"),
        (changed("mia_fm", message="{query}"), "sets.mia_fm: ask text takes no message"),
        (changed(message="Q: {question}"), "sets.utility_fac.message: unknown 'question'; known: query, context, pr"),
        (changed(message="Q: {"), "sets.utility_fac.message: "),
        (changed("forget_qa", without=["primary"]), "of role forget one set is primary, not none"),
        (changed("forget_aa", primary=True), "of role forget one set is primary, not forget_qa, forget_aa"),
        (changed(primary=True), "of role utility no set is primary, not utility_fac"),
        (
            changed("forget_qa", metric="fluency"),
            "sets.forget_qa: primary needs a metric that is a share, of which there are rouge_l_recall, reasoning",
        ),
        (changed(role="membership"), "sets.utility_fac: role membership needs ask text"),
        (changed("forget_aa", types={"shouting": "loud"}), "'shouting': 'loud' is not a type with a list"),
        (changed("forget_aa", types={"shouting": []}), "by_type: unknown 'affirmative suffix'; known: shouting"),
        (
            changed("forget_aa", by_type={"reverse query": {"stop": 1}}),
            "sets.forget_aa.by_type.reverse query: unknown 'stop'; known: message, suffix",
        ),
        (DECLARED | {"means": {}}, "its sections: unknown 'means'; known: alike, sets, averages"),
        (["forget_qa"], "its sections: ['forget_qa'] is not a block of keys"),
        (DECLARED | {"averages": []}, "averages: [] is not a block of entries"),
        (DECLARED | {"averages": {"Best": {}}}, "averages: 'Best' is no name"),
        (DECLARED | {"averages": {"mia_fm": {"label": "A", "of": ["mia_fm"]}}}, "mia_fm is both a set and an average"),
        (DECLARED | {"averages": {"best": {"label": "A", "of": ["mia"]}}}, "averages.best.of: unknown 'mia'; known: f"),
        (
            DECLARED | {"averages": {"best": {"label": "A", "of": ["utility_gen"]}}},
            "averages.best.of: utility_gen has no total",
        ),
        (
            DECLARED | {"averages": {"best": {"label": "A", "of": ["mia_fm", "mia_rm"]}}},
            "its sets differ in unit, or in which way is better",
        ),
    ],
)
def test_what_is_unknown_is_refused_with_what_is_known(file, message, tmp_path):
    path = tmp_path / "probe_sets.yaml"
    path.write_text(yaml.safe_dump(file, sort_keys=False), encoding="utf-8")
    with pytest.raises(ProbeSetError) as raised:
        read_probe_sets(path)
    said = str(raised.value)
    assert said.startswith(f"{path}: ")
    assert message in said
    assert "\n" not in said


def test_a_file_that_cannot_be_read(tmp_path):
    for text in ("sets: [", None):
        path = tmp_path / "probe_sets.yaml"
        path.unlink(missing_ok=True)
        if text:
            path.write_text(text)
        with pytest.raises(ProbeSetError, match=r"probe_sets\.yaml cannot be read") as raised:
            read_probe_sets(path)
        assert "\n" not in str(raised.value)


def test_metrics_of_answers_by_hand():
    """A metric is handed what the model said and the probe."""
    probe = {"answers": ["born in Rome", "in Rome"], "answer_is_text": False, "query": "Who?"}
    assert METRICS["rouge_l_recall"].score(" in Rome\n", probe) == {"prediction": "in Rome", "score": 2 / 3}
    assert METRICS["rouge_l_recall"].score("", probe) == {"prediction": "NOANSWER", "score": 0.0}
    said = METRICS["reasoning_exact_match"].score("So the answer is in Rome. Yes.", probe)
    assert [said["score"], said["details"]] == [1.0, {"answer": "in Rome"}]
    said = METRICS["factuality"].score("in Paris", probe)
    assert [said["score"], said["details"]] == [0.5, {"exact_match": 0.0}]
    assert METRICS["fluency"].score("one", probe) == {"prediction": "one", "score": 0.0}  # no two words
    letters = np.log([0.2, 0.5, 0.25, 0.05])
    said = METRICS["accuracy"].score(letters, {"answers": ["B"]})
    assert [said["prediction"], said["score"]] == ["B", 1.0]
    assert said["details"] == pytest.approx({"probability": 0.5, "best_wrong": 0.25, "guess": 0.25})
    said = METRICS["accuracy"].score(letters, {"answers": ["A"]})
    assert [said["prediction"], said["score"]] == ["B", 0.0]
    assert said["details"] == pytest.approx({"probability": 0.2, "best_wrong": 0.5, "guess": 0.25})
    # of the choices of MC1 alone: 0.2, 0.6 and 0.2 of what these three have
    choices = {"choices": ["a", "b", "c", "d"], "mc1": [1, 0, -1, 0], "mc2": [1, 0, 1, 0]}
    said = METRICS["truthfulness"].score(np.log([0.1, 0.3, 0.5, 0.1]), choices)
    assert said["details"]["probability"] == pytest.approx(0.2)
    assert said["details"]["best_wrong"] == pytest.approx(0.6)
    assert said["details"]["guess"] == pytest.approx(1 / 3)


def predictions(name, *scores):
    rows = [(name, f"{name}/{i}", "test", score, "Ada") for i, score in enumerate(scores)]
    return pd.DataFrame(rows, columns=["set", "id", "split", "score", "prediction"])


def test_a_second_set_of_fluency_is_seen_to_collapse(monkeypatch):
    """The guard asks for a role: half of before is told of a set that no code names."""
    monkeypatch.setitem(PROBE_SETS, "long_flu", replace(PROBE_SETS["utility_flu"], name="long_flu"))
    assert why_collapsed(predictions("long_flu", 2.0, 2.0), predictions("long_flu", 4.0, 4.0), 0.6) == [
        "fluency 50% of before"
    ]
    assert why_collapsed(predictions("long_flu", 3.0), predictions("long_flu", 4.0), 0.6) == []
    long = summarize(predictions("long_flu", 2.0, 4.0)).set_index(["split", "metric"])
    assert long.loc[("test", "long_flu"), "value"] == 300  # bits x 100


def test_a_new_set_joins_no_average_that_does_not_name_it():
    file = deepcopy(DECLARED)
    file["sets"]["forget_l4"] = LEVEL_4
    sets, averages = check_probe_sets(file)
    assert sets["forget_l4"].heading == "Forget L4 ↓"
    assert averages == AVERAGES


def with_level_4(checkout, benchmark):
    """Declare the set in a copy of the workflow, and give each target of a benchmark its file."""
    path = checkout / SETS
    file = yaml.safe_load(path.read_text(encoding="utf-8"))
    file["sets"]["forget_l4"] = LEVEL_4
    path.write_text(yaml.safe_dump(file, sort_keys=False, allow_unicode=True), encoding="utf-8")
    for target in (benchmark / "Target").iterdir():
        rows = json.loads((target / "forget_level2.json").read_text(encoding="utf-8"))
        rows = [row | {"level": "4", "query": f"Again: {row['query']}"} for row in rows]
        (target / "forget_level4.json").write_text(json.dumps(rows), encoding="utf-8")


def test_a_new_probe_set_needs_its_entry_and_its_file(tiny, checkout, tmp_path):
    for name in ("llm", "encoder", "benchmark"):
        shutil.copytree(tiny / name, tmp_path / "own" / name)
    with_level_4(checkout, tmp_path / "own/benchmark")
    workflow, options = Workflow(tmp_path / "own", tmp_path), options_of(checkout)
    # everything is planned: the set is asked after every run, and no estimate stumbles over it
    assert workflow.planned(*options)["evaluate_after"] == 1
    workflow.run("before", *options)
    table = pd.read_csv(tmp_path / "results/tables/before.csv").set_index("metric")
    assert table.loc["forget_l4", ["n", "targets"]].tolist() == [3, 1]  # one of four is a dev probe
    assert 0 <= table.loc["forget_l4", "value"] <= 100
    assert table.loc["forget_l4", "known"] >= 0
    assert "Forget L4 ↓" in (tmp_path / "results/tables/before.md").read_text(encoding="utf-8")
    probes = pd.read_parquet(workflow.find("llm/tiny/before/1_Ada-*.parquet"))
    asked = probes.loc[probes["set"] == "forget_l4", "prompt"]
    assert asked.str.contains("Question: Again: Who wrote song").sum() == 1
    assert asked.str.endswith("Answer:").all()


def test_a_faulty_entry_ends_a_run_in_one_line(workflow, checkout):
    path = checkout / SETS
    path.write_text(path.read_text(encoding="utf-8").replace("role: neighbour", "role: neighbor"), encoding="utf-8")
    done = workflow.run("--dry-run", *options_of(checkout), check=False)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "probe_sets.yaml" in line]
    assert len(said) == 1
    assert (
        "sets.neighbor_fb.role: unknown 'neighbor'; known: forget, neighbour, membership, utility, fluency" in said[0]
    )
    assert "Traceback" not in done.stderr
