"""Attacks: faults of their blocks, and what a benchmark must have for them."""

from collections.abc import Iterator
from pathlib import Path

from atu.data.attacks import KINDS
from atu.data.benchmark import BenchmarkError, file_of, read_rows, read_texts
from atu.data.probe_sets import PROBE_SETS, about_people, primary
from atu_pipeline.settings.blocks import kind_of
from atu_pipeline.settings.messages import unknown, unknown_name
from atu_pipeline.settings.texts import check_about, check_file, check_there


def check_attack(name: str, block: dict, config: dict) -> Iterator[str]:
    """Faults of an attack that will run."""
    key, known = f"attacks.{name}", about_people()
    for probe_set in block["ask"]:
        if probe_set not in known:
            yield unknown(f"{key}.ask", probe_set, known)
        elif probe_set not in config["evaluation"]["before_and_after"]:
            yield (
                f"{key}.ask: {probe_set} is not in evaluation.before_and_after, so nothing would stand beside what is "
                "answered under the attack; ask it there too, or take it out"
            )
    if block["attack"] == "few_shot" and PROBE_SETS[primary("forget")].primers:
        yield f"{key}: facts are asked as {primary('forget')} is, which has solved examples of its own; take it out"
    if block["attack"] == "relearn":
        yield from check_relearn(key, block, config)


def check_relearn(key: str, block: dict, config: dict) -> Iterator[str]:
    """Faults of a relearning attack."""
    if beyond := [step for step in block["at"] if step > block["steps"]]:
        yield f"{key}.at: {beyond[0]}, and steps is {block['steps']}; set it to at most that"
    if block["steps"] not in block["at"]:
        yield f"{key}.at: lacks {block['steps']}, the last step, which tables show; add it"
    yield from check_about(key, block, config)
    for probe_set in block.get("between", ()):
        if probe_set not in block["ask"]:
            yield unknown(f"{key}.between", probe_set, block["ask"])
    if block["about"] == "target" and block["texts"] == "positive":
        yield f"{key}.texts: positive, which most methods unlearn: it would tell nothing new; choose others"


def check_texts_there(name: str, block: dict, targets: list[str], config: dict) -> Iterator[str]:
    """Faults of a benchmark that lacks what an attack reads."""
    key = f"attacks.{name}"
    if file := KINDS[block["attack"]].file:
        faults = list(check_file(key, file, targets, config))
        yield from faults or check_rows_there(key, file, block, targets, config)
    elif block["attack"] == "relearn" and not list(check_about(key, block, config)):
        yield from check_there(key, block, targets, config)


def check_rows_there(key: str, file: str, block: dict, targets: list[str], config: dict) -> Iterator[str]:
    """The fault of the first target whose file in the user's own benchmark lacks what an attack reads."""
    folder = config["benchmarks"][config["benchmark"]]["path"]
    files = sorted({PROBE_SETS[name].file for name in about_people()})
    for target in targets:
        path = file_of(folder, target, file)
        try:
            rows = read_texts(folder, target, file)
            sizes = {name: len(read_rows(folder, target, name) or []) for name in files}
        except BenchmarkError as error:
            yield f"{key}: {error}"
            return
        if block.get("shots", 0) > len(rows):
            yield f"{key}.shots: {block['shots']}, and {path} has {len(rows)} facts; lower it, or write more"
            return
        if block["attack"] == "paraphrase" and (fault := misplaced(path, rows, block["ask"], sizes)):
            yield f"{key}: {fault}"
            return


def misplaced(path: Path, rows: list[dict], ask: list[str], sizes: dict[str, int]) -> str:
    """What is wrong with the places that paraphrases name; empty if each belongs to a probe and some are asked.

    Args:
        sizes: the number of rows in each file that they may name.
    """
    for number, row in enumerate(rows, start=1):
        if row["file"] not in sizes:
            return f"{path}, row {number}: file: {unknown_name(row['file'], list(sizes))}"
        if row["row"] >= sizes[row["file"]]:
            size = sizes[row["file"]]
            return (
                f"{path}, row {number}: {row['file']}.json has no row {row['row']} of {size}; rows are counted from 0"
            )
    asked = sorted({PROBE_SETS[name].file for name in ask})
    if not {row["file"] for row in rows} & {*asked}:
        return f"{path} has no row of {' or '.join(asked)}, which are asked; write some, or take the target out"
    return ""


def check_attacks(where: str, chosen: dict, config: dict) -> Iterator[str]:
    """Faults of the attacks of an experiment.

    Args:
        chosen: the experiment, with its targets, methods, attacks and what it shows.
    """
    if not chosen["attacks"]:
        if "robustness" in chosen["shows"]:
            yield f"{where}.attacks: shows robustness, and there are none; name some, or take it out of shows"
        return
    if "robustness" not in chosen["shows"]:
        yield f"{where}.attacks: nothing shows them; add robustness to shows"
    for name in chosen["attacks"]:
        if name not in config["attacks"]:
            yield unknown(f"{where}.attacks", name, list(config["attacks"]))
            continue
        block = config["attacks"][name]
        yield from check_attack(name, block, config)
        yield from check_texts_there(name, block, chosen["targets"], config)
        for method in chosen["methods"]:
            yield from check_read_before(name, block, method, config)


def check_read_before(name: str, block: dict, method: str, config: dict) -> Iterator[str]:
    """Faults of a relearning attack on the very texts that a method has unlearned, which would not be new to it."""
    own = config["method_settings"][method]
    if kind_of(own) == "trained" and block.get("about") == "target" and own["texts"] == block["texts"]:
        yield (
            f"attacks.{name}.texts: {block['texts']}, which {method} has unlearned; relearn others, or take {method} "
            "out of methods"
        )
