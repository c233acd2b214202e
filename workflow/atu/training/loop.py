"""The training loop of all methods: optimiser, schedule, clipping, a log of every step, a stop at NaN."""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from atu.common.errors import DivergedError, ExplainedError
from atu.common.finite import is_finite
from atu.common.memory import Memory
from atu.common.runtime import progress
from atu.engine.sharded import is_shard, own_part
from atu.training.shares import Share
from atu.training.updates import Updates

log_of_job = logging.getLogger("atu")
FULL = Memory()


def share_of_rate(schedule: str, step: int, warmup_steps: int, steps: int) -> float:
    """The learning rate's factor at a step, counted from 0, as ``transformers.get_scheduler`` has it.

    It is reimplemented because importing transformers would cost every job that trains a predictor three seconds.

    Args:
        schedule: "constant" (no warm-up), "constant_with_warmup", "linear" or "cosine" (both fall to 0 after warm-up).
    """
    if schedule == "constant":
        return 1.0
    if step < warmup_steps:
        return step / warmup_steps
    left = (steps - step) / max(1, steps - warmup_steps)
    match schedule:
        case "constant_with_warmup":
            return 1.0
        case "linear":
            return max(0.0, left)
        case "cosine":
            return max(0.0, 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps))))
    raise ValueError(f"unknown schedule {schedule!r}")


def train(
    accelerator: Accelerator,
    parameters: Iterable[nn.Parameter],
    batches: Iterable,
    loss_terms: Callable[..., dict[str, Tensor]],
    *,
    steps: int,
    optimizer: str,
    learning_rate: float,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    schedule: str = "constant_with_warmup",
    clip_norm: float = 1.0,
    accumulate: int = 1,
    fused: bool = False,
    memory: Memory = FULL,
    after_step: Callable[[int], None] = lambda step: None,
    enough: Callable[[list[dict[str, float]]], bool] = lambda log: False,
    title: str = "train",
    tracked_before: int = 0,
) -> list[dict[str, float]]:
    """Minimise ``loss_terms(batch)["loss"]`` in ``steps`` steps of ``accumulate`` batches each.

    Args:
        parameters: if they are shards, all processes call this with the same batches.
        loss_terms: returns a scalar "loss" and any other scalars worth logging. A loss without a graph means a
            gradient of zero, and no backward pass is run for it. With several processes, each scalar is a part of a sum
            over processes (:class:`atu.training.shares.Share`), and either all losses have a graph or none has.
        optimizer: one of "sgd", "adam", "adamw".
        schedule: one of "constant", "constant_with_warmup", "linear", "cosine", as in ``transformers``.
        clip_norm: the gradient's norm is clipped to this.
        fused: whether the optimiser updates all weights in one pass. The result is the same but for rounding, and on a
            CPU it takes a quarter of the optimiser's time, which for the demo's model is a third of a step.
        memory: how master copies and the optimiser's state are kept.
        after_step: called after each step with its number.
        enough: given the log so far, returns whether to stop after the last logged step.
        title: shown in the progress line; also the prefix of the names that the accelerator's trackers see.
        tracked_before: how many steps the trackers have already seen, since their step must never fall.

    Returns:
        One row per step: step, the loss terms, grad_norm (before clipping), learning_rate.

    Raises:
        ExplainedError: if the only step is warm-up, at a rate of 0; or if a loss without a graph is not zero.
        DivergedError: at the first loss or gradient that is not finite. Also if a weight is not finite after the last
            step, or the loss of its batch, which is then computed again.
    """
    parameters = list(parameters)
    share = Share.of(accelerator) if any(map(is_shard, parameters)) else Share()
    updates = Updates(parameters, optimizer, memory, fused, lr=learning_rate, weight_decay=weight_decay)
    if warmup_steps >= steps and schedule != "constant":  # step n has (n - 1) / warmup_steps of the rate
        reached = f"{title}: of {steps} steps all are warm-up (warmup_steps: {warmup_steps}), so the learning rate "
        if steps == 1:
            raise ExplainedError(f"{reached}is 0 and nothing would be trained; lower warmup_steps to 0")
        log_of_job.warning(f"{reached}reaches {(steps - 1) / warmup_steps:.0%} of {learning_rate}")
    mend = f"lower the learning rate ({learning_rate}) or use precision fp32"
    log = []
    batches = iter(batches)
    bar = progress(range(1, steps + 1), title, total=steps)
    for step in bar:
        values: dict[str, float] = defaultdict(float)
        for _ in range(accumulate):
            batch = next(batches)
            with accelerator.autocast():
                terms = loss_terms(batch)
            if terms["loss"].requires_grad:
                accelerator.backward(terms["loss"] / accumulate)
            elif terms["loss"].isfinite() and terms["loss"]:  # it would be logged but train nothing
                raise ExplainedError(
                    f"{title}: the loss is {terms['loss'].item():.4g} and depends on no weight that trains; let "
                    "weights train that it reads"
                )
            for name, value in share.sums(terms).items():
                values[name] += value / accumulate
        values["grad_norm"] = updates.clip(clip_norm)
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise DivergedError(f"{title}: {', '.join(bad)} not finite at step {step}; {mend}")
        values["learning_rate"] = learning_rate * share_of_rate(schedule, step - 1, warmup_steps, steps)
        log.append({"step": step} | values)
        accelerator.log({f"{title}/{name}": value for name, value in values.items()}, step=tracked_before + step)
        updates.step(values["learning_rate"])
        bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
        ends = step == steps or enough(log)
        if ends:  # no later step would reveal that this one diverged
            with torch.no_grad(), torch.random.fork_rng(), accelerator.autocast():
                last = loss_terms(batch)["loss"]
            finite = is_finite(last) and all(map(is_finite, map(own_part, parameters)))
            if not share.all(finite, last.device):
                raise DivergedError(f"{title}: loss or weights not finite after step {step}, the last; {mend}")
        after_step(step)
        if ends:
            break
    return log
