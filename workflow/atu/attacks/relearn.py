"""Relearning: the unlearned model is fine-tuned on texts for a few steps, and asked on the way."""

from collections.abc import Sequence
from dataclasses import replace

from accelerate import Accelerator
from torch import Tensor

from atu.attacks import Ask, Asked
from atu.common.errors import ExplainedError
from atu.common.memory import Memory
from atu.data.protocol import STRICT
from atu.engine.batching import random_batches
from atu.engine.examples import collate, read_items, scored_logits
from atu.engine.models import add_lora, recompute_activations
from atu.engine.sharded import gather_once, shard
from atu.training.epochs import scored_tokens
from atu.training.loop import FULL, train
from atu.training.retain import descent_loss
from atu.training.shares import Share


def attack(
    asked: Asked,
    ask: Ask,
    *,
    accelerator: Accelerator,
    texts: list[dict],
    at: Sequence[int],
    steps: int,
    batch_size: int,
    max_tokens: int,
    learning_rate: float,
    optimizer: str,
    clip_norm: float,
    lora: dict,
    seed: int,
    between: Sequence[str] | None = None,
    memory: Memory = FULL,
) -> list[dict[str, float]]:
    """Train on next tokens of the texts at a constant rate, and ask at some steps; step 0 is before the first.

    On several processes all call it, with the model on the host; it is sharded here. They share the batches of
    training, and each asks all.

    Args:
        texts: rows with a field text.
        at: steps at which is asked, the last ``steps``.
        between: the probe sets that are asked before the last step; None for all.
        memory: how the numbers of the training are kept; the model is loaded accordingly.
        lora: rank (0: all weights train), alpha and modules as :func:`atu.engine.models.add_lora` takes them.

    Returns:
        One row a step, as of :func:`atu.training.loop.train`.

    Raises:
        ExplainedError: if there is no text of two tokens, or a step is asked for that is not reached.
        DivergedError: as of :func:`atu.training.loop.train`.
    """
    engine, share = asked.engine, Share.of(accelerator)
    llm = engine.llm
    items = read_items("passage", texts, engine.tokenizer, max_tokens, STRICT)
    if not items:
        raise ExplainedError("relearn: there is nothing to train on: no text is longer than one token")
    if beyond := [step for step in at if not 0 <= step <= steps]:
        raise ExplainedError(f"relearn: step {beyond[0]} is asked for, and training has {steps}")

    def ask_at(step: int) -> None:
        part = between is not None and step < steps
        ask(step, replace(asked, probes=asked.probes[asked.probes["set"].isin(between)]) if part else asked)

    if 0 in at and share.ranks == 1:
        ask_at(0)
    llm.requires_grad_(True)
    if lora["rank"]:
        add_lora(llm, **lora)
    if memory.gradient_checkpointing:
        recompute_activations(llm)

    if share.ranks > 1:
        shard(llm, accelerator.device)
        gather_once(llm)
        if 0 in at:  # an adapter that was not trained changes nothing
            llm.eval()
            ask_at(0)
    device = llm.device

    def loss_terms(chosen: list[int]) -> dict[str, Tensor]:
        loss = descent_loss(*scored_logits(llm, collate(items, share.part(chosen), device)))
        return {"loss": share.weighed(loss, scored_tokens(items, chosen))}

    def after_step(step: int) -> None:
        if step in at:
            llm.eval()
            ask_at(step)
            llm.train()

    llm.train()
    log = train(
        accelerator,
        [weights for weights in llm.parameters() if weights.requires_grad],
        random_batches([len(item[0].ids) for item in items], batch_size, steps, seed),
        loss_terms,
        steps=steps,
        optimizer=optimizer,
        learning_rate=learning_rate,
        schedule="constant",
        clip_norm=clip_norm,
        fused=True,
        memory=memory,
        after_step=after_step,
        title="relearn",
    )
    llm.eval()
    return log
