"""Training by epochs, shared by all methods with a loss on examples."""

import copy
import logging
import math
from collections.abc import Callable, Iterator
from itertools import repeat

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from atu.common.errors import ExplainedError
from atu.engine.batching import random_batches
from atu.engine.examples import Batch, Example, collate, scored_logits
from atu.engine.models import chosen_layers, train_alone
from atu.engine.sharded import shard
from atu.training.loop import train
from atu.training.method import Trained
from atu.training.retain import descent_loss, kl_loss
from atu.training.shares import Share

log_of_job = logging.getLogger("atu")
SEQUENCES = {"pair": 2}  # sequences in an item; items of other kinds have one
MEANS = ("", "tokens", "items")


def check_items(
    method: Trained,
    name: str,
    texts: str,
    items: list[list[Example]],
    reference: Tensor | None,
    retain_set: list[list[Example]],
    retain: str,
) -> None:
    """Refuse items or settings that do not fit the method's loss.

    Raises:
        ExplainedError: says what does not fit.
    """
    if not items:
        raise ExplainedError("there is nothing to train on: no text is longer than one token")
    if texts not in method.texts:
        raise ExplainedError(f"{name} is a loss of {' or '.join(method.texts)} texts, not of {texts}: set its texts")
    if wrong := [item for item in items if len(item) != SEQUENCES.get(texts, 1)]:
        raise ExplainedError(f"{texts} texts are items of {SEQUENCES.get(texts, 1)}, and {len(wrong)} are not")
    if (over := method.counted_over()) not in MEANS:
        raise ExplainedError(f"{name}: mean_over is {over!r}; set it to tokens, items or nothing")
    if ("reference" in method.reads) != (reference is not None):
        raise ExplainedError(
            f"{name} reads {', '.join(method.reads) or 'nothing besides its texts'}: its reads must say so"
        )
    if ("others" in method.reads or retain != "none") and not retain_set:
        raise ExplainedError(f"{name} reads texts of others, and there are none: set other_subjects above 0")


def trained_parameters(
    llm: PreTrainedModel, method: Trained, name: str, layers: range | None = None
) -> list[nn.Parameter]:
    """The weights that train: those of all trainable weights (all, or the adapters) that lie in the chosen layers.

    All weights, or all adapters, are saved later; a method may train fewer of them, but no others.

    Args:
        layers: layers of the decoder, counted from 0; None for those that the method chooses, or the whole model.

    Raises:
        ExplainedError: if no weight is left, the model has fewer layers, or the method chooses its layers itself.
    """
    chosen = method.layers()
    if layers is not None:
        if chosen is not None:
            raise ExplainedError(f"{name} chooses the layers that train itself: set its layers to none")
        chosen = layers
    trained = train_alone(llm, [llm] if chosen is None else chosen_layers(llm, chosen))
    if not trained:
        raise ExplainedError(f"{name} trains no weight: none of lora.modules lies in its layers")
    return trained


def scored_tokens(items: list[list[Example]], chosen: list[int]) -> list[int]:
    """How many tokens of each chosen item are scored."""
    return [sum(len(example.scored) for example in items[i]) for i in chosen]


def train_epochs(
    accelerator: Accelerator,
    llm: PreTrainedModel,
    method: Trained,
    items: list[list[Example]],
    *,
    texts: str,
    reference: Tensor | None,
    retain_set: list[list[Example]],
    retain: dict,
    seed: int,
    after_epoch: Callable[[int], None],
    epochs: int,
    batch_size: int,
    accumulate: int,
    title: str,
    layers: range | None = None,
    **optimisation,
) -> list[dict[str, float]]:
    """Train ``llm``'s trainable weights on the items.

    With several processes, all of them call this, with the model on the host; the model is sharded here, and the
    processes share each batch.

    Args:
        texts: the kind of the items.
        reference: log-probabilities of the items' sequences under the base model.
        retain: {loss: none, descent or kl, weight}; computed on batches of ``retain_set`` of the same size.
        after_epoch: called after each epoch with its number, counted from 1.
        batch_size, accumulate: items per batch and batches per step; limited to all items and all batches of an epoch.
        layers: the only layers of the decoder that train, counted from 0; None for those that the method chooses, or
            all.

    Returns:
        One row per step: step, epoch, loss, forget_loss, retain_loss, grad_norm, learning_rate.

    Raises:
        ExplainedError: if there are no items, they do not fit the method's loss, or other inputs of the method are
            missing.
        DivergedError: if losses, gradients or weights are not finite.
    """
    check_items(method, title, texts, items, reference, retain_set, retain["loss"])
    if len(items) < batch_size:
        log_of_job.warning("%d texts, so batches are of %d, not of %d", len(items), len(items), batch_size)
    batches_an_epoch = math.ceil(len(items) / batch_size)
    if accumulate > batches_an_epoch:  # else an epoch would read its texts more than once
        log_of_job.warning(
            "an epoch has %d batches, so a step is of %d, not of %d", *[batches_an_epoch] * 2, accumulate
        )
        accumulate = batches_an_epoch
    lengths = [max(len(example.ids) for example in item) for item in items]
    per_epoch = math.ceil(len(items) / (batch_size * accumulate))
    steps = epochs * per_epoch
    forget_seed, retain_seed = torch.randint(2**31, (2,), generator=torch.Generator().manual_seed(seed)).tolist()
    batches = random_batches(lengths, batch_size, steps * accumulate, forget_seed)
    other_batches: Iterator[list[int] | None] = repeat(None)
    if retain["loss"] != "none" or "others" in method.reads:
        other_lengths = [len(item[0].ids) for item in retain_set]
        other_batches = random_batches(other_lengths, batch_size, steps * accumulate, retain_seed)
    # whole distributions are too large to store, so KL keeps a second model in memory
    base_model = copy.deepcopy(llm).requires_grad_(False) if retain["loss"] == "kl" else None

    def retain_term(batch: Batch) -> Tensor:
        logits, labels = scored_logits(llm, batch)
        if base_model is None:
            return descent_loss(logits, labels)
        with torch.no_grad():
            reference_logits, _ = scored_logits(base_model, batch)
        return kl_loss(logits, reference_logits)

    share, over = Share.of(accelerator), method.counted_over()
    apart = bool(over) and "others" not in method.reads  # a loss that reads others is a mean over more than its items

    def loss_terms(pair: tuple[list[int], list[int] | None]) -> dict[str, Tensor]:
        chosen, other = pair
        others = None if other is None else collate(retain_set, share.part(other), llm.device)
        if apart:
            batch = collate(items, share.part(chosen), llm.device, reference, others)
            counts = scored_tokens(items, chosen) if over == "tokens" else [1] * len(chosen)
        else:
            whole = others if share.ranks == 1 or other is None else collate(retain_set, other, llm.device)
            batch, counts = collate(items, chosen, llm.device, reference, whole), None
        terms = {"forget_loss": share.weighed(method.loss(llm, batch), counts)}
        terms["loss"] = terms["forget_loss"]
        if retain["loss"] != "none":
            assert others is not None and other is not None  # check_items refuses a retain term without texts of others
            terms["retain_loss"] = share.weighed(retain_term(others), scored_tokens(retain_set, other))
            terms["loss"] = terms["forget_loss"] + retain["weight"] * terms["retain_loss"]
        return terms

    parameters = trained_parameters(llm, method, title, layers)
    method.prepare(llm, seed)
    if share.ranks > 1:
        second = [base_model, *vars(method).values()]
        for model in [llm, *(own for own in second if isinstance(own, PreTrainedModel))]:
            shard(model, accelerator.device)
        parameters = [weight for weight in llm.parameters() if weight.requires_grad]
    llm.train()
    log = train(
        accelerator,
        parameters,
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
