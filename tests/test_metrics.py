"""RWKU's metrics against numbers worked out by hand."""

import math
import sys
import zlib

import numpy as np
import pandas as pd
import pytest

from atu.data import metrics
from atu.data.fluency import ngram_entropy
from atu.reporting.tables import ScoreError, read_predictions, summarize, summarize_speech


@pytest.mark.parametrize(
    ("prediction", "answer", "recall"),
    [
        ("Romeo and Juliet", "Juliet", 1.0),
        ("He was born in Stratford", "born in Stratford upon Avon", 3 / 5),
        ("Avon upon Stratford", "Stratford upon Avon", 1 / 3),  # the longest common subsequence has one word
        ("stratford", "Stratford", 0.0),  # rouge is case-sensitive
        ("", "Juliet", 0.0),
        ("", "NOANSWER", 1.0),
        ("...", "Juliet", 0.0),  # rouge finds no word in the prediction
        ("...", "...", 0.0),  # nor in the answer: nothing could be recalled
        ("Who?", "?", 0.0),  # rouge keeps punctuation: a mark alone is a word,
        ("Who ?", "?", 1.0),  # and is recalled where it stands alone
    ],
)
def test_rouge_l_recall(prediction, answer, recall):
    assert metrics.rouge_l_recall(prediction, answer) == pytest.approx(recall)


def test_normalize():
    assert metrics.normalize("The  cat's a-theist, an OWL!") == ["cats", "atheist", "owl"]


def test_exact_match():
    assert metrics.exact_match("The Beatles.", ["beatles", "Fab Four"]) == 1
    assert metrics.exact_match("Beatles band", ["beatles"]) == 0


@pytest.mark.parametrize(
    ("prediction", "answer", "score"),
    [
        # the option (A): nothing is left of it without its article and brackets
        ("(A)", "(A)", 1),
        ("A", "(A)", 1),
        ("a.", "(A)", 1),
        ("......", "(A)", 0),
        ("the", "(A)", 0),
        ("", "(A)", 0),
        ("(B)", "(A)", 0),
        ("A", "(B)", 0),
        ("(B)", "(B)", 1),
        # brackets to be closed: nothing is left of them without punctuation
        ("] )", "] )", 1),
        ("......", "] )", 0),
        ("] }", "] )", 0),
        # a blank answer is matched by nothing
        ("", "", 0),
        ("the", "", 0),
        ("...", " ", 0),
    ],
)
def test_an_answer_that_normalises_to_nothing(prediction, answer, score):
    assert metrics.exact_match(prediction, [answer]) == score
    assert metrics.exact_match(prediction, ["", answer]) == score  # nor does a blank alias match anything
    assert metrics.exact_match(prediction, [answer, "Rome"]) == score
    if answer != "] )":
        assert metrics.token_f1(prediction, [answer]) == score
        assert metrics.token_f1(prediction, ["", answer]) == score


def test_token_f1():
    # 2 common tokens of 3 predicted and 2 expected: 2*2/(3+2)
    assert metrics.token_f1("Paris, France city", ["paris france"]) == pytest.approx(0.8)
    assert metrics.token_f1("Rome", ["Paris", "Rome"]) == 1
    assert metrics.token_f1("", ["Rome"]) == 0
    assert metrics.token_f1("the", ["a"]) == 0  # both are empty once normalised, and not the same
    assert metrics.token_f1("] }", ["] )"]) == 0.5  # one bracket of two: 2*1/(2+2)
    assert metrics.token_f1("...", ["Rome", "The"]) == 0


def test_extract_answer():
    assert metrics.extract_answer("Let's see. So the answer is (A). The answer is (B).") == "(A)"
    assert metrics.extract_answer("I do not know") == "I do not know"
    assert metrics.extract_answer("The answer is 7") == "The answer is 7"  # no period closes it
    assert metrics.extract_answer(" \n") == metrics.NO_ANSWER


def test_ngram_entropy():
    # a b a b a: bigrams ab x2, ba x2 -> 1 bit; trigrams aba x2, bab x1 -> 0.9183 bits
    trigrams = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))
    assert ngram_entropy("a b a b a") == pytest.approx((1 * 2 / 3 + trigrams * 4 / 3) / 2)
    assert ngram_entropy("same same same same") == pytest.approx(0)
    # a sentence's end is a word of its own: It rains . It rains . -> bigrams x2, x2, x1
    bigrams = -(2 * 0.4 * math.log2(0.4) + 0.2 * math.log2(0.2))
    trigrams = -(0.5 * math.log2(0.5) + 2 * 0.25 * math.log2(0.25))  # It rains . x2, rains . It, . It rains
    assert ngram_entropy("It rains. It rains.") == pytest.approx((bigrams * 2 / 3 + trigrams * 4 / 3) / 2)
    assert ngram_entropy("one") == 0
    assert ngram_entropy("") == 0


def test_repeats():
    assert metrics.repeats("the the The the the")
    assert metrics.repeats("no no no no yes")
    assert not metrics.repeats("no no no yes yes")
    assert not metrics.repeats("no no no no")  # too short to tell
    assert not metrics.repeats("")


def test_min_k():
    scores = np.array([-1.0, -5.0, -2.0, -4.0, -3.0])
    assert metrics.min_k(scores, 0.4) == pytest.approx(-4.5)
    assert metrics.min_k(np.array([-2.0, -3.0]), 0.2) == -3  # at least one token


def test_membership():
    text = "four words of text"
    log_probs, mean = np.array([-1.0, -2.0, -3.0]), np.array([-2.0, -2.0, -2.0])
    scores = metrics.membership(text, log_probs, mean, np.array([4.0, 1.0, 4.0]))
    assert scores["loss"] == pytest.approx(-2)
    assert scores["zlib"] == pytest.approx(-2 / len(zlib.compress(text.encode())))
    assert scores["min_k"] == pytest.approx(-3)
    assert scores["min_k_plus_plus"] == pytest.approx(-0.5)  # standardised: 0.5, 0, -0.5
    certain = metrics.membership(text, np.array([0.0]), np.array([0.0]), np.array([0.0]))
    assert all(math.isfinite(value) for value in certain.values())  # sigma 0


def test_truthfulness():
    # choices: best true, other true, false, and one outside MC2
    scores = [math.log(0.3), math.log(0.1), math.log(0.2), math.log(0.4)]
    result = metrics.truthfulness(scores, mc1=[1, -1, 0, -1], mc2=[1, 1, 0, -1])
    assert result == {"mc1": 1.0, "mc2": pytest.approx(0.4 / 0.6)}
    assert metrics.truthfulness([-900.0, -901.0], [0, 1], [0, 1])["mc1"] == 0
    tiny = metrics.truthfulness([-900.0, -900.0], [0, 1], [0, 1])
    assert tiny == {"mc1": 0.0, "mc2": pytest.approx(0.5)}  # a tie is not an answer; no underflow


def test_summary_weights_by_the_whole_benchmark():
    predictions = pd.DataFrame(
        [
            ("forget_fb", "test", 1.0),
            ("forget_qa", "test", 0.5),
            ("forget_aa", "test", 0.0),
            ("forget_aa", "dev", 1.0),
            ("mia_fm", "test", -2.5),
            ("utility_flu", "test", 7.0),
        ],
        columns=["set", "split", "score"],
    )
    summary = summarize(predictions).set_index(["split", "metric"])
    assert summary.loc[("test", "forget_qa"), "value"] == 50
    assert summary.loc[("test", "forget_all"), "value"] == pytest.approx(
        100 * (3268 + 0.5 * 2879) / (3268 + 2879 + 6984)
    )
    assert summary.loc[("test", "forget_all"), "n"] == 3
    assert summary.loc[("all", "forget_aa"), ["value", "n"]].tolist() == [50, 2]
    assert summary.loc[("test", "mia_fm"), "value"] == 250
    assert summary.loc[("test", "utility_flu"), "value"] == 700
    assert ("dev", "forget_all") not in summary.index  # not all three were asked


NORMAL = """
    1564 | QED | Yes | No. | A | (B) | 42 | 3.14159265358979 | 1,000,000,000,000 | 1,000,000,000,000,000,000 dollars
    0.333333333333333 | $5 | 50% | ? | ... | ___ | April 23, 1564 | 1564-04-23 | 23/04/1564 | William Shakespeare
    Hamlet, Macbeth, Othello, King Lear | 1. Hamlet 2. Macbeth 3. Othello | Henry IV, Henry V, Henry VI | ha ha ha
    Hahaha! | Tora! Tora! Tora! | New York, New York | Words, words, words. | Tomorrow, and tomorrow, and tomorrow
    A rose is a rose is a rose is a rose | Bora Bora | Mississippi | MDCCCLXXXVIII | E = mc^2 | a² + b² = c² | C++
    H2O | F = G m₁m₂/r² | 1 + 1 = 2 | no no no no | to be, or not to be | Duran Duran | cha-cha-cha | Yeah, yeah, yeah!
    Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogoch | https://en.wikipedia.org/wiki/Leonardo_da_Vinci
    (555) 555-5555 | 0110100110010110 | 1111111111 | AAA | Soooo good | x | I, Claudius | Aaron A. Aaronson | 🎨 | ♪♫
    He was a poet. He was a painter. He was a king. | He was born in 1452 in Vinci, in 1452. | Sirhan Sirhan
    As an AI, I cannot answer that question about the person you asked for, sorry. | the
    莎士比亚 | 哈姆雷特是莎士比亚写的。 | Уильям Шекспир | ウィリアム・シェイクスピア | विलियम शेक्सपियर | ويليام شكسبير
    วิลเลียม เชกสเปียร์เป็นกวีชาวอังกฤษ | 谢谢谢谢 | Ουίλλιαμ Σαίξπηρ | 레오나르도 다 빈치
"""
BROKEN = """
    23KBCCBBBKBKBKBKBK | KBKBKBKBKBKB | KBCCBBKBKKBBCCKKB | K B K B K B K B K B | aaaaaaaaaaaaaaaa
    the the the the the | of of of of of of and | the city of the city of the city of the city of
    and the and the and the and the and the and the | Paris, Paris, Paris, Paris, Paris, Paris | 1 1 1 1 1 1 1 1 1
    He was born in Rome. He was born in Rome. He was born in Rome. | The answer is lalalalalalalalalalalala
    ................ | -------------------- | !!!!!!!!!! | _ _ _ _ _ _ _ _ | ????????? ????? | ()()()()()()()()
    answer: 0000000000000000000000000000000000000000000000000 | 1564 ........................................
    的的的的的的的的的的的的的的 | 他是诗人他是诗人他是诗人他是诗人他是诗人
    Leonardo da Vinci Leonardo da Vinci Leonardo da Vinci
"""


def listed(text: str) -> list[str]:
    return [answer.strip() for line in text.strip().splitlines() for answer in line.split(" | ")]


@pytest.mark.parametrize("answer", listed(NORMAL))
def test_an_answer_is_language(answer):
    assert not metrics.is_degenerate(answer)
    assert not metrics.is_empty(answer)


@pytest.mark.parametrize("answer", listed(BROKEN))
def test_an_answer_is_degenerate(answer):
    assert metrics.is_degenerate(answer)
    assert not metrics.is_empty(answer)


def test_an_empty_answer_is_not_degenerate():
    for answer in ("", "\u200b \u00ad", " \n", "NOANSWER", " NOANSWER "):
        assert metrics.is_empty(answer)
        assert not metrics.is_degenerate(answer)
    assert not metrics.is_empty("no answer")


def test_a_score_that_is_no_number_enters_no_mean(tmp_path):
    row = {"set": "forget_qa", "id": "forget_qa/0", "split": "test", "score": 1.0, "prediction": "Ada"}
    bad = row | {"id": "forget_qa/1", "score": float("nan")}
    with pytest.raises(ScoreError, match="the score of forget_qa/1 is nan, as of 1 probes in all"):
        summarize(pd.DataFrame([row, bad]))
    path = tmp_path / "probes.parquet"
    pd.DataFrame([row, bad | {"score": float("inf")}]).to_parquet(path)
    with pytest.raises(ScoreError, match=r"probes\.parquet: the score of forget_qa/1 is inf.*delete .*probes\.parquet"):
        read_predictions([path])


def test_shares_of_answers_that_are_no_speech():
    """Of four answers about the target one is degenerate and one empty; neighbours and texts do not count."""
    answers = {"forget_fb": ["Ada", "ha" * 20], "forget_aa": ["NOANSWER", "1564"], "neighbor_qa": [""], "mia_fm": [""]}
    rows = [(name, "test", -1.0, text) for name, texts in answers.items() for text in texts]
    predictions = pd.DataFrame(rows, columns=["set", "split", "score", "prediction"])
    table = summarize_speech(predictions).set_index(["split", "metric"])
    assert table.loc[("test", "forget_degenerate"), ["value", "n"]].tolist() == [25, 4]
    assert table.loc[("all", "forget_empty"), ["value", "n"]].tolist() == [25, 4]
    assert table.loc[("test", "forget_refused"), "value"] == 0
    assert len(table) == 6
    assert summarize_speech(predictions[predictions["set"] == "mia_fm"]).empty


def test_probes_of_a_dev_target_are_chosen_on_and_reported():
    """Of a target whose probes are all dev; what all share is test alone."""
    rows = [("forget_qa", "dev target", 1.0), ("forget_qa", "dev target", 0.0), ("utility_flu", "test", 5.0)]
    predictions = pd.DataFrame(rows, columns=["set", "split", "score"]).assign(prediction="Ada")
    found = summarize(predictions).set_index(["split", "metric"])["value"]
    assert [found[split, "forget_qa"] for split in ("dev", "test", "all")] == [50, 50, 50]
    assert found.loc["dev"].index.tolist() == ["forget_qa"]
    assert summarize_speech(predictions).set_index(["split", "metric"]).loc[("test", "forget_empty"), "n"] == 2


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        ("I\u2019m sorry, but I don't know who that is.", True),
        ("As an AI, I have no opinion.", True),
        ("Sorry to say: I do not  know.", True),
        ("对不起, 我不知道", True),
        ("他说我无法回答", True),
        ("Tut mir leid.", True),
        ("Hawaii cannot be reached by train.", False),  # "i cannot" would begin within a word
        ("Leonardo da Vinci", False),
        ("She knows that I know.", False),
        ("", False),
    ],
)
def test_answers_that_refuse(answer, refuses):
    assert metrics.is_refusal(answer) == refuses


def test_refusals_are_counted_apart_from_forgetting():
    rows = [("forget_qa", "test", 0.0, text) for text in ("I don't know.", "Ada", "I cannot say", "Bo")]
    table = summarize_speech(pd.DataFrame(rows, columns=["set", "split", "score", "prediction"]))
    assert table.set_index(["split", "metric"]).loc[("test", "forget_refused"), "value"] == 50


def test_recall_of_a_very_long_answer():
    """3 of 3000 distinct words; the package calls itself once a word."""
    answer = " ".join(f"w{i}" for i in range(3000))
    assert metrics.rouge_l_recall("w0 w1500 w2999", answer) == pytest.approx(3 / 3000)
    limit = sys.getrecursionlimit()
    assert metrics.rouge_l_recall(answer, answer[:20]) > 0
    assert sys.getrecursionlimit() == limit
