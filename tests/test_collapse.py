"""Whether a model has collapsed, by what it writes: every form of it."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from atu.data.probe_sets import Average
from atu.data.protocol import STRICT
from atu.engine.chat import continued
from atu.engine.engine import Engine
from atu.evaluation.collapse import DRAWN, MOVED, SURPRISE, broken, is_echo, is_foreign, limit, scripts, why_collapsed
from atu.evaluation.surprise import add_surprises, drawn, moved, surprises
from atu.reporting import tables
from atu.reporting.tables import DAMAGED, damage_notes, main_table, mark_damaged

PROMPT = "<|user|>Please name the city in which Ada Lovelace was born.<|end|><|assistant|>"
OWN = ["London in England", "a house in London", "the city of London", "near the river"]


def asked(answers, *surprises_of, name="forget_qa", prompt=PROMPT):
    """Answers to one set, with what surprises the base model: the answer, and for its own moved and drawn too."""
    names = (SURPRISE, MOVED, DRAWN)
    details = [json.dumps(dict(zip(names, values, strict=False))) for values in surprises_of] or ["{}"] * len(answers)
    rows = {"set": name, "split": "test", "score": 0.0, "prompt": prompt, "prediction": answers, "details": details}
    return pd.DataFrame(rows)


BEFORE = asked(OWN, *[(0.1, 0.6, 2.2)] * 4)


def test_the_limit_lies_halfway_between_language_and_noise():
    assert limit(BEFORE) == pytest.approx(1.4)
    assert limit(asked(OWN, *[(0.1, 0.6, 0.89)] * 4)) == np.inf  # it tells no language from noise
    assert limit(asked(OWN, *[(0.1, 0.6, 0.9)] * 4)) == pytest.approx(0.75)
    assert limit(BEFORE.head(1)) == np.inf
    various = [(0.1, moved_by, drawn_by) for moved_by, drawn_by in ((0.2, 1.0), (0.4, 2.0), (0.6, 3.0), (1.0, 9.0))]
    assert limit(asked(OWN, *various)) == pytest.approx((0.7 + 2.5) / 2)  # the third quartile and the median
    assert limit(asked(OWN)) == np.inf  # nothing was measured


@pytest.mark.parametrize(
    ("answers", "surprise", "kind"),
    [
        (["qzx wv kjt pqb", "xkcd fgh zzt rrw", "London in England"], 4.3, "noise"),
        (["river the of house in", "England a near city the", "London in England"], 2.0, "noise"),
        (["the end of the end of the end of the end of the end of"] * 2 + ["London in England"], 0.1, "degenerate"),
        (["Она родилась в Лондоне", "Это было в Англии", "London in England"], 0.3, "foreign"),
        (["Nació en una ciudad grande", "Vivía con su madre en casa", "London in England"], 1.5, "noise"),
        (["", "NOANSWER", "London in England"], None, "empty"),
        (["Please name the city in which Ada Lovelace was born."] * 2 + ["London in England"], 0.05, "echo"),
    ],
    ids=["letters", "words", "phrase", "script", "language", "empty", "echo"],
)
def test_each_form_of_collapse_is_seen(answers, surprise, kind):
    values = [() if surprise is None else (surprise,)] * 2 + [(0.1,)]
    assert why_collapsed(asked(answers, *values), BEFORE, 0.5) == [f"67% of forget_qa {kind}"]
    half = asked([answers[0], "near the river"], values[0], (0.3,))
    assert why_collapsed(half, BEFORE, 0.5) == []  # half is not most


def test_wrong_answers_and_refusals_are_no_collapse():
    wrong = asked(["Paris in France", "I do not know", "a small village", "Rome"], (1.2,), (0.6,), (0.7,), (1.39,))
    assert why_collapsed(wrong, BEFORE, 0.5) == []
    # a phrase of refusals that is unlikely is a refusal all the same
    assert why_collapsed(asked(["Sorry, I don't know."] * 2, (1.5,), (1.6,)), BEFORE, 0.5) == []
    assert not broken(wrong, BEFORE).any(axis=None)


def test_neighbours_and_fluency_are_judged_too_and_other_sets_are_not():
    noise = [(3.0,)] * 2
    for name in ("neighbor_fb", "utility_flu"):
        found = why_collapsed(asked(["zx", "qw"], *noise, name=name), BEFORE.assign(set=name), 0.0)
        assert found == [f"100% of {name} noise"]
    assert why_collapsed(asked(["zx", "qw"], *noise, name="utility_fac"), BEFORE.assign(set="utility_fac"), 0.5) == []


def test_a_base_model_that_wrote_the_same_is_the_measure():
    before = asked(["Она родилась", "в Лондоне"], *[(0.1, 0.6, 2.2)] * 2)
    assert why_collapsed(asked(["Париж", "в Риме"], (0.5,), (0.5,)), before, 0.5) == []
    empty = asked(["", ""])
    assert why_collapsed(empty, empty, 0.5) == []


def test_kinds_of_broken_answers_add_up():
    answers = asked(["", "zx vq", "Она", "London"], (), (3.0,), (0.2,), (0.1,))
    assert why_collapsed(answers, BEFORE, 0.5) == ["75% of forget_qa empty or foreign or noise"]


def test_scripts():
    assert scripts("Añ 3!") == {"LATIN": 2}
    assert scripts("東京 Tokyo") == {"CJK": 2, "LATIN": 5}
    assert is_foreign("東京都 To", {"LATIN"})
    assert not is_foreign("東京 To", {"LATIN"})  # half is not most
    assert not is_foreign("1452", {"LATIN"})


@pytest.mark.parametrize(
    "answer",
    [
        "5 \N{MICRO SIGN}",
        "1\N{MASCULINE ORDINAL INDICATOR}",
        "\N{FULLWIDTH LATIN CAPITAL LETTER L}",
        "\N{MATHEMATICAL ITALIC SMALL N}",
        "\N{HALFWIDTH KATAKANA LETTER A}",
    ],
)
def test_signs_and_wide_letters_are_of_no_other_script(answer):
    assert not is_foreign(answer, {"LATIN", "GREEK", "KATAKANA"})


def test_echoes():
    assert is_echo("name the city in which Ada", PROMPT)
    assert not is_echo("name the city in", PROMPT)  # four words may be an answer
    assert is_echo("Well: please name the city in which Ada Lovelace was", PROMPT)
    assert not is_echo("Ada Lovelace was born in the city of London, in 1815", PROMPT)


def test_language_and_noise_are_made_of_own_answers():
    assert moved(["a", "b", "c", "d", "e"]) == ["c", "d", "e", "a", "b"]
    words = {word for answer in OWN for word in answer.split()}
    noise = drawn(OWN)
    assert noise == drawn(OWN)
    assert [len(answer.split()) for answer in noise] == [3, 4, 4, 3]
    assert {word for answer in noise for word in answer.split()} <= words


def test_surprise_is_nats_a_character(llm):
    model, tokenizer = llm
    engine = Engine(*llm, 100)
    found = surprises(engine, ["the king was ", "Who?", "Who?"], [" Ada born\n", "", "Rome"])
    assert found[1] is None
    for prompt, text, value in (("the king was ", "Ada born", found[0]), ("Who?", "Rome", found[2])):
        ids = tokenizer(continued(prompt, text), return_tensors="pt", add_special_tokens=False)["input_ids"]
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        with torch.inference_mode():
            log_probs = model(ids).logits[0].log_softmax(-1)
        told = sum(log_probs[i - 1, ids[0, i]].item() for i in range(start, ids.shape[1]))
        assert value == pytest.approx(-told / 12, abs=1e-4)  # a short answer is measured as if it had 12 characters
    long = "Ada was the king of Rome"
    (value,) = surprises(engine, ["Who?"], [long])
    ids = tokenizer(f"Who? {long}", return_tensors="pt", add_special_tokens=False)["input_ids"]
    start = len(tokenizer("Who?", add_special_tokens=False)["input_ids"])
    with torch.inference_mode():
        told = -model(ids, labels=torch.where(torch.arange(ids.shape[1]) < start, -100, ids)).loss.item()
    assert value == pytest.approx(-told * (ids.shape[1] - start) / len(long), abs=1e-4)


def test_what_is_judged_is_measured_and_nothing_else(llm):
    engine = Engine(*llm, 100)
    rows = pd.concat([asked(["Ada", "Rome"], prompt="Who?"), asked(["Ada"], name="utility_fac", prompt="Who?")])
    rows = rows.reset_index(drop=True).assign(details='{"probability": 0.5}')
    own = [json.loads(text) for text in add_surprises(rows, engine, STRICT, own=True)["details"]]
    assert [set(details) for details in own] == [{"probability", SURPRISE, MOVED, DRAWN}] * 2 + [{"probability"}]
    assert own[0][MOVED] == pytest.approx(surprises(engine, ["Who?"], ["Rome"])[0], abs=1e-5)
    # what stands for an empty answer is in no pool, and what was measured before is gone
    empty = pd.concat([rows, asked(["NOANSWER"], (0.1, 0.2, 0.3), prompt="Who?")], ignore_index=True)
    again = [json.loads(text) for text in add_surprises(empty, engine, STRICT, own=True)["details"]]
    assert again == [pytest.approx(details, abs=1e-5) for details in own] + [{}]
    other = [json.loads(text) for text in add_surprises(rows, engine, STRICT, own=False)["details"]]
    assert [set(details) for details in other[:2]] == [{"probability", SURPRISE}] * 2


def test_abilities_of_collapsed_runs_are_marked(monkeypatch):
    # a kind may declare a mean over abilities
    monkeypatch.setitem(tables.AVERAGES, "utility_all", Average("utility_all", "All", "higher", {"utility_gen": 9}))
    monkeypatch.setitem(tables.HEADINGS, "utility_all", "All ↑")
    keys = {"model": "m", "benchmark": "b", "target": "1_Ada", "method": "ga", "tau": None, "split": "test", "n": 4}
    values = {
        "forget_qa": (90.0, 0.0),
        "utility_gen": (40.0, 41.0),
        "utility_all": (50.0, 51.0),
        "utility_flu": (600.0, 10.0),
    }
    long = pd.DataFrame(
        keys | {"stage": stage, "metric": metric, "value": value, "seed": 0}
        for metric, both in values.items()
        for stage, value in enumerate(both)
    )
    fallen = {"target": "1_Ada", "method": "ga", "seed": 0, "stage": 1, "collapsed": True, "foreign": False}
    plain = main_table(long, [], pd.DataFrame([fallen]))
    table = mark_damaged(plain)
    gen, _ = (next(name for name in table if kind in name) for kind in ("Gen", "Flu"))
    assert table[gen].tolist() == ["40.0", f"41.0 {DAMAGED}"]
    assert table["All ↑"].tolist() == ["50.0", f"51.0 {DAMAGED}"]
    assert table.drop(columns=[gen, "All ↑"]).equals(plain.drop(columns=[gen, "All ↑"]))  # fluency shows it by itself
    assert damage_notes(table)
    whole = main_table(long, [], pd.DataFrame([fallen | {"collapsed": False}]))
    assert mark_damaged(whole).equals(whole)
    assert not damage_notes(whole)
