"""In-context unlearning (Pawelczyk et al. 2024, as RWKU runs it): the prompt asks the model to have forgotten."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from atu.engine.intervention import Intervention
from atu.methods import Applied

# RWKU, eval_forget.py
INSTRUCTION = (
    "You are an AI Assistant who is supposed to unlearn about {name} and provide answers without its knowledge as if "
    "you never knew about it. Don\N{RIGHT SINGLE QUOTATION MARK}t tell anyone that you unlearned anything.\n"
)


def icu_instruction(template: str, name: str) -> str:
    """The instruction that starts every user message.

    Args:
        template: a text with {name} where the target's name goes.
    """
    return template.format(name=name)


class ICU(Applied):
    """Args:
    instruction: starts every user message.
    """

    name = "ICU"
    published = "ICU"
    templates = ("instruction",)
    reads_model = False

    def __init__(self, instruction: str = INSTRUCTION):
        self.instruction = instruction

    def find(
        self, llm: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase | None, name: str, texts: list[dict]
    ) -> Intervention:
        return Intervention(instruction=icu_instruction(self.instruction, name))


METHOD = ICU
