"""The forms of rows of probe sets: how a row of each form is checked, and how it becomes a probe."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atu.data.rows import (
    CHOICES,
    BenchmarkError,
    check_answers,
    check_form,
    check_labels,
    check_question,
    check_text,
    check_types,
)

if TYPE_CHECKING:
    from atu.data.probe_sets import ProbeSet

SHORT_TEXT = 20  # characters; scripts without blanks have longer texts of one "word"


def type_of(row: dict, types: dict[str, list[str]]) -> str:
    """A row's type of question, in the spelling that the set declares; unchanged if the set declares no types.

    Raises:
        BenchmarkError: if the type is unknown; names the known ones.
    """
    said = row["type"].strip().lower()
    if not types:
        return said
    spellings = {written: name for name, others in types.items() for written in (name, *others)}
    if said not in spellings:
        raise BenchmarkError(f"unknown type {row['type']!r}; known: {', '.join(types)}")
    return spellings[said]


def read_question(row: dict, probe_set: "ProbeSet") -> dict:
    """A question of one level of RWKU, with its answer."""
    check_text(row, "query")
    check_answers("answer", [row["answer"]], ".")  # for rouge, an answer of periods has no word
    neighbor = row.get("neighbor")
    if not isinstance(neighbor, str | None):
        raise BenchmarkError(f"field 'neighbor' is {neighbor!r}, not text")
    if neighbor and probe_set.role != "neighbour":
        raise BenchmarkError(f"is about the neighbor {neighbor!r}, and this set asks about the target")
    if probe_set.level is not None and str(row["level"]) != probe_set.level:
        raise BenchmarkError(f"level is {row['level']!r}, not {probe_set.level}: the row is of another probe set")
    kind = type_of(row, probe_set.types)
    return {"type": kind, "neighbor": neighbor or "", "query": row["query"], "answers": [row["answer"]]}


def multiple_choice(row: dict, solved: bool) -> str:
    """A question with its choices by letter; if ``solved``, also the right letter and a blank line."""
    lines = [f"Question: {row['question']}"]
    lines += [f"{letter}. {choice}" for letter, choice in zip(CHOICES, row["choices"], strict=True)]
    return "\n".join(lines) + (f"\nAnswer: {CHOICES[row['answer']]}\n\n" if solved else "")


def check_examples(examples: list) -> None:
    """Raises a BenchmarkError unless all solved examples are questions with four choices."""
    for number, example in enumerate(examples, start=1):
        try:
            check_form(example)
            check_question(example)
        except KeyError as error:
            raise BenchmarkError(f"field 'examples', number {number}: lacks field {error}") from error
        except BenchmarkError as error:
            raise BenchmarkError(f"field 'examples', number {number}: {error}") from error


def read_choices(row: dict, probe_set: "ProbeSet") -> dict:
    """MMLU: a question with four choices, after solved examples of its subject."""
    check_question(row)
    check_examples(row["examples"])
    topic = row["task"].replace("_", " ")
    context = f"The following are multiple choice questions (with answers) about {topic}.\n\n"
    context += "".join(multiple_choice(example, solved=True) for example in row["examples"])
    probe = {"type": row["task"], "context": context, "query": multiple_choice(row, solved=False)}
    return probe | {"answers": [CHOICES[row["answer"]]], "choices": list(row["choices"])}


def read_reasoning(row: dict, probe_set: "ProbeSet") -> dict:
    """BBH: a question, after worked examples of its task."""
    check_text(row, "question")
    is_text = isinstance(row["answer"], str)
    answers = [row["answer"]] if is_text else row["answer"]
    check_answers("answer", answers, "")
    probe = {"type": row["task"], "context": row["cot"].strip(), "query": row["question"]}
    return probe | {"answers": answers, "answer_is_text": is_text}


def read_truthful(row: dict, probe_set: "ProbeSet") -> dict:
    """TruthfulQA: choices marked true (1) or false (0) for MC1 and MC2; -1 if MC1 or MC2 lacks the choice."""
    check_text(row, "question")
    for field in ("mc1_targets", "mc2_targets"):
        check_labels(row, field)
    labels = {
        key: dict(zip(row[f"{key}_targets"]["choices"], row[f"{key}_targets"]["labels"], strict=True))
        for key in ("mc1", "mc2")
    }
    choices = list(labels["mc2"] | labels["mc1"])
    marks = {key: [labels[key].get(choice, -1) for choice in choices] for key in labels}
    return {"query": row["question"], "choices": choices} | marks


def read_trivia(row: dict, probe_set: "ProbeSet") -> dict:
    """TriviaQA: a question with all names of its answer."""
    check_text(row, "question")
    check_answers("answers", row["answers"], "")
    return {"query": row["question"], "answers": list(row["answers"])}


def read_instruction(row: dict, probe_set: "ProbeSet") -> dict:
    """An instruction to write a longer text, without an answer."""
    check_text(row, "instruction")
    return {"query": row["instruction"]}


def read_text(row: dict, probe_set: "ProbeSet") -> dict:
    """A bare text whose likelihood is measured."""
    check_text(row, "text")
    if len(row["text"].split()) < 2 and len(row["text"].strip()) < SHORT_TEXT:
        raise BenchmarkError(f"field 'text' is {row['text']!r}: one word is no text whose likelihood says much")
    return {"query": row["text"]}


@dataclass(frozen=True)
class Form:
    """One form of rows.

    Attributes:
        fields: types of the fields that a raw row must have; it may have more.
        read: takes a row with these fields and its set, and returns columns of the probe. Raises a BenchmarkError that
            says which field is wrong and why, or a KeyError if a field inside a field is missing.
        gives: the columns, of those that a metric may read, that the form fills.
    """

    fields: dict[str, type | tuple[type, ...]]
    read: Callable[[dict, "ProbeSet"], dict]
    gives: tuple[str, ...] = ("answers",)

    def probe(self, row: dict, probe_set: "ProbeSet") -> dict:
        """Columns of the probe in a raw row; raises what ``read`` does, or a KeyError for a missing field."""
        check_types(row, self.fields)
        return self.read(row, probe_set)


FORMS = {
    "questions": Form({"query": str, "answer": str, "type": str, "level": (str, int)}, read_question),
    "choices": Form(
        {"task": str, "question": str, "choices": list, "answer": int, "examples": list},
        read_choices,
        gives=("answers", "choices"),
    ),
    "reasoning": Form(
        {"task": str, "cot": str, "question": str, "answer": (str, list)},
        read_reasoning,
        gives=("answers", "answer_is_text"),
    ),
    "truthful": Form(
        {"question": str, "mc1_targets": dict, "mc2_targets": dict}, read_truthful, gives=("choices", "mc1", "mc2")
    ),
    "trivia": Form({"question": str, "answers": list}, read_trivia),
    "instruction": Form({"instruction": str}, read_instruction, gives=()),
    "text": Form({"text": str}, read_text, gives=()),
}
