"""Few-shot: known facts about the person stand before each question."""

from dataclasses import replace

from atu.attacks import Ask, Asked
from atu.common.errors import ExplainedError


def examples(facts: list[dict], shots: int) -> str:
    """The first facts as questions with answers, a blank line behind the last.

    Args:
        facts: rows of query and answer.

    Raises:
        ExplainedError: if there are fewer.
    """
    if shots > len(facts):
        raise ExplainedError(f"few_shot: {shots} facts are asked for, and there are {len(facts)}; lower shots")
    lines = [f"Question: {fact['query']}\nAnswer: {fact['answer']}\n" for fact in facts[:shots]]
    return "".join(lines) + "\n"


def attack(asked: Asked, ask: Ask, *, facts: list[dict], shots: int) -> None:
    """Ask with ``shots`` facts at the head of the message, behind an instruction that is there already."""
    ask(0, replace(asked, instruction=asked.instruction + examples(facts, shots)))
