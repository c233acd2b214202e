"""The epochs that all methods with a loss on examples share."""

import copy
import math
from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from atu.batching import random_batches
from atu.examples import Batch, Example, collate, scored_logits
from atu.methods import Trained
from atu.methods.retain import descent_loss, kl_loss
from atu.training import train


def train_epochs(
    accelerator: Accelerator,
    llm: PreTrainedModel,
    method: Trained,
    items: list[list[Example]],
    *,
    reference: Tensor | None,
    retain_items: list[list[Example]],
    retain: dict,
    seed: int,
    after_epoch: Callable[[int], None],
    epochs: int,
    batch_size: int,
    accumulate: int,
    title: str,
    **optimisation,
) -> list[dict[str, float]]:
    """Train ``llm``'s trainable weights on the items.

    Args:
        reference: log-probabilities of the items' sequences under the unmodified model.
        retain: {loss: none, descent or kl, weight}; read on ``retain_items``, as many a batch as items.
        after_epoch: called with the number of each epoch, counted from 1.
        batch_size, accumulate: items a batch, batches a step.

    Returns:
        One row a step: step, epoch, loss, forget_loss, retain_loss, grad_norm, learning_rate.

    Raises:
        ValueError: if there are no items.
    """
    if not items:
        raise ValueError("there is nothing to train on: no text is longer than one token")
    lengths = [max(len(example.ids) for example in item) for item in items]
    per_epoch = math.ceil(len(items) / (batch_size * accumulate))
    steps = epochs * per_epoch
    forget_seed, retain_seed = torch.randint(2**31, (2,), generator=torch.Generator().manual_seed(seed)).tolist()
    batches = random_batches(lengths, batch_size, steps * accumulate, forget_seed)
    other_batches = iter(lambda: None, object())  # None without end
    if retain["loss"] != "none" or "others" in method.reads:
        other_lengths = [len(item[0].ids) for item in retain_items]
        other_batches = random_batches(other_lengths, batch_size, steps * accumulate, retain_seed)
    # whole distributions are too large to store: a second model in memory
    unmodified = copy.deepcopy(llm).requires_grad_(False) if retain["loss"] == "kl" else None

    def retain_term(batch: Batch) -> Tensor:
        logits, labels = scored_logits(llm, batch)
        if unmodified is None:
            return descent_loss(logits, labels)
        with torch.no_grad():
            reference_logits, _ = scored_logits(unmodified, batch)
        return kl_loss(logits, reference_logits)

    def loss_terms(pair: tuple[list[int], list[int] | None]) -> dict[str, Tensor]:
        chosen, other = pair
        others = None if other is None else collate(retain_items, other, llm.device)
        batch = collate(items, chosen, llm.device, reference, others)
        terms = {"forget_loss": method.loss(llm, batch)}
        terms["loss"] = terms["forget_loss"]
        if retain["loss"] != "none":
            terms["retain_loss"] = retain_term(others)
            terms["loss"] = terms["forget_loss"] + retain["weight"] * terms["retain_loss"]
        return terms

    method.prepare(llm, seed)
    llm.train()
    log = train(
        accelerator,
        [parameter for parameter in llm.parameters() if parameter.requires_grad],
        zip(batches, other_batches, strict=False),
        loss_terms,
        steps=steps,
        accumulate=accumulate,
        after_step=lambda step: after_epoch(step // per_epoch) if step % per_epoch == 0 else None,
        title=title,
        **optimisation,
    )
    llm.eval()
    return [row | {"epoch": math.ceil(row["step"] / per_epoch)} for row in log]
