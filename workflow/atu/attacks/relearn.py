"""Relearning: the unlearned model is fine-tuned on texts for a few steps and asked along the way."""

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
    """Train on the next tokens of texts at a constant rate, and ask at some steps; step 0 is before training.

    With several processes, all of them call this, with the model on the host; the model is sharded here. The processes
    share the batches of training, but each asks all probes.

    Args:
        texts: rows with a field text.
        at: the steps at which to ask; the last is ``steps``.
        between: the probe sets to ask before the last step; None for all.
        memory: how weights and the optimiser's state are kept; the model must be loaded accordingly.
        lora: rank (0: all weights train), alpha and modules, as for :func:`atu.engine.models.add_lora`.

    Returns:
        One row per step, as from :func:`atu.training.loop.train`.

    Raises:
        ExplainedError: if no text has two tokens, or a step in ``at`` is not reached.
        DivergedError: as :func:`atu.training.loop.train` does.
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
        if 0 in at:  # an untrained adapter changes nothing
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
