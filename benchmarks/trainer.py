"""Compare training steps of GA with the same loss in a plain transformers Trainer.

    PYTHONPATH=workflow python benchmarks/trainer.py [--llm DIR] [--steps 6] [--batch 8] [--tokens 96] [--turns 2]

Both use the same text, weights, AdamW and batches, in turns; the Trainer negates the model's own loss. The first step
of each turn warms up and does not count. Both must end at the same weights, so the largest difference is printed.
"""

import argparse
import copy
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from accelerate import Accelerator
from tabulate import tabulate
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from atu.engine.examples import Example
from atu.engine.models import load_llm
from atu.methods import load
from atu.training.epochs import train_epochs
from fetched import fetched

RATE = 1e-5


class Negated(Trainer):
    """Gradient ascent: the loss of a causal language model, turned round."""

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        outputs = model(**inputs)
        return (-outputs.loss, outputs) if return_outputs else -outputs.loss


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self):
        self.ends: list[float] = []

    def on_step_end(self, *_, **__):
        self.ends.append(time.perf_counter())


def plainly(llm: PreTrainedModel, rows: list[list[int]], batch: int) -> list[float]:
    """Seconds of each step but the first."""
    texts = [{"input_ids": row, "labels": row, "attention_mask": [1] * len(row)} for row in rows]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        how = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            num_train_epochs=1,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            max_grad_norm=1.0,
            weight_decay=0.0,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=not torch.cuda.is_available(),
            dataloader_drop_last=False,
        )
        Negated(llm, how, train_dataset=texts, callbacks=[clock]).train()
    return [later - earlier for earlier, later in pairwise(clock.ends)]


def here(llm: PreTrainedModel, rows: list[list[int]], batch: int) -> list[float]:
    """The same of this workflow."""
    items = [[Example(tuple(row), 1)] for row in rows]
    how = {"epochs": 1, "batch_size": batch, "accumulate": 1, "optimizer": "adamw", "learning_rate": RATE}
    how |= {"weight_decay": 0.0, "clip_norm": 1.0, "schedule": "constant"}
    ends: list[float] = []
    train_epochs(
        Accelerator(cpu=not torch.cuda.is_available()),
        llm,
        load("ga"),
        items,
        texts="positive",
        reference=None,
        retain_set=[],
        retain={"loss": "none", "weight": 1.0},
        seed=0,
        after_epoch=lambda epoch: None,
        after_step=lambda step: ends.append(time.perf_counter()),
        title="ga",
        **how,
    )
    # after the last step the loss of its batch is computed once more
    return [later - earlier for earlier, later in pairwise(ends[:-1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", type=Path)
    for name, value in (("steps", 6), ("batch", 8), ("tokens", 96), ("turns", 2), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    first, _ = load_llm(options.llm or fetched("smollm2-135m-instruct"))
    # one text again and again, so that both ways have the same batches in whichever order they draw them
    rows = [torch.randint(5, first.config.vocab_size, (options.tokens,)).tolist()] * (options.steps * options.batch)
    times: dict[str, list[float]] = {"Trainer": [], "here": []}
    weights: dict[str, PreTrainedModel] = {}
    for turn in range(options.turns):
        for name, way in (("Trainer", plainly), ("here", here))[:: -1 if turn % 2 else 1]:
            weights[name] = copy.deepcopy(first).train()
            times[name] += way(weights[name], rows, options.batch)
    print(
        tabulate(
            [(name, statistics.median(spent), min(spent)) for name, spent in times.items()],
            ["way", "median step (s)", "fastest (s)"],
            floatfmt=".3f",
        )
    )
    pairs = zip(weights["Trainer"].parameters(), weights["here"].parameters(), strict=True)
    apart = max(float((one - other).abs().max()) for one, other in pairs)
    print(f"the largest difference of a weight behind the last step, of steps of {RATE:g}: {apart:.1e}")


if __name__ == "__main__":
    main()
