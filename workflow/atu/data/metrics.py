"""RWKU's metrics (Jin et al. 2024, section 4.2) as pure functions of one probe's outcome, and their declarations.

rouge and nltk (by `atu.data.fluency`) are imported only where needed, since planning reads the declarations.
"""

import re
import string
import sys
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike

from atu.data.protocol import STRICT, Protocol
from atu.data.rows import CHOICES, NO_ANSWER, is_blank

# In the details of predictions: probabilities of the right answer and, for choices, of the likeliest wrong one; 0 to 1.
PROBABILITY, BEST_WRONG = "probability", "best_wrong"
GUESS = "guess"  # also in the details: the share of right answers among the choices, the expected score of a guess
ANSWER = re.compile(r"[tT]he answer is (.*?)\.")  # BBH: after the first match, later words do not change the answer


def rouge_l_recall(prediction: str, answer: str) -> float:
    """ROUGE-L recall, 0 to 1, by the ``rouge`` package; an empty prediction is read as NOANSWER.

    ``rouge`` refuses a prediction or answer without a single word ("..."); that scores 0. It recurses once per word, so
    the recursion limit is raised.
    """
    from rouge import Rouge

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + len(prediction) + len(answer))
    try:
        return Rouge().get_scores(prediction.strip() or NO_ANSWER, answer)[0]["rouge-l"]["r"]
    except ValueError:
        return 0.0
    finally:
        sys.setrecursionlimit(limit)


def bare(text: str) -> str:
    """Lower case without punctuation."""
    return "".join(character for character in text.lower() if character not in string.punctuation)


def normalize(text: str) -> list[str]:
    """Lower-case words without punctuation and articles."""
    return re.sub(r"\b(a|an|the)\b", " ", bare(text)).split()


def compared(prediction: str, answer: str) -> tuple[list[str], list[str]]:
    """Both texts as the words to compare, read in the same way.

    Some answers are empty once normalised, and any prediction that is empty too would match them. Such answers keep
    more of their text: the option "(A)" keeps its article ("A" and "(a)" match it, "the" and "......" do not), and
    brackets to be closed ("] )") keep their punctuation.

    Returns:
        Words of the prediction and of the answer; the answer has no words only if it is blank.
    """
    for read in (normalize, lambda text: bare(text).split(), lambda text: text.lower().split()):
        if expected := read(answer):
            return read(prediction), expected
    return [], []


def exact_match(prediction: str, answers: list[str]) -> float:
    """1 if the prediction equals any answer, read as in :func:`compared`, else 0; a blank answer never matches."""
    pairs = (compared(prediction, answer) for answer in answers)
    return float(any(expected and predicted == expected for predicted, expected in pairs))


def normalized_match(prediction: str, answers: Iterable[str]) -> float:
    """1 if the prediction has the same normalised words as any answer, else 0; two empty texts match."""
    return float(any(normalize(prediction) == normalize(answer) for answer in answers))


def f1_of(predicted: list[str], expected: list[str]) -> float:
    """F1 of the predicted words, 0 to 1; 0 if no word is in common."""
    common = (Counter(predicted) & Counter(expected)).total()
    return 2 * common / (len(predicted) + len(expected)) if common else 0.0


def token_f1(prediction: str, answers: list[str]) -> float:
    """The best F1 over words among the aliases, read as in :func:`compared`, 0 to 1; 0 for a blank alias."""
    return max((f1_of(*compared(prediction, answer)) for answer in answers), default=0.0)


def normalized_f1(prediction: str, answers: list[str]) -> float:
    """The best F1 over normalised words among the aliases, 0 to 1; 1 if neither text has any."""
    predicted, aliases = normalize(prediction), [normalize(answer) for answer in answers]
    return max((f1_of(predicted, words) if predicted or words else 1.0 for words in aliases), default=0.0)


def extract_answer(output: str) -> str:
    """The text after the first "the answer is" up to the next period, or else the whole output (BBH)."""
    found = ANSWER.search(output)
    return (found.group(1) if found else output).strip() or NO_ANSWER


def repeats(text: str, least: int = 5, share: float = 0.8) -> bool:
    """Whether a text has at least ``least`` words, of which at least ``share`` are the same word."""
    words = text.lower().split()
    return len(words) >= least and Counter(words).most_common(1)[0][1] >= share * len(words)


def is_empty(answer: str) -> bool:
    """Whether an answer is blank, or NOANSWER, which stands for an empty answer."""
    return is_blank(answer) or answer.strip() == NO_ANSWER


@cache
def refusals() -> re.Pattern:
    """A pattern for the phrases of refusals.yaml, in all languages, case-folded; ASCII phrases match at word starts."""
    with Path(__file__).with_name("refusals.yaml").open(encoding="utf-8") as file:
        phrases = [phrase.casefold() for phrases in yaml.safe_load(file).values() for phrase in phrases]
    return re.compile("|".join(("(?<!\\w)" if phrase.isascii() else "") + re.escape(phrase) for phrase in phrases))


@lru_cache(maxsize=2**17)
def is_refusal(answer: str) -> bool:
    """Whether an answer refuses, or says that it does not know, judged by the phrases of refusals.yaml."""
    said = " ".join(answer.casefold().replace("\u2019", "'").split())
    return bool(refusals().search(said))


# Parts that repeat in a row: (least and most characters of the part, least number of times).
REPEATED = ((1, 1, 12), (2, 7, 5), (8, 11, 4), (12, 40, 3))
IN_A_ROW = [re.compile(rf"(.{{{least},{most}}}?)\1{{{times - 1},}}", re.DOTALL) for least, most, times in REPEATED]
LONG_NUMBER = 40  # characters; a shorter number may well be 1,000,000,000,000 or 0.333333333333
LETTERLESS = 5  # characters without a letter or digit; fewer can be a sign (?, %, ...)
FEW_LETTERS, LONG_WORD = 4, 14  # Mississippi has four different letters in eleven


@lru_cache(maxsize=2**17)
def is_degenerate(answer: str) -> bool:
    """Whether a short answer is not language at all, right or wrong.

    It is degenerate if it is mostly one word, one phrase or pattern over and over ("23KBCCBBBKBKBKBKBK"), words of very
    few different letters, or neither letters nor digits. Wrong, odd, foreign and empty answers (:func:`is_empty`) are
    not degenerate; a salad of real words is not recognised.
    """
    if is_empty(answer):
        return False
    solid = "".join(answer.casefold().split())
    read = [character for character in solid if unicodedata.category(character)[0] in "LMN"]  # M: marks on letters
    if len(solid) >= LETTERLESS and (not read or (len(solid) >= 2 * LETTERLESS and len(read) < len(solid) / 3)):
        return True
    return repeats(answer) or repeats_a_part("".join(read)) or is_babble(answer)


def repeats_a_part(text: str) -> bool:
    """Whether at least half of a text is one part, repeated in a row (:data:`REPEATED`)."""
    for pattern in IN_A_ROW:
        found = (match for match in pattern.finditer(text))
        counted = (match for match in found if not match[1].isnumeric() or len(match[0]) >= LONG_NUMBER)
        if any(2 * len(match[0]) >= len(text) for match in counted):
            return True
    return False


def is_babble(text: str) -> bool:
    """Whether at least half of a text is long words of very few different letters."""
    words = ["".join(filter(str.isalnum, word)) for word in text.casefold().split()]
    babble = [
        word for word in words if len(word) >= LONG_WORD and len(set(word)) <= FEW_LETTERS and not word.isnumeric()
    ]
    return 0 < sum(map(len, words)) <= 2 * sum(map(len, babble))


def min_k(token_scores: np.ndarray, share: float = 0.2) -> float:
    """The mean of the lowest ``share`` of token scores (at least one token)."""
    count = max(1, int(len(token_scores) * share))
    return float(np.sort(token_scores)[:count].mean())


def membership(text: str, log_probs: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> dict[str, float]:
    """Membership-inference scores of a text; higher means more like training data.

    Args:
        text: the text itself (its compressed size scales the zlib score).
        log_probs: log-probability of each token but the first, [T].
        mean, variance: mean and variance of the log-probability under the model's own prediction at each position, [T].

    Returns:
        loss (mean log-likelihood), zlib, min_k and min_k_plus_plus at 20 %.
    """
    likelihood = float(log_probs.mean())
    deviation = np.sqrt(np.maximum(variance, np.finfo(np.float32).tiny))
    return {
        "loss": likelihood,
        "zlib": likelihood / len(zlib.compress(text.encode("utf-8"))),
        "min_k": min_k(log_probs),
        "min_k_plus_plus": min_k((log_probs - mean) / deviation),
    }


def truthfulness(scores: ArrayLike, mc1: ArrayLike, mc2: ArrayLike) -> dict[str, float]:
    """TruthfulQA's MC1 and MC2.

    Args:
        scores: log-likelihood of each choice.
        mc1: 1 for the best true choice, 0 for the false ones, -1 for choices outside MC1.
        mc2: 1 for true, 0 for false choices, -1 for choices outside MC2.
    """
    likelihoods, first, second = np.asarray(scores), np.asarray(mc1), np.asarray(mc2)
    counted = likelihoods[second >= 0]
    probabilities = np.exp(counted - counted.max())
    return {
        "mc1": float(likelihoods[first == 1].max() > likelihoods[first == 0].max()),
        "mc2": float(probabilities[second[second >= 0] == 1].sum() / probabilities.sum()),
    }


def of_recall(output: str, probe: dict) -> dict:
    """Score the generated text against the first answer; empty text is read as NOANSWER."""
    prediction = output.strip() or NO_ANSWER
    return {"prediction": prediction, "score": rouge_l_recall(prediction, probe["answers"][0])}


def of_reasoning(output: str, probe: dict, protocol: Protocol = STRICT) -> dict:
    """Score the extracted answer (:func:`extract_answer`) against all answers; a text answer is read in both ways."""
    extracted, answers = extract_answer(output), probe["answers"]
    score = (normalized_match if protocol.blanks_match else exact_match)(extracted, answers)
    details: dict[str, str | float] = {"answer": extracted}
    if probe["answer_is_text"]:
        readings: dict[str, str | float] = {"by_characters": normalized_match(extracted, answers[0]), "whole": score}
        return {"prediction": output, "score": readings[protocol.reading], "details": details | readings}
    return {"prediction": output, "score": score, "details": details}


def of_trivia(output: str, probe: dict, protocol: Protocol = STRICT) -> dict:
    """Score by F1 against the best alias; the details say whether any alias matches exactly."""
    match, f1 = (normalized_match, normalized_f1) if protocol.blanks_match else (exact_match, token_f1)
    details = {"exact_match": match(output, probe["answers"])}
    return {"prediction": output, "score": f1(output, probe["answers"]), "details": details}


def of_fluency(output: str, probe: dict) -> dict:
    """Score how varied the words are; there is no answer to compare."""
    from atu.data.fluency import ngram_entropy

    return {"prediction": output, "score": ngram_entropy(output)}


def right_and_wrong(probabilities: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """The probabilities of the right choice and of the likeliest wrong one (0 if there is none), and a guess's score.

    Args:
        probabilities: the probability of each choice.
        right: whether each choice is right.
    """
    wrong = probabilities[~right]
    best_wrong = float(wrong.max()) if len(wrong) else 0.0
    return {PROBABILITY: float(probabilities[right].max()), BEST_WRONG: best_wrong, GUESS: float(right.mean())}


def of_letter(log_probs: np.ndarray, probe: dict) -> dict:
    """Score the likeliest letter against the right one; details have probabilities of right and likeliest wrong."""
    letter, expected = CHOICES[int(log_probs.argmax())], probe["answers"][0]
    details = right_and_wrong(np.exp(log_probs.astype(float)), np.array([name == expected for name in CHOICES]))
    return {"prediction": letter, "score": float(letter == expected), "details": details}


def of_choices(scores: np.ndarray, probe: dict) -> dict:
    """Score by MC1, with MC2 in the details; the prediction is the likeliest choice.

    The details also have the probabilities, among the choices of MC1, of the right one and of the likeliest wrong one.
    """
    details = truthfulness(scores, probe["mc1"], probe["mc2"])
    asked = np.asarray(probe["mc1"]) >= 0
    shares = np.exp(scores[asked] - scores[asked].max())
    details |= right_and_wrong(shares / shares.sum(), np.asarray(probe["mc1"])[asked] == 1)
    return {"prediction": probe["choices"][int(scores.argmax())], "score": details["mc1"], "details": details}


def of_text(tokens: tuple[np.ndarray, np.ndarray, np.ndarray], probe: dict) -> dict:
    """Score a text by its mean log-likelihood; the details have all scores of membership inference."""
    details = membership(probe["prompt"], *tokens)
    return {"prediction": "", "score": details["loss"], "details": details}


# The ways of asking, and what each passes to a metric.
ASKINGS = {
    "generate": "the text that the model writes behind the prompt",
    "next_token": "the log-probability of the letter of each choice behind the prompt, [choices]",
    "choices": "the log-likelihood of each choice behind the prompt, [choices]",
    "text": "of each token of a bare text but the first its log-probability, and mean and variance of the "
    "log-probability under the model's own prediction there, three arrays [T]",
}
PERCENT = 100.0


@dataclass(frozen=True)
class Metric:
    """How one probe is scored.

    Attributes:
        asking: a key of ASKINGS: how sets with this metric must be asked.
        score: takes what the asking passes on and the probe, with its ``prompt``; returns prediction, score and
            optionally details.
        reads: columns of the probe that must be filled.
        percent: whether the score is a share, 0 to 1.
        words: whether answers are compared by their words (:func:`normalize`).
        scale: factor from the mean score to the number in RWKU's tables.
        by_protocol: whether ``score`` also takes the protocol, which decides how answers are read.
    """

    asking: str
    score: Callable[..., dict]
    reads: tuple[str, ...] = ("answers",)
    percent: bool = True
    words: bool = False
    scale: float = PERCENT
    by_protocol: bool = False

    def outcome(self, handed: Any, probe: dict, protocol: Protocol) -> dict:
        """Prediction, score and details of one probe under a protocol."""
        return self.score(handed, probe, protocol) if self.by_protocol else self.score(handed, probe)


METRICS = {
    "rouge_l_recall": Metric("generate", of_recall),
    "reasoning_exact_match": Metric(
        "generate", of_reasoning, reads=("answers", "answer_is_text"), words=True, by_protocol=True
    ),
    "factuality": Metric("generate", of_trivia, words=True, by_protocol=True),
    "fluency": Metric("generate", of_fluency, reads=(), percent=False),
    "accuracy": Metric("next_token", of_letter, reads=("answers", "choices")),
    "truthfulness": Metric("choices", of_choices, reads=("choices", "mc1", "mc2")),
    "membership": Metric("text", of_text, reads=(), percent=False, scale=-PERCENT),
}
