"""Adapter off, a control: without its adapter, a model is the base model and gives the base model's answers."""

from pathlib import Path

from atu.attacks import Ask, Asked
from atu.common.errors import ExplainedError


def attack(asked: Asked, ask: Ask, *, adapter: Path) -> None:
    """Add the adapter to the base model, turn it off, and ask.

    Args:
        asked: has the base model.
        adapter: a directory with only a LoRA adapter.

    Raises:
        ExplainedError: if the directory has no adapter, because it was merged or never existed.
    """
    from peft import PeftModel

    if not Path(adapter, "adapter_config.json").exists():
        raise ExplainedError(f"adapter_off: {adapter} keeps no adapter apart; set lora.merge of its method to false")
    llm = asked.engine.llm  # peft replaces its maps in place
    with PeftModel.from_pretrained(llm, str(adapter)).disable_adapter():
        ask(0, asked)
