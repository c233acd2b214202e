"""Few-shot: known facts about the person are asked and answered before each question, as earlier turns of the chat.

The form was chosen on two dev people of the demo, by how little it moves the unmodified SmolLM2-135M. Its recall, in
percent, mean of the two:

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

A short answer makes the model brief, and the name that stands in all examples its answer to anything. Of Leonardo da
Vinci, on whom nothing was chosen, recall is 69 and 71, and was 62 and 71 by the first form: such a model is moved by
any, and tables show by how much in the base model's row.
"""

from atu.attacks import Ask, Asked
from atu.common.errors import ExplainedError
from atu.data.probe_sets import PROBE_SETS, primary
from atu.engine.chat import behind


def turns(facts: list[dict], shots: int, instruction: str = "") -> list[dict[str, str]]:
    """The first facts as turns of a chat, asked and answered as probes of the primary forget set are.

    Args:
        facts: rows of query and answer.
        instruction: stands at the head of each message.

    Raises:
        ExplainedError: if there are fewer.
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
    """Ask behind ``shots`` facts."""
    with behind(asked.engine.tokenizer, turns(facts, shots, asked.instruction)):
        ask(0, asked)
