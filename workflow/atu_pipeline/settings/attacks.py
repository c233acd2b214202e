"""Attacks: what their blocks may not be set to, and what a benchmark must have for them."""

from collections.abc import Iterator

from atu.data.attacks import KINDS
from atu.data.probe_sets import PROBE_SETS, generated, primary
from atu_pipeline.settings.blocks import kind_of
from atu_pipeline.settings.messages import unknown
from atu_pipeline.settings.texts import check_about, check_file, check_there


def check_attack(name: str, block: dict, config: dict) -> Iterator[str]:
    """Faults of an attack that will run."""
    key, known = f"attacks.{name}", generated("forget", "neighbour")
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
    """Faults of a relearning."""
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
    """Faults of a benchmark that has not what an attack reads."""
    key = f"attacks.{name}"
    if file := KINDS[block["attack"]].file:
        yield from check_file(key, file, targets, config)
    elif block["attack"] == "relearn" and not list(check_about(key, block, config)):
        yield from check_there(key, block, targets, config)


def check_attacks(where: str, chosen: dict, config: dict) -> Iterator[str]:
    """Faults of the attacks of an experiment.

    Args:
        chosen: targets, methods, attacks and what is shown of it.
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
    """Faults of texts that a method has unlearned and that would be relearned: that is no new text about the person."""
    own = config["method_settings"][method]
    if kind_of(own) == "trained" and block.get("about") == "target" and own["texts"] == block["texts"]:
        yield (
            f"attacks.{name}.texts: {block['texts']}, which {method} has unlearned; relearn others, or take {method} "
            "out of methods"
        )
