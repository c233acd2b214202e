"""Benchmarks: the one that ships, and what is said of faulty ones."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from atu.data.benchmark import (
    build_probes,
    count_probes,
    difference_from_published,
    list_targets,
    normalize_row,
    of_dev,
    of_test,
    read_intro,
    read_primers,
    read_rows,
    read_texts,
    target_name,
)
from atu.data.probe_sets import PROBE_SETS, of_role
from atu.data.rows import BenchmarkError
from atu.evaluation.doubts import doubts
from conftest import build_benchmark

DEMO = Path(__file__).parents[1] / "workflow/benchmarks/demo"
EXAMPLES = Path(__file__).parents[2] / "shared/data/rwku-examples.json"
ATTACK_TYPES = PROBE_SETS["forget_aa"].types
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
        ("forget_qa", row(answer="\u200b\u200d"), "the answer is empty"),
        ("forget_qa", row(answer=".\u00ad."), "the answer is empty"),
        ("forget_qa", row(query="\ufeff"), "field 'query' is empty"),
        ("utility_fac", {"question": "Who?", "answers": ["\u2060"]}, "the answer is empty"),
        ("forget_aa", row("3", "telepathy"), "unknown type 'telepathy'"),
        ("utility_fac", {"question": "Who?", "answers": "Ada"}, "field 'answers' is 'Ada', not of type list"),
    ],
)
def test_a_faulty_row_says_what_is_wrong(name, fault, message):
    with pytest.raises(BenchmarkError, match=message):
        normalize_row(name, fault)


def test_files_with_misspelt_names_are_named(tiny, tmp_path):
    shutil.copytree(tiny / "benchmark", tmp_path, dirs_exist_ok=True)
    for place, target, file, name in (
        ("Target/1_Ada", "1_Ada", "forget_level2.json", "forget_level2.jsn"),
        ("Target/1_Ada", "1_Ada", "forget_level1.json", "forget_levl1.json"),
        ("Target/1_Ada", "1_Ada", "neighbor_level1.json", "Neighbour_Level1.json"),
        ("Utility", None, "triviaqa.json", "trivia_qa.json"),
    ):
        (tmp_path / place / file).rename(tmp_path / place / name)
        with pytest.raises(BenchmarkError, match=f"{place}/{name} is read by nothing; if {file} is meant, rename it"):
            build_probes(tmp_path, target, 0, 0)
        (tmp_path / place / name).rename(tmp_path / place / file)
    for name in ("README.md", "._forget_level1.json", "forget_level1.json.bak", "notes.json"):
        (tmp_path / "Target/1_Ada" / name).write_text("")
    build_probes(tmp_path, "1_Ada", 0, 0)


def test_counts_are_compared_with_the_published_ones(tmp_path, monkeypatch):
    monkeypatch.setitem(PROBE_SETS, "forget_qa", replace(PROBE_SETS["forget_qa"], total=3))
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
    assert set(probes["set"]) == {*of_role("utility", "fluency"), "mia_rm"}
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
    with pytest.raises(BenchmarkError, match="unknown type 'shouting'"):
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


QUESTION = {"question": "Who is red?", "choices": ["Di", "Bo", "Cy", "Ada"], "answer": 3}
MMLU = QUESTION | {"task": "t", "examples": [QUESTION]}
BBH = {"task": "t", "cot": "", "question": "Is red blue?", "answer": "no"}
TRIVIA = {"question": "Who?", "answers": ["Ada"]}
LABELS = {"choices": ["red", "blue"], "labels": [1, 0]}
TRUTH = {"question": "Who?", "mc1_targets": LABELS, "mc2_targets": LABELS}


def labelled(*labels, choices=("red", "blue"), field="mc1_targets"):
    return TRUTH | {field: {"choices": list(choices), "labels": list(labels)}}


@pytest.mark.parametrize(
    ("file", "fault", "message"),
    [
        # MMLU: the place of the right choice
        ("retain_mmlu", MMLU | {"answer": -1}, "field 'answer' is -1, not one of 0 to 3"),
        ("retain_mmlu", MMLU | {"answer": True}, "field 'answer' is True, not of type int"),
        ("retain_mmlu", MMLU | {"answer": 4}, "field 'answer' is 4, not one of 0 to 3"),
        ("retain_mmlu", MMLU | {"answer": "A"}, "field 'answer' is 'A', not of type int"),
        ("retain_mmlu", MMLU | {"choices": ["a", "b", "c"]}, "field 'choices' is ['a', 'b', 'c'], not a list of 4"),
        ("retain_mmlu", MMLU | {"choices": ["a", "b", "c", 4]}, "field 'choices' holds 4, which is no text"),
        ("retain_mmlu", MMLU | {"choices": ["a", "b", "c", " "]}, "field 'choices' holds ' ', which is no text"),
        ("retain_mmlu", MMLU | {"question": " "}, "field 'question' is empty"),
        ("retain_mmlu", MMLU | {"examples": [QUESTION, QUESTION | {"answer": -1}]}, "number 2: field 'answer' is -1"),
        ("retain_mmlu", MMLU | {"examples": [{"question": "Who?"}]}, "'examples', number 1: lacks field 'choices'"),
        ("retain_mmlu", MMLU | {"examples": ["Who?"]}, "'examples', number 1: 'Who?' is not an object"),
        # answers that nothing or anything would match
        ("retain_bbh", BBH | {"answer": ""}, "field 'answer': the answer is empty"),
        ("retain_bbh", BBH | {"answer": []}, "field 'answer': the answer is empty"),
        ("retain_bbh", BBH | {"answer": ["", " "]}, "field 'answer': the answer is empty"),
        ("retain_bbh", BBH | {"answer": None}, "field 'answer' is None, not of type str or list"),
        ("retain_bbh", BBH | {"answer": [5]}, "field 'answer' holds 5, which is not text"),
        ("retain_bbh", BBH | {"answer": "NOANSWER"}, "NOANSWER, which stands for an empty answer"),
        ("triviaqa", TRIVIA | {"answers": []}, "field 'answers': the answer is empty"),
        ("triviaqa", TRIVIA | {"answers": None}, "field 'answers' is None, not of type list"),
        ("triviaqa", TRIVIA | {"answers": ["Ada", None]}, "field 'answers' holds None, which is not text"),
        ("triviaqa", TRIVIA | {"question": "\n"}, "field 'question' is empty"),
        ("forget_level2", row(answer=" . "), "field 'answer': the answer is empty"),
        ("forget_level2", row(answer=None), "field 'answer' is None, not of type str"),
        ("forget_level2", row(query=" "), "field 'query' is empty"),
        ("forget_level2", row(query=7), "field 'query' is 7, not of type str"),
        ("forget_level2", row(level=True), "field 'level' is True, not of type str or int"),
        ("forget_level2", row(query="half \ud800 of it"), "field 'query' holds '\\ud800', half of a character"),
        ("retain_mmlu", MMLU | {"examples": [QUESTION | {"question": "\udfff"}]}, "field 'examples' holds '\\udfff'"),
        ("forget_level2", row(subject="Cy"), "field 'subject' is 'Cy': the row is about somebody else than Bo"),
        ("forget_level2", row(subject=3), "field 'subject' is 3, not text"),
        ("neighbor_level2", row(neighbor=3), "field 'neighbor' is 3, not text"),
        # texts without a likelihood
        ("forget_mia", {"text": ""}, "field 'text' is empty"),
        ("forget_mia", {"text": "Rome"}, "field 'text' is 'Rome': one word is no text"),
        ("forget_mia", {"text": ["Bo was a poet."]}, "field 'text' is ['Bo was a poet.'], not of type str"),
        # TruthfulQA
        ("truthful", labelled(0, 0), "mc1_targets: no choice is true (label 1)"),
        ("truthful", labelled(1, 1, field="mc2_targets"), "mc2_targets: no choice is false (label 0)"),
        ("truthful", labelled(1, 1, 0, choices="abc"), "mc1_targets: 2 choices are true (label 1); it must be one"),
        ("truthful", labelled(1, 2), "mc1_targets: the label 2 is neither 0 nor 1"),
        ("truthful", labelled(True, False), "mc1_targets: the label True is neither 0 nor 1"),
        ("truthful", labelled(1, 0, 0), "mc1_targets: choices and labels are not two lists of one length"),
        ("truthful", labelled(1, 0, choices=["red", ""]), "mc1_targets: the choice '' is no text"),
        ("truthful", labelled(1, 0, choices=["red", "red"]), "mc1_targets: one choice is both true and false"),
        ("truthful", TRUTH | {"mc1_targets": {"choices": ["red"]}}, "lacks field 'labels'"),
        ("fluency", {"instruction": " "}, "field 'instruction' is empty"),
    ],
)
def test_faults_are_named_by_file_and_row(tmp_path, file, fault, message):
    good = {"forget_level2": row(), "neighbor_level2": row(), "retain_mmlu": MMLU, "retain_bbh": BBH}
    good |= {"triviaqa": TRIVIA, "truthful": TRUTH, "forget_mia": {"text": "Bo was a poet."}}
    good |= {"fluency": {"instruction": "write"}}
    folder = tmp_path / "Target/1_Bo"
    folder.mkdir(parents=True)
    for name, one in good.items():
        (folder / f"{name}.json").write_text(json.dumps([one]))
    probes, _ = build_probes(tmp_path, "1_Bo", 0.0, 0)
    assert len(probes) == len(good)
    (folder / f"{file}.json").write_text(json.dumps([good[file], fault]))
    with pytest.raises(BenchmarkError) as raised:
        build_probes(tmp_path, "1_Bo", 0.0, 0)
    said = str(raised.value)
    assert said.startswith(f"{folder}/{file}.json, row 2: ")
    assert message in said
    assert "\n" not in said


def test_files_and_folders_in_each_others_place(tmp_path):
    folder = tmp_path / "Target/1_Ada"
    (folder / "forget_level2.json").mkdir(parents=True)
    with pytest.raises(BenchmarkError, match=r"forget_level2.json is a folder; it must be a JSON file"):
        build_probes(tmp_path, "1_Ada", 0.0, 0)
    (tmp_path / "Target/2_Bo").write_text("[]")
    with pytest.raises(BenchmarkError, match="2_Bo is a file; it must be a folder"):
        build_probes(tmp_path, "2_Bo", 0.0, 0)
    (tmp_path / "Target/3_Cy").mkdir()
    (tmp_path / "Target/3_Cy/forget_level1.json").symlink_to(tmp_path / "gone.json")
    with pytest.raises(BenchmarkError, match=r"forget_level1.json cannot be read \(No such file"):
        build_probes(tmp_path, "3_Cy", 0.0, 0)
    (tmp_path / "Target/3_Cy/forget_level1.json").unlink()
    (tmp_path / "Target/3_Cy/forget_level1.json").write_text("[]")
    with pytest.raises(BenchmarkError, match=r"forget_level1.json has no rows"):
        build_probes(tmp_path, "3_Cy", 0.0, 0)


def test_a_set_that_would_be_asked_twice(tiny, tmp_path):
    for place in ("Target/1_Bo", "Utility"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "triviaqa.json").write_text(json.dumps([TRIVIA]))
    with pytest.raises(BenchmarkError, match=r"utility_fac would be asked twice.*Utility/triviaqa.json.*1_Bo/triviaqa"):
        build_probes(tmp_path, "1_Bo", 0.0, 0)


def test_a_set_without_a_test_probe(tmp_path):
    folder = tmp_path / "Target/1_Bo"
    folder.mkdir(parents=True)
    (folder / "forget_level2.json").write_text(json.dumps([row(query=f"Who {i}?") for i in range(4)]))
    assert build_probes(tmp_path, "1_Bo", 0.8, 0)[0]["split"].tolist().count("test") == 1  # round(0.8 x 4) = 3 are dev
    of_dev_target = build_probes(tmp_path, "1_Bo", 1.0, 0)[0]
    assert set(of_dev_target["split"]) == {"dev target"}
    assert len(of_dev(of_dev_target)) == len(of_test(of_dev_target)) == 4
    with pytest.raises(BenchmarkError, match=r"forget_qa has no test probe: with split.dev_share 0.9 all of its 4"):
        build_probes(tmp_path, "1_Bo", 0.9, 0)


def test_names_are_compared_whatever_their_accents_are_made_of(tmp_path):
    composed, decomposed = "24_Beyonc\u00e9", "24_Beyonce\u0301"
    assert target_name(decomposed) == target_name(composed) == "Beyonc\u00e9"
    assert target_name("10_Prince_Harry,_Duke_of_Sussex") == "Prince Harry, Duke of Sussex"
    assert target_name("7_1984") == "1984"
    for folder, other in ((composed, decomposed), (decomposed, composed)):
        place = tmp_path / folder / "Target" / folder
        place.mkdir(parents=True)
        (place / "forget_level2.json").write_text(
            json.dumps([row(subject=target_name(folder)), row(subject=other[3:])])
        )
        assert list_targets(tmp_path / folder) == [folder]  # as the folder is spelt
        assert len(build_probes(tmp_path / folder, folder, 0.0, 0)[0]) == 2


@pytest.mark.parametrize(
    ("text_set", "fault", "message"),
    [
        ("positive_phi", {"text": 3}, "field 'text' is 3, not of type str"),
        ("positive_phi", {"txt": "Bo"}, "lacks field 'text'"),
        ("passage", {"text": " "}, "field 'text' is empty"),
        ("passage", {"text": "Bo", "subject": "Ada"}, "about somebody else than Bo"),
        ("pair_phi", {"prompt": "Who?", "response": ["one"]}, "field 'response' is ['one'], not two texts"),
        ("pair_phi", {"prompt": "Who?", "response": ["one", None]}, "field 'response' is ['one', None], not two texts"),
        ("pair_phi", {"prompt": "Who?", "response": "one two"}, "field 'response' is 'one two', not of type list"),
        ("pair_phi", {"prompt": "", "response": ["a", "b"]}, "field 'prompt' is empty"),
        ("reject_phi", {"instruction": "Who?"}, "lacks field 'output'"),
        ("reject_phi", {"instruction": "Who?", "output": 1}, "field 'output' is 1, not of type str"),
        ("intro", {"target": "Bo", "intro": None}, "field 'intro' is None, not of type str"),
        ("intro", {"target": "Bo", "intro": " "}, "field 'intro' is empty"),
        ("intro", {"target": "Ada", "intro": "Ada was a poet."}, "field 'target' is 'Ada'"),
    ],
)
def test_faults_of_texts_are_named_by_file_and_row(tmp_path, text_set, fault, message):
    folder = tmp_path / "Target/1_Bo"
    folder.mkdir(parents=True)
    (folder / f"{text_set}.json").write_text(json.dumps([fault]))
    with pytest.raises(BenchmarkError) as raised:
        read_texts(tmp_path, "1_Bo", text_set)
    assert str(raised.value).startswith(f"{folder}/{text_set}.json, row 1: ")
    assert message in str(raised.value)


def test_an_intro_is_one_sentence(tiny, tmp_path):
    assert read_intro(tiny / "benchmark", "1_Ada") == "Ada was a poet."
    (tmp_path / "Target/1_Bo").mkdir(parents=True)
    with pytest.raises(BenchmarkError, match=r"1_Bo/intro.json must hold one row with field 'intro'.*has none"):
        read_intro(tmp_path, "1_Bo")
    (tmp_path / "Target/1_Bo/intro.json").write_text(json.dumps([{"intro": "Bo."}, {"intro": "Ada."}]))
    with pytest.raises(BenchmarkError, match=r"must hold one row with field 'intro'.*has 2"):
        read_intro(tmp_path, "1_Bo")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"triviaqa": "Q', "is not valid JSON"),
        ('["Q: a"]', "is not an object"),
        ('{"triviaqa": 3}', "field 'triviaqa' is 3, not of type str"),
        ('{"trivia": "Q: a"}', "unknown primer 'trivia' (known: triviaqa, truthfulqa)"),
        ('{"triviaqa": "\\ud800"}', "half of a character"),
    ],
)
def test_faults_of_primers(tiny, tmp_path, text, message):
    assert set(read_primers(tiny / "benchmark/Utility/primers.json")) == {"triviaqa", "truthfulqa"}
    (tmp_path / "primers.json").write_text(text)
    with pytest.raises(BenchmarkError) as raised:
        read_primers(tmp_path / "primers.json")
    assert str(raised.value).startswith(f"{tmp_path}/primers.json")
    assert message in str(raised.value)


def test_what_is_odd_is_said_and_not_refused(tmp_path):
    folder = tmp_path / "Target/1_Bo"
    folder.mkdir(parents=True)
    (folder / "forget_level2.json").write_text(json.dumps([row(), row(query="When?"), row(), row()]))
    (folder / "retain_bbh.json").write_text(json.dumps([BBH | {"answer": "(A)"}]))
    (folder / "triviaqa.json").write_text(json.dumps([TRIVIA, TRIVIA | {"question": "?", "answers": ["", "Bo"]}]))
    (folder / "retain_mmlu.json").write_text(json.dumps([MMLU, MMLU | {"choices": ["a", "a", "b", "c"]}]))
    assert doubts(build_probes(tmp_path, "1_Bo", 0.0, 0)[0]) == [
        "forget_qa: 2 (row 3, 4) ask what an earlier row asks",
        "utility_gen: 1 (row 2) have one choice twice",
        "utility_rea: 1 (row 1) have an answer without words, compared as it stands",
        "utility_fac: 1 (row 2) have a blank answer among others, which nothing matches",
    ]


def test_rows_about_a_neighbor_are_no_rows_about_the_target(tmp_path):
    build_benchmark(tmp_path)
    place = tmp_path / "Target/1_Ada"
    (place / "forget_level2.json").write_bytes((place / "neighbor_level2.json").read_bytes())
    with pytest.raises(BenchmarkError, match=r"forget_level2.json, row 1: is about the neighbor 'Di'"):
        build_probes(tmp_path, "1_Ada", 0.0, 0)


def test_a_key_that_stands_twice(tmp_path):
    build_benchmark(tmp_path)
    path = tmp_path / "Target/1_Ada/forget_mia.json"
    path.write_text('[{"text": "Ada was a poet", "text": "Bo was a king"}]')
    with pytest.raises(BenchmarkError, match=r"an object has the key 'text' twice"):
        build_probes(tmp_path, "1_Ada", 0.0, 0)


def test_an_answer_with_a_period_inside_is_doubted(tmp_path):
    """What is scored ends at the first period: "So the answer is 3.5." is scored as 3."""
    build_benchmark(tmp_path)
    path = tmp_path / "Utility/retain_bbh.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([rows[0] | {"answer": ["3.5"]}, rows[0] | {"question": "Who?"}]))
    probes, _ = build_probes(tmp_path, None, 0.0, 0)
    assert "utility_rea: 1 (row 1) have a period inside the answer" in "\n".join(doubts(probes))
