"""Few-shot: before each question, the chat has earlier turns that ask and answer known facts about the person.

The form was chosen on two dev people of the demo, as the one that changes the unmodified SmolLM2-135M least. Its
recall, in percent, mean of the two:

| facts | neighbour QA | forget QA |
| --- | --- | --- |
| none | 100 | 99 |
| five, with short answers at the head of the message | 62 | 60 |
| three likewise | 62 | 64 |
| three in sentences at the head of the message | 38 | 67 |
| three as turns, with short answers | 72 | 80 |
| one as a turn, in a sentence | 73 | 86 |
| three likewise | 88 | 88 |
| five likewise | 67 | 81 |

Short answers make the model brief, and it gives the name that is in all examples as its answer to anything. For
Leonardo da Vinci, on whom nothing was chosen, recall is 69 and 71; with the first form it was 62 and 71. Every form
changes such a model, and the base model's row in tables shows by how much.
"""

from atu.attacks import Ask, Asked
from atu.common.errors import ExplainedError
from atu.data.probe_sets import PROBE_SETS, primary
from atu.engine.chat import behind


def turns(facts: list[dict], shots: int, instruction: str = "") -> list[dict[str, str]]:
    """The first ``shots`` facts as turns of a chat, asked and answered like probes of the primary forget set.

    Args:
        facts: rows of query and answer.
        instruction: starts each message.

    Raises:
        ExplainedError: if there are fewer facts.
    """
    if shots > len(facts):
        raise ExplainedError(f"few_shot: {shots} facts are asked for, and there are {len(facts)}; lower shots")
    message, suffix = PROBE_SETS[primary("forget")].prompt("")
    said = []
    for fact in facts[:shots]:
        said.append({"role": "user", "content": instruction + message.format(query=fact["query"], context="")})
        said.append({"role": "assistant", "content": f"{suffix} {fact['answer']}".strip()})
    return said


def attack(asked: Asked, ask: Ask, *, facts: list[dict], shots: int) -> None:
    """Ask after ``shots`` facts."""
    with behind(asked.engine.tokenizer, turns(facts, shots, asked.instruction)):
        ask(0, asked)
