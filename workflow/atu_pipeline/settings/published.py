"""The published row with which a run is compared, and whether the run has the settings that made that row."""

import csv
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from atu import ROOT
from atu.common.declared import declared
from atu.common.errors import ExplainedError
from atu.common.names import STAR
from atu.data.probe_sets import read_yaml
from atu.engine.parts import ALL_LAYERS, AUTO
from atu_pipeline.settings.blocks import has_grid, kind_of
from atu_pipeline.settings.grids import keys_of, owner_of, value_at

PUBLISHED = "rwku_"  # experiments with this prefix run what RWKU published
BATCH = "-batch"  # blocks with this suffix are for many targets at once
TAU = "unlearn.tau"
# Columns of RWKU's settings, each with the equivalent key of a block and the function that reads its values.
COLUMNS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "text_set": ("texts", str),
    "learning_rate": ("train.learning_rate", float),
    "batch_size": ("train.batch_size", int),
    "accumulate": ("train.accumulate", int),
    "epochs": ("train.epochs", int),
    "warmup_steps": ("train.warmup_steps", int),
    "schedule": ("train.schedule", str),
    "cutoff_tokens": ("max_tokens", int),
    "beta": ("options.beta", float),
    "lora_rank": ("lora.rank", int),
    "lora_alpha": ("lora.alpha", int),
    "lora_modules": ("lora.modules", lambda names: names.split("+")),
}
# Settings that all of RWKU's scripts have and no column gives. LoRA's rank has a column, empty if all weights train.
ALWAYS = {"train.optimizer": "adamw", "retain.loss": "none", "layers": ALL_LAYERS, "lora.rank": 0}


def is_for_batches(name: str) -> bool:
    """Whether a block, or its variant at one rate of a grid, is for many targets at once."""
    return owner_of(name).endswith(BATCH)


def row_of(name: str, block: dict) -> tuple[str, str, str]:
    """Method, tuning (full, lora) and targets at once (1, batch) of a trained block, as in RWKU's settings."""
    method = block["method"] + (STAR if block["texts"] == "passage" else "")
    return method, "lora" if block["lora"]["rank"] else "full", "batch" if is_for_batches(name) else "1"


class Difference(NamedTuple):
    """A setting that differs from the published one, by its key in the config."""

    key: str
    own: object
    published: object

    def __str__(self) -> str:
        return f"{self.key}: {self.own}, published {self.published}"


@cache
def of_scripts(path: str) -> dict[tuple[str, str, str], dict[str, str]]:
    """RWKU's settings: the rows of the table by the keys of :func:`row_of`.

    Raises:
        ExplainedError: if the file is not such a table.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = {(row["method"], row["tuning"], row["targets_at_once"]): row for row in csv.DictReader(file)}
        for row in rows.values():
            read_row(row)
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise ExplainedError(f"{path} is no table of RWKU's settings ({error}); restore the file") from error
    return rows


def read_row(row: dict[str, str]) -> dict[str, Any]:
    """A row of RWKU's settings by the keys of a block."""
    return ALWAYS | {key: read(row[column]) for column, (key, read) in COLUMNS.items() if row[column]}


@cache
def of_authors(path: str) -> dict[str, Any]:
    """The settings of Align-then-Unlearn's authors by the keys of a block, and ``encoder``.

    Raises:
        ExplainedError: if the file does not contain such settings.
    """
    block = read_yaml(path)
    if not isinstance(block, dict):
        raise ExplainedError(f"{path} must hold settings of a block, such as layer: 29; restore the file")
    found = {key: value_at(block, key) for key in keys_of(block)}
    if not isinstance(found.get(TAU), list):
        raise ExplainedError(f"{path} lacks {TAU}, a list of thresholds; restore the file")
    return found


def as_published(name: str, config: dict) -> tuple[dict[str, Any], str] | None:
    """The settings that made a block's published row, by their keys, and their source; None if there are none."""
    block, published = config["method_settings"][name], config["published"]
    match kind_of(block):
        case "aligned":
            return of_authors(published["aligned"]), "its authors' code"
        case "trained":
            row = of_scripts(published["trained"]).get(row_of(name, block))
            return (read_row(row), row["source"]) if row else None
        case "applied" | "external":
            return {}, "RWKU's code"
        case kind:
            raise KeyError(f"no published settings for a method of kind {kind}")


def differences(name: str, config: dict) -> Iterator[Difference]:
    """Settings of a method, other than tau, that differ from the published ones; none if nothing was published.

    A learning rate chosen from a grid of rates counts as published, since RWKU chose its rates in the same way.
    """
    if (found := as_published(name, config)) is None:
        return
    block, owner = config["method_settings"][name], owner_of(name)
    chosen = owner != name and "=" not in name
    for key, theirs in found[0].items():
        if key == "encoder":
            if config["encoder"] != theirs:
                yield Difference(key, config["encoder"], theirs)
            continue
        own = value_at(block, key)
        same = own == theirs or (key == "lora.modules" and own == AUTO) or (chosen and key.endswith(".learning_rate"))
        if not same and key != TAU:
            yield Difference(f"method_settings.{owner}.{key}", own, theirs)
    yield from differing_texts(block, config)


def differing_texts(block: dict, config: dict) -> Iterator[Difference]:
    """Settings of a method's texts that differ from the published ones, if the model's published texts are known."""
    corpus, theirs = config["corpus"], config["published"]["text_sets"].get(config["llm"])
    kind = kind_of(block)
    if (
        theirs is None or kind in ("applied", "external") or (kind == "trained" and block["texts"] == "passage")
    ):  # nobody wrote these
        return
    if corpus["source"] != "benchmark":
        yield Difference("corpus.source", corpus["source"], "benchmark")
    elif theirs != corpus["text_set"]:
        yield Difference("corpus.text_set", corpus["text_set"], theirs)


def check_benchmark(experiment: str, config: dict) -> Iterator[str]:
    """Faults of an experiment that runs what RWKU published, but on another benchmark."""
    own, theirs = config["benchmark"], config["published"]["benchmark"]
    if experiment.startswith(PUBLISHED) and own != theirs:
        yield (
            f"experiments.{experiment}: runs what was published on the benchmark {theirs}, and this config has {own}; "
            f"run it with one of {theirs}, or call the experiment other than {PUBLISHED}..."
        )


def check_rows(experiment: str, methods: list[str], config: dict) -> Iterator[str]:
    """Faults of an experiment that runs what RWKU published, but with other settings than RWKU's.

    Args:
        methods: the experiment's methods, including variants of grids.
    """
    if not experiment.startswith(PUBLISHED):
        return
    mend, said = f"or call the experiment other than {PUBLISHED}...", set()
    for name in methods:
        block = config["method_settings"][name]
        if kind_of(block) != "trained" or has_grid(block):  # an unresolved grid is refused elsewhere
            continue
        if (found := as_published(name, config)) is None:
            method, tuning, at_once = row_of(name, block)
            yield (
                f"experiments.{experiment}.methods: {name} is {method} ({tuning}, targets at once: {at_once}), which "
                f"{shown(config['published']['trained'])} lacks; take it out, {mend}"
            )
            continue
        theirs, source = found
        faults = list(differences(name, config))
        rate = Difference(
            f"method_settings.{owner_of(name)}.train.learning_rate",
            block["train"]["learning_rate"],
            theirs["train.learning_rate"],
        )
        if rate.own != rate.published and rate not in faults:  # of a grid
            faults.append(rate)
        for fault in faults:
            if fault.key not in said:
                said.add(fault.key)
                yield (
                    f"{fault.key}: {fault.own}, but experiments.{experiment} runs {name} as {source} does, with "
                    f"{fault.published}; set that, {mend}"
                )


def shown(path: str) -> str:
    """A path as messages show it: relative to the checkout, if it is inside."""
    return path.removeprefix(f"{ROOT}/")


def check_protocol(where: str, config: dict) -> Iterator[str]:
    """Faults of a comparison with numbers that were made by another protocol.

    Args:
        where: the place that shows the comparison.
    """
    same, theirs = config["benchmark"] == config["published"]["benchmark"], config["published"]["protocol"]
    if same and config["evaluation"]["protocol"] != theirs:
        yield (
            f"{where}: its published numbers are by the protocol {theirs}; set evaluation.protocol to it, or take "
            "published out of what is shown"
        )


def published_row(method: str, config: dict, stage: int, taus: list[float | None]) -> str | None:
    """The row of the published tables to which a run's stage belongs, whatever its settings.

    Args:
        method: its name in the config.
        taus: the stages' thresholds, None where there is none.

    Returns:
        None if there is no such row: for an epoch before the last, a block for many targets at once, a stage of a
        variant of ATU before its last (atu-tau035 passes the thresholds of atu), or a method that was not published.
    """
    if stage == 0:
        return "Before"
    block, tau, last = config["method_settings"][method], taus[stage - 1], stage == len(taus)
    name = declared(ROOT, block["method"]).published
    if not name:
        return None
    match kind_of(block):
        case "aligned":
            return f"{name} (tau={tau:g})" if last or owner_of(method) == block["method"] else None
        case "applied" | "external":
            return name if last else None
        case "trained":  # trained methods have two rows, Full and LoRA
            star = "*" if block["texts"] == "passage" else ""
            row = f"{name}{star} ({'LoRA' if block['lora']['rank'] else 'Full'})"
            return row if last and not is_for_batches(method) else None
        case kind:
            raise KeyError(f"no published row for a method of kind {kind}")


def unlike(method: str, config: dict, taus: list[float | None]) -> list[str]:
    """Why a run must not be compared with its published row: settings that differ from those that made the row.

    Args:
        taus: the thresholds of its stages so far.
    """
    found = list(differences(method, config))
    if kind_of(config["method_settings"][method]) == "aligned":
        schedule = of_authors(config["published"]["aligned"])[TAU]
        theirs = [*(tau for tau in schedule if tau > taus[-1]), taus[-1]]
        if taus != theirs:
            found.append(Difference(f"method_settings.{owner_of(method)}.{TAU}", taus, theirs))
    return list(map(str, found))
