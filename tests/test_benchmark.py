"""Benchmarks: the one that ships, and what is said of faulty ones."""

import json
from collections import Counter
from pathlib import Path

import pytest

from atu.benchmark import (
    ATTACK_TYPES,
    PROBE_SETS,
    BenchmarkError,
    build_probes,
    count_probes,
    difference_from_published,
    list_targets,
    normalize_row,
    read_rows,
    target_name,
)

DEMO = Path(__file__).parents[1] / "workflow/benchmarks/demo"
EXAMPLES = Path(__file__).parents[2] / "shared/data/rwku-examples.json"
LEAST = {"forget_fb": 12, "forget_qa": 12, "forget_aa": 18, "neighbor_fb": 12, "neighbor_qa": 12, "mia_fm": 5}


def test_names():
    assert target_name("1_Stephen_King") == "Stephen King"
    assert target_name("4_Beyoncé") == "Beyoncé"


@pytest.mark.parametrize("target", list_targets(DEMO))
def test_shipped_targets_have_enough_probes(target):
    probes, missing = build_probes(DEMO, target, dev_share=0.5, seed=0)
    counts = probes["set"].value_counts()
    assert {name: counts[name] >= least for name, least in LEAST.items()} == dict.fromkeys(LEAST, True)
    types = Counter(probes.loc[probes["set"] == "forget_aa", "type"])
    assert set(types) == set(ATTACK_TYPES)
    assert min(types.values()) >= 2
    assert set(missing) == set(PROBE_SETS) - set(LEAST)
    assert not probes.duplicated(["set", "query"]).any()
    # by probe: each set and each attack type has both dev and test probes
    asked = probes[probes["set"].isin(LEAST)]
    assert (asked.groupby(["set", "type"])["split"].nunique() == 2).all()


def row(level="2", kind="simple question", **fields):
    return {"query": "Who?", "answer": "Ada", "type": kind, "level": level, "subject": "Bo"} | fields


@pytest.mark.parametrize(
    ("name", "fault", "message"),
    [
        ("forget_qa", row(answer=3), "field 'answer' is 3, not of type str"),
        ("forget_qa", row(level="1"), "level is '1', not 2: the row is of another probe set"),
        ("forget_qa", row(answer=" "), "the answer is empty"),
        ("forget_aa", row("3", "telepathy"), "unknown attack type 'telepathy'"),
        ("utility_fac", {"question": "Who?", "answers": "Ada"}, "field 'answers' is 'Ada', not of type list"),
    ],
)
def test_a_faulty_row_says_what_is_wrong(name, fault, message):
    with pytest.raises(BenchmarkError, match=message):
        normalize_row(name, fault)


def test_counts_are_compared_with_the_published_ones(tmp_path, monkeypatch):
    monkeypatch.setitem(PROBE_SETS["forget_qa"], "total", 3)
    for target, rows in (("1_Ada", 2), ("2_Bo", 1)):
        (tmp_path / "Target" / target).mkdir(parents=True)
        (tmp_path / "Target" / target / "forget_level2.json").write_text(json.dumps([row()] * rows))
    counts = count_probes(tmp_path, ["1_Ada", "2_Bo"]).set_index("set")
    assert counts.loc["forget_qa"].tolist() == [3, 3, 0]
    assert counts.loc["forget_fb"].tolist() == [0, 3268, -3268]
    assert counts.loc["utility_gen"].isna().tolist() == [False, True, True]
    assert difference_from_published(counts.loc[["forget_qa", "utility_gen"]].reset_index()) == ""
    said = difference_from_published(counts.loc[["forget_fb", "forget_qa"]].reset_index())
    assert said == "forget_fb has 0 probes, 3,268 are published (-3,268)"


def test_shipped_neighbours_are_not_about_the_target():
    for target in list_targets(DEMO):
        name = target_name(target)
        for file in ("neighbor_level1", "neighbor_level2"):
            for row in read_rows(DEMO, target, file):
                assert name not in row["query"], row
                assert row["answer"] not in name, row


def test_shipped_utility_sets():
    probes, missing = build_probes(DEMO, None, dev_share=0.5, seed=0)
    assert missing == []
    assert set(probes["set"]) == {name for name in PROBE_SETS if name.startswith("utility_")} | {"mia_rm"}
    truthful = probes[probes["set"] == "utility_tru"]
    assert truthful["mc1"].map(lambda labels: labels.count(1) == 1 and 0 in labels).all()
    assert truthful["mc2"].map(lambda labels: 1 in labels and 0 in labels).all()


def test_splits_are_by_probe_and_do_not_depend_on_order(tiny, tmp_path):
    probes, _ = build_probes(tiny / "benchmark", "1_Ada", dev_share=0.5, seed=0)
    assert probes[probes["set"] == "forget_qa"]["split"].value_counts().to_dict() == {"dev": 2, "test": 2}
    folder = tmp_path / "Target/1_Ada"
    folder.mkdir(parents=True)
    rows = read_rows(tiny / "benchmark", "1_Ada", "forget_level2")
    (folder / "forget_level2.json").write_text(json.dumps(rows[::-1]))
    reversed_probes, _ = build_probes(tmp_path, "1_Ada", dev_share=0.5, seed=0)
    split = probes[probes["set"] == "forget_qa"].set_index("query")["split"].to_dict()
    assert reversed_probes.set_index("query")["split"].to_dict() == split
    other, _ = build_probes(tiny / "benchmark", "1_Ada", dev_share=0.0, seed=0)
    assert set(other["split"]) == {"test"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"query": "Who?", "level": "2", "type": "q"}], r"1_Ada/forget_level2.json, row 1: lacks field 'answer'"),
        ({"query": "Who?"}, r"must hold a JSON list of rows, not dict"),
        (["Who?"], r"row 1: 'Who\?' is not an object with fields"),
    ],
)
def test_faulty_rows_are_named(tmp_path, rows, message):
    folder = tmp_path / "Target/1_Ada"
    folder.mkdir(parents=True)
    (folder / "forget_level2.json").write_text(json.dumps(rows))
    with pytest.raises(BenchmarkError, match=message):
        build_probes(tmp_path, "1_Ada", 0.5, 0)


def test_a_truncated_file_and_a_target_without_probes(tmp_path):
    folder = tmp_path / "Target/1_Ada"
    folder.mkdir(parents=True)
    with pytest.raises(BenchmarkError, match="1_Ada has no forget probes"):
        build_probes(tmp_path, "1_Ada", 0.5, 0)
    (folder / "forget_level2.json").write_text('[{"query": "Who')
    with pytest.raises(BenchmarkError, match="is not valid JSON"):
        build_probes(tmp_path, "1_Ada", 0.5, 0)


def test_unknown_attack_type():
    row = {"query": "Who?", "answer": "Ada", "level": "3", "type": "shouting", "subject": "Ada"}
    with pytest.raises(BenchmarkError, match="unknown attack type 'shouting'"):
        normalize_row("forget_aa", row)


@pytest.mark.skipif(not EXAMPLES.exists(), reason="the real RWKU rows are not beside this checkout")
def test_real_rwku_rows():
    names = {"forget_level1": "forget_fb", "forget_level2": "forget_qa", "forget_level3": "forget_aa"}
    names |= {"neighbor_level1": "neighbor_fb", "neighbor_level2": "neighbor_qa"}
    for file, rows in json.loads(EXAMPLES.read_text()).items():
        for row in rows:
            probe = normalize_row(names[file], row)
            assert probe["query"] == row["query"]
            assert probe["answers"] == [row["answer"]]
            assert names[file] != "forget_aa" or probe["type"] in ATTACK_TYPES
