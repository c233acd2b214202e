"""Adapter off: a control. Without its adapter a model is the base model, and answers as that does."""

from pathlib import Path

from atu.attacks import Ask, Asked
from atu.common.errors import ExplainedError


def attack(asked: Asked, ask: Ask, *, adapter: Path) -> None:
    """Put the adapter on the base model, turn it off, and ask.

    Args:
        asked: of the base model.
        adapter: a directory with a LoRA adapter alone.

    Raises:
        ExplainedError: if it has none: the adapter was merged, or there never was one.
    """
    from peft import PeftModel

    if not Path(adapter, "adapter_config.json").exists():
        raise ExplainedError(f"adapter_off: {adapter} keeps no adapter apart; set lora.merge of its method to false")
    llm = asked.engine.llm  # whose maps peft replaces in place
    with PeftModel.from_pretrained(llm, str(adapter)).disable_adapter():
        ask(0, asked)
