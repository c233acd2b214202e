"""Faults of a method that will run, beyond the form of its block."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from atu import ROOT
from atu.common.declared import FOLDER, Declared, declared
from atu.common.errors import ExplainedError
from atu.common.names import display_name
from atu.engine.parts import ALL_LAYERS, layer_range
from atu_pipeline.settings.blocks import kind_of, read_method
from atu_pipeline.settings.fit import check_base
from atu_pipeline.settings.messages import unknown
from atu_pipeline.settings.options import check_options
from atu_pipeline.settings.sources import check_source
from atu_pipeline.settings.targets import resolve_targets


def check_one_block(blocks: dict[str, dict]) -> Iterator[str]:
    """Faults of models from elsewhere that two blocks name, since both would be one run with different people."""
    found: dict[str, str] = {}
    for name, block in blocks.items():
        if "forgot" in block and (other := found.setdefault(block["model"], name)) != name:
            yield (
                f"method_settings.{name}.model: {block['model']} is that of method_settings.{other} too; name all whom "
                "it has forgotten in one of them"
            )


def reads_retain_set(block: dict) -> bool:
    """Whether the loss of a trained method, or its retain term, reads texts of other subjects."""
    return "others" in declared(ROOT, block["method"]).reads or block["retain"]["loss"] != "none"


def check_method(name: str, block: dict, all_targets: list[str] | None, root: Path) -> Iterator[str]:
    """Faults of a method that will run.

    Args:
        all_targets: the benchmark's targets; None if they are not known.
    """
    taken = read_method(name, block, root)
    yield from check_decay(name, block)
    if taken.kind == "aligned":
        yield from check_aligned(name, block)
    elif taken.kind != "external":
        yield from check_options(name, block, taken)
        yield from check_texts(name, block, taken)
    if taken.kind == "trained":
        yield from check_retain(name, block)
        yield from check_layers(name, block, taken)
    yield from check_retain_set(name, block, taken, all_targets)


def check_external(name: str, block: dict, config: dict) -> Iterator[str]:
    """Faults of a model from elsewhere: its source, and the forgotten people, who are resolved to ids in place."""
    if "forgot" not in block:
        return
    key, model = f"method_settings.{name}", block["model"]
    if model not in config["models"]:
        yield unknown(f"{key}.model", model, sorted(config["models"]))
    else:
        yield from check_source("llm", model, config["models"][model])
        yield from check_base(f"{key}.model", model, config)
    if model == config["llm"]:
        yield f"{key}.model: {model} is the llm itself, which has forgotten nobody; name the unlearned model"
    groups = config["benchmarks"][config["benchmark"]].get("groups", {})
    block["forgot"] = resolve_targets(f"{key}.forgot", block["forgot"], config["all_targets"], groups)


def check_decay(name: str, block: dict) -> Iterator[str]:
    """Faults of a weight decay that removes weights, since each step removes a share of learning rate times decay."""
    for part in ("align", "unlearn", "train"):
        if part not in block:
            continue
        rate, decay = block[part]["learning_rate"], block[part]["weight_decay"]
        # Adam adds decay to the gradient, and its steps do not depend on the gradient's size
        if block[part]["optimizer"] != "adam" and rate * decay >= 1:
            yield (
                f"method_settings.{name}.{part}.weight_decay: {decay:g} at a learning rate of {rate:g} takes each "
                f"weight away in one step; set it below {1 / rate:g}"
            )


def check_texts(name: str, block: dict, taken: Declared) -> Iterator[str]:
    """Faults of a block with a kind of texts that its method's file cannot read."""
    where, file = f"method_settings.{name}", f"{FOLDER}/{block['method']}.py"
    if "texts" in block and not taken.texts:
        yield f"{where}.texts: {file} reads no texts; take it out"
    elif "texts" in block and block["texts"] not in taken.texts:
        yield f"{where}.texts: {block['texts']} is nothing that {file} reads; choose {' or '.join(taken.texts)}"


def check_retain(name: str, block: dict) -> Iterator[str]:
    """Faults of a retain loss without weight."""
    if block["retain"]["loss"] != "none" and block["retain"]["weight"] == 0:
        yield (
            f"method_settings.{name}.retain.weight: 0, so retain.loss {block['retain']['loss']} would count for "
            "nothing; set it above 0, or retain.loss to none"
        )


def check_layers(name: str, block: dict, taken: Declared) -> Iterator[str]:
    """Faults of the choice of trained layers."""
    where, layers = f"method_settings.{name}.layers", block["layers"]
    if layers == ALL_LAYERS:
        return
    try:
        layer_range(layers)
    except ExplainedError as error:
        yield f"{where}: {error}"
    if taken.trained_layers is not None:
        yield (
            f"{where}: {layers}, but {FOLDER}/{block['method']}.py chooses the layers that train itself; set it to "
            f"{ALL_LAYERS}"
        )


def check_aligned(name: str, block: dict) -> Iterator[str]:
    """Faults of Align-then-Unlearn."""
    where, predictor = f"method_settings.{name}", block["predictor"]
    if predictor["width"] % predictor["heads"]:
        yield (
            f"{where}.predictor.heads: {predictor['heads']} heads cannot share a width of {predictor['width']}; "
            "choose a width that they divide"
        )
    if (layers := block["unlearn"]["layers"]) != ALL_LAYERS:
        try:
            above = layer_range(layers).stop > block["layer"]
        except ExplainedError as error:
            yield f"{where}.unlearn.layers: {error}"
        else:
            if above:
                yield (
                    f"{where}.unlearn.layers: {layers} are not all below the hook layer, {block['layer']}, above which "
                    f"nothing is run; name layers up to {block['layer'] - 1}"
                )
    for earlier, later in pairwise(block["unlearn"]["tau"]):
        if later > earlier:
            yield (
                f"{where}.unlearn.tau: rises from {earlier:g} to {later:g}, and training does not bring a model back "
                f"above {earlier:g}: the later stage would not be of its threshold; let it fall"
            )
    yield from check_mentions(where, block["unlearn"])
    yield from check_warmup(where, block)


def check_mentions(where: str, unlearn: dict) -> Iterator[str]:
    """Faults of a loss that keeps to the target's mentions."""
    if unlearn["near_mentions"] and unlearn["released_padding"]:
        yield (
            f"{where}.unlearn.near_mentions: {unlearn['near_mentions']}, so that the loss reads no padding, which "
            "released_padding has it read; set one of the two only"
        )
    if unlearn["elsewhere_weight"] and not unlearn["near_mentions"]:
        yield (
            f"{where}.unlearn.elsewhere_weight: {unlearn['elsewhere_weight']}, but near_mentions is 0, and no token is "
            "elsewhere; set near_mentions, or elsewhere_weight to 0"
        )


def check_warmup(where: str, block: dict) -> Iterator[str]:
    """Faults of a warm-up that is not shorter than its training."""
    phases = [("align", "steps"), ("unlearn", "steps")]
    if len(block["unlearn"]["tau"]) > 1:  # nothing is aligned after the last stage
        phases.append(("align", "steps_between"))
    for part, key in phases:
        warmup, steps = block[part]["warmup_steps"], block[part][key]
        if warmup >= steps:
            yield (
                f"{where}.{part}.warmup_steps: {warmup}, and {part}.{key} is {steps}: the learning rate would "
                f"never be reached; set it below {steps}"
            )


def retain_set_for(name: str, block: dict, taken: Declared) -> str | None:
    """What makes a method read texts of other subjects: a key, or the loss of its file; None if it reads none."""
    where = f"method_settings.{name}"
    match taken.kind:
        case "aligned":
            return f"{where}.unlearn.retain_weight" if block["unlearn"]["retain_weight"] > 0 else None
        case "trained":
            if "others" in taken.reads:
                return f"the loss of {FOLDER}/{block['method']}.py"
            return f"{where}.retain.loss" if block["retain"]["loss"] != "none" else None
        case "applied" | "external":
            return None
    raise KeyError(f"no texts of others for a method of kind {taken.kind}")


def check_retain_set(name: str, block: dict, taken: Declared, all_targets: list[str] | None) -> Iterator[str]:
    """Faults of the number of other subjects whose texts a method reads."""
    key, by = f"method_settings.{name}.other_subjects", retain_set_for(name, block, taken)
    if by and block["other_subjects"] == 0:
        yield f"{key}: 0, but by {by} texts of others are read; set it to 1 at least"
    if all_targets and (by or taken.kind == "aligned") and block["other_subjects"] >= len(all_targets):
        yield (
            f"{key}: {block['other_subjects']} others, but the benchmark has only {len(all_targets)} targets; set it "
            f"to at most {len(all_targets) - 1}"
        )


def check_window(name: str, block: dict, corpus: dict) -> Iterator[str]:
    """Faults of a window that is too long for the texts that the model writes itself."""
    if kind_of(block) == "aligned" and corpus["source"] == "generate" and block["k"] >= corpus["max_new_tokens"]:
        yield (
            f"method_settings.{name}.k: behind no token of a text of {corpus['max_new_tokens']} "
            f"(corpus.max_new_tokens) do {block['k']} follow; set it lower"
        )


def check_names(key: str, methods: list[str]) -> Iterator[str]:
    """Faults of methods with the same name in tables, which would take them for one."""
    called: dict[str, str] = {}
    for method in methods:
        other = called.setdefault(display_name(method), method)
        if other != method:
            yield (
                f"{key}: {other} and {method} are both called {display_name(method)} in tables; rename one under "
                "method_settings"
            )
