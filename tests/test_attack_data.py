"""Data for attacks on models that have unlearned, of the benchmark that ships: what a program can check of it.

Whether its statements are true, and whether a paraphrase asks what its probe asks, only a reader can say.
"""

import json
import re
from pathlib import Path

import pytest

from atu.data.benchmark import list_targets, read_rows, target_name

DEMO = Path(__file__).parents[1] / "workflow/benchmarks/demo"
TARGETS = list_targets(DEMO)
PARAPHRASED = ("forget_level1", "forget_level2", "neighbor_level1", "neighbor_level2")
PROBES = (*PARAPHRASED, "forget_level3")
TEXTS = {"relearn": 12, "relearn_neighbors": 12}
ARTICLES = {"a", "an", "the"}


def words(text):
    """Lower-case words, of which articles, punctuation and the ending of "Newton's" are no part."""
    return [word for word in re.findall(r"[^\W_]+", text.lower().replace("'s", "")) if word not in ARTICLES]


def holds(text, part):
    """Whether the words of ``part`` stand in ``text``, one behind the other."""
    return f" {' '.join(words(part))} " in f" {' '.join(words(text))} "


def sentences(text):
    """The text's sentences, each as its words; not the ends of "Franklin D. Roosevelt" and the like."""
    parts = [words(part) for part in re.split(r"(?<=[.!?])\s+", text)]
    return {" ".join(part) for part in parts if len(part) > 3}


def load(place, name):
    return json.loads((DEMO / place / f"{name}.json").read_text(encoding="utf-8"))


def load_texts(place, name):
    rows = load(place, name)
    assert {tuple(row) for row in rows} == {("text",)}
    return [row["text"] for row in rows]


def new_texts():
    """Every text of the attacks, by its file."""
    for target in TARGETS:
        for name in TEXTS:
            yield f"Target/{target}/{name}", load_texts(f"Target/{target}", name)
    yield "Utility/relearn_unrelated", load_texts("Utility", "relearn_unrelated")


def probes_of(target):
    return [row for file in PROBES for row in read_rows(DEMO, target, file)]


def neighbors():
    return {row["neighbor"] for target in TARGETS for file in PROBES[2:4] for row in read_rows(DEMO, target, file)}


def test_every_target_has_every_file():
    counts = {path: len(texts) for path, texts in new_texts()}
    expected = {f"Target/{target}/{name}": count for target in TARGETS for name, count in TEXTS.items()}
    assert counts == expected | {"Utility/relearn_unrelated": 24}
    assert [len(load(f"Target/{target}", "facts")) for target in TARGETS] == [8] * len(TARGETS)


def test_texts_have_60_to_90_words_and_stand_once():
    texts = [text for _, of_file in new_texts() for text in of_file]
    assert {text: len(text.split()) for text in texts if not 60 <= len(text.split()) <= 90} == {}
    assert len(set(texts)) == len(texts)
    of_texts = [sentence for text in texts for sentence in sentences(text)]
    assert {sentence for sentence in of_texts if of_texts.count(sentence) > 1} == set()


def test_no_sentence_stands_in_an_earlier_text_or_a_probe():
    known = set()
    for target in TARGETS:
        for name in ("passage", "forget_mia"):
            known |= {sentence for row in load(f"Target/{target}", name) for sentence in sentences(row["text"])}
        known |= sentences(load(f"Target/{target}", "intro")[0]["intro"])
        for row in probes_of(target):
            known |= sentences(row["query"]) | sentences(row["query"].replace("___", row["answer"]))
    known |= {sentence for row in load("Utility", "retain_mia") for sentence in sentences(row["text"])}
    for path, texts in new_texts():
        assert {sentence for text in texts for sentence in sentences(text)} & known == set(), path


@pytest.mark.parametrize("target", TARGETS)
def test_texts_name_what_the_probes_ask_for(target):
    """Relearning has to bring the facts back: at most one answer in twenty may stand in no text."""
    for files, name in ((PARAPHRASED[:2], "relearn"), (PARAPHRASED[2:], "relearn_neighbors")):
        texts = load_texts(f"Target/{target}", name)
        answers = [row["answer"] for file in files for row in read_rows(DEMO, target, file)]
        lacking = [answer for answer in answers if not any(holds(text, answer) for text in texts)]
        assert len(lacking) <= len(answers) / 20, (name, lacking)


@pytest.mark.parametrize("target", TARGETS)
def test_who_the_texts_are_about(target):
    name = target_name(target)
    known_as = {name, name.split()[-1]}
    assert [text for text in load_texts(f"Target/{target}", "relearn") if not holds(text, name)] == []
    of_neighbors = load_texts(f"Target/{target}", "relearn_neighbors")
    assert [text for text in of_neighbors for one in known_as if holds(text, one)] == []
    named = {row["neighbor"] for file in PARAPHRASED[2:] for row in read_rows(DEMO, target, file)}
    last = {one: re.sub(r" (I+|of .*)$", "", one).split()[-1] for one in named}
    assert {one for one in named if not any(holds(text, last[one]) for text in of_neighbors)} == set()


def test_unrelated_texts_name_no_target_and_no_neighbor():
    texts = load_texts("Utility", "relearn_unrelated")
    people = {target_name(target) for target in TARGETS} | neighbors()
    last = {name.split()[-1] for name in people} - {"I", "Great", "Citium"}  # "James I", "Alexander the Great"
    assert {(name, text) for name in people | last for text in texts if holds(text, name)} == set()


@pytest.mark.parametrize("target", TARGETS)
def test_every_probe_has_one_paraphrase(target):
    rows = load(f"Target/{target}", "paraphrases")
    assert {tuple(row) for row in rows} == {("file", "row", "query")}
    probes = {(file, n): row for file in PARAPHRASED for n, row in enumerate(read_rows(DEMO, target, file))}
    assert [(row["file"], row["row"]) for row in rows] == list(probes)
    asked = {" ".join(words(row["query"])) for row in probes_of(target)}
    for row in rows:
        probe = probes[row["file"], row["row"]]
        assert " ".join(words(row["query"])) not in asked, row
        assert row["query"].count("___") == probe["query"].count("___"), row
        assert row["query"].count("_") == probe["query"].count("_"), row
        said, asks = set(words(row["query"])), set(words(probe["query"]))
        assert len(said & asks) <= 0.6 * len(said | asks), row
        assert said.isdisjoint(words(probe["answer"])), (row, probe["answer"])
        name = target_name(target)
        if row["file"].startswith("forget") and name in probe["query"]:
            assert name in row["query"], row
    for file in PARAPHRASED:
        queries = [row["query"] for row in rows if row["file"] == file]
        assert len(set(queries)) == len(queries)


@pytest.mark.parametrize("target", TARGETS)
def test_facts_give_no_answer_away(target):
    """Their answers are sentences, as a model answers that is not told to be short."""
    rows = load(f"Target/{target}", "facts")
    assert {tuple(row) for row in rows} == {("query", "answer")}
    assert len({row["query"] for row in rows}) == len({row["answer"] for row in rows}) == len(rows)
    name = target_name(target)
    probes = probes_of(target)
    answers = {row["answer"] for row in probes} - {name}
    for row in rows:
        assert name in row["query"], row
        assert row["answer"].endswith(".")
        said = f"{row['query']} {row['answer']}".replace(name, "")
        assert [answer for answer in answers if holds(said, answer)] == [], row
        names = re.findall(r"[A-Z]\w*[a-z](?: [A-Z]\w*[a-z])*", row["answer"].replace(name, ""))
        told = [one for one in names if not holds(row["query"], one)]
        assert [answer for answer in answers if any(holds(answer, one) for one in told)] == [], row
        assert [probe["query"] for probe in probes if any(holds(probe["query"], one) for one in told)] == [], row
