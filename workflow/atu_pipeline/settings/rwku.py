"""RWKU's own training settings, one a row of a table, and which row a block of ``method_settings`` is of."""

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from atu.common.names import STAR
from atu_pipeline.settings.blocks import has_grid, kind_of
from atu_pipeline.settings.grids import owner_of

TABLE = "workflow/benchmarks/rwku/settings.csv"
PUBLISHED = "rwku_"  # experiments that are called so run what RWKU published
BATCH = "-batch"  # blocks that end so are for many targets at once


def is_for_batches(name: str) -> bool:
    """Whether a block, or its variant at one rate of a grid, is for many targets at once."""
    return owner_of(name).endswith(BATCH)


def row_of(name: str, block: dict) -> tuple[str, str, str]:
    """Method, tuning (full, lora) and targets at once (1, batch) of a trained block, as the table has them."""
    method = block["method"] + (STAR if block["texts"] == "passage" else "")
    return method, "lora" if block["lora"]["rank"] else "full", "batch" if is_for_batches(name) else "1"


@cache
def own_settings(root: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    """The rows of the table by what :func:`row_of` says."""
    with (root / TABLE).open(encoding="utf-8", newline="") as file:
        return {(row["method"], row["tuning"], row["targets_at_once"]): row for row in csv.DictReader(file)}


def check_published(experiment: str, methods: list[str], blocks: dict[str, dict], root: Path) -> Iterator[str]:
    """Faults of an experiment that runs what RWKU published: settings that RWKU does not have.

    Args:
        methods: of the experiment, variants of grids among them.
        blocks: the settings of all methods.
    """
    if not experiment.startswith(PUBLISHED):
        return
    mend = f"or call the experiment other than {PUBLISHED}..."
    for name in methods:
        block = blocks[name]
        if kind_of(block, root) != "trained" or has_grid(block):  # a grid that is left is refused anyhow
            continue
        method, tuning, at_once = row_of(name, block)
        row, rate = own_settings(root).get((method, tuning, at_once)), block["train"]["learning_rate"]
        if row is None:
            yield (
                f"experiments.{experiment}.methods: {name} is {method} ({tuning}, targets at once: {at_once}), which "
                f"{TABLE} lacks; take it out, {mend}"
            )
        elif rate != float(row["learning_rate"]):
            yield (
                f"method_settings.{owner_of(name)}.train.learning_rate: {rate}, but experiments.{experiment} runs "
                f"it as {row['source']} does, at {row['learning_rate']}; set that, {mend}"
            )
