"""Experiments: what each runs and shows."""

from collections.abc import Iterator
from pathlib import Path

from atu import ROOT
from atu.data.probe_sets import primary
from atu_pipeline.settings.attacks import check_attacks
from atu_pipeline.settings.blocks import has_grid, kind_of, overlay
from atu_pipeline.settings.figures import drawn_from
from atu_pipeline.settings.grids import check_variants
from atu_pipeline.settings.layer_probe import check_layer_probe
from atu_pipeline.settings.messages import refuse, told
from atu_pipeline.settings.methods import check_external, check_method, check_names, check_window, reads_retain_set
from atu_pipeline.settings.published import PUBLISHED, check_benchmark, check_protocol, check_rows
from atu_pipeline.settings.split import without_dev
from atu_pipeline.settings.targets import resolve_targets
from atu_pipeline.settings.texts import check_described, check_text_scores

# What an experiment can show, each with its files in the experiment's folder: tables and pages.
SHOWN = {
    "front": ["index.html"],
    "main": [f"tables/main.{form}" for form in ("csv", "md", "tex", "html")],
    "matched": ["tables/matched.csv", "tables/matched.md"],
    "selected": ["tables/selected.csv", "tables/selected.md"],
    "published": [f"tables/published.{form}" for form in ("csv", "md", "html")],
    "adversarial_types": ["tables/adversarial_types.md"],
    "robustness": ["tables/robustness.csv", "tables/robustness.md"],
    "layer_probe": ["tables/layer_probe.csv"],
    "text_scores": ["tables/text_scores.csv", "tables/text_scores.md"],
    "mia": ["tables/mia.csv", "tables/mia.md"],
    "answers": ["answers/{target}.html"],
}
# A figure's file joins those of the table with the same name.
FIGURES = drawn_from(ROOT)
SHOWN |= {name: [*SHOWN.get(name, []), f"figures/{name}.pdf"] for name in FIGURES}


def experiment_of(name: str, config: dict, root: Path = ROOT) -> dict:
    """An experiment's targets, methods, seeds and what it shows.

    It is checked only when it is requested, since another benchmark may not have its targets.

    Args:
        name: its key in ``experiments``, or empty for the config's own targets and methods, which show all that can
            be made.
        config: from :func:`check_config`.

    Raises:
        ConfigError: if a target is unknown, a method is wrong (:func:`check_method`) or has a grid and is none of the
            config's own, no stage can be chosen for the table that it shows (:func:`check_selected`), or what is
            published is run with other settings (:func:`check_rows`).
    """
    lacking = {
        "selected": [*told(check_selected("", config, config["targets"]))],
        "published": [*check_protocol("", config)],
        "robustness": [None],  # of experiments that name attacks
        "layer_probe": [None],  # of experiments that name it
        "text_scores": [None],  # of experiments that name it: it reads every kept model again
    }
    shown = [table for table in SHOWN if not lacking.get(table)]
    chosen = {key: config[key] for key in ("targets", "methods", "seeds")} | {"shows": shown, "attacks": []}
    if not name:
        return chosen
    if "robustness" in config["experiments"][name]["shows"]:
        chosen["attacks"] = list(config["attacks"])
    chosen |= config["experiments"][name]
    refuse(resolve_experiment(name, config, chosen, root))
    return chosen


def resolve_experiment(name: str, config: dict, chosen: dict, root: Path) -> Iterator[str]:
    """Faults of an experiment. In ``chosen``, methods are replaced by variants of grids, and targets by ids."""
    experiment, where = config["experiments"][name], f"experiments.{name}"
    refuse(check_benchmark(name, config))  # on another benchmark every setting would be a fault too
    if "methods" in experiment:
        for method in experiment["methods"]:
            yield from check_chosen(f"{where}.methods", method, config, root)
        grids = config["grids"]
        chosen["methods"] = [variant for method in experiment["methods"] for variant in grids.get(method, [method])]
        yield from check_names(f"{where}.methods", chosen["methods"])
    yield from check_rows(name, chosen["methods"], config)
    if "targets" in experiment:
        yield from told(resolve_own(f"{where}.targets", experiment["targets"], config, chosen))
    for method in chosen["methods"]:
        yield from check_described(method, config["method_settings"][method], chosen["targets"], config)
    yield from check_attacks(where, chosen, config)
    if "layer_probe" in chosen["shows"]:
        yield from check_layer_probe(chosen["targets"], config)
    yield from check_text_scores(where, chosen, config)
    if "selected" in chosen["shows"]:
        yield from told(check_selected(f"{where}.shows", config, chosen["targets"]))
    yield from told(check_grids(where, config, chosen))
    if "published" in chosen["shows"] or name.startswith(PUBLISHED):
        yield from check_protocol(where, config)
    yield from check_groups_fit(where, experiment, chosen, config)


def check_grids(where: str, config: dict, chosen: dict) -> Iterator[str]:
    """Faults of an experiment with grids if nothing can be chosen on its targets."""
    of_grids = [name for name, variants in config["grids"].items() if set(variants) & set(chosen["methods"])]
    if of_grids and (why := without_dev(config, chosen["targets"])):
        yield f"{where}.targets: settings of {', '.join(of_grids)} are chosen from on dev probes, and {why}"


def check_groups_fit(where: str, experiment: dict, chosen: dict, config: dict) -> Iterator[str]:
    """Faults of an experiment whose models forget several people."""
    if not experiment.get("at_once") and not experiment.get("in_sequence"):
        return
    for count in experiment.get("at_once") or ():
        if count > len(chosen["targets"]):
            yield f"{where}.at_once: {count}, and it has {len(chosen['targets'])} targets; name more, or a lower number"
    yield from check_dev_groups(where, experiment, chosen, config)
    most = max(experiment.get("at_once") or [len(chosen["targets"])])
    left = len(config["all_targets"]) - most
    if "selected" in experiment["shows"]:
        counts = experiment.get("at_once") or range(1, len(chosen["targets"]) + 1)
        if any(without_dev(config, chosen["targets"][:count]) for count in counts):
            yield f"{where}.shows: selected is chosen on dev probes, which some of these groups lack; take it out"
    if "matched" in experiment["shows"]:
        yield f"{where}.shows: matched compares methods on the same people, and these rows have others; take it out"
    if experiment.get("at_once") and experiment.get("in_sequence"):
        yield f"{where}.in_sequence: people are forgotten at once (at_once) or one after another; take one of them out"
    for method in chosen["methods"]:
        block = config["method_settings"][method]
        reads = "align" in block or ("retain" in block and reads_retain_set(block))
        if reads and 0 <= left < block["other_subjects"]:
            yield (
                f"method_settings.{method}.other_subjects: {block['other_subjects']}, and beside the {most} whom "
                f"{where} forgets the benchmark has {left}; set it to at most {left}"
            )
        if has_grid(block) or any(method in variants for variants in config["grids"].values()):
            yield f"{where}.methods: {method} has a list of values, which is for single people; take one of it"
        if kind_of(block) == "external":
            yield f"{where}.methods: {method} is one model, whoever is asked about; take it out, or at_once/in_sequence"
        if kind_of(block) == "aligned" and block["unlearn"]["steps"] < most and experiment.get("at_once"):
            yield (
                f"method_settings.{method}.unlearn.steps: {block['unlearn']['steps']}, and {where} forgets {most} "
                f"people at once: some would be in no batch; set it to {most} at least"
            )
        if experiment.get("in_sequence") and kind_of(block) == "applied":
            yield f"{where}.in_sequence: {method} changes no model, so nothing follows on it; take it out of methods"
        if experiment.get("in_sequence") and not block.get("lora", {}).get("merge", True):
            yield f"method_settings.{method}.lora.merge: false, and {where} goes on from the kept model; set true"


def check_dev_groups(where: str, experiment: dict, chosen: dict, config: dict) -> Iterator[str]:
    """Faults of groups with only dev targets: if there are other targets, tables leave such groups out."""
    targets, dev = chosen["targets"], config["dev_targets"]
    if set(targets) <= set(dev):
        return
    for count in experiment.get("at_once") or [1]:
        if set(targets[:count]) <= set(dev):
            yield (
                f"{where}.targets: its first {count} are dev targets alone, which tables leave out beside others; name "
                "another first"
            )


def check_overrides(name: str, config: dict) -> Iterator[str]:
    """Faults of an experiment that overrides a setting which the source of texts does not read."""
    source = config["corpus"]["source"]
    unread = {"benchmark": "texts", "generate": "text_set"}[source]
    if unread in config["experiments"][name]["overrides"].get("corpus", {}):
        yield f"corpus.{unread}: nothing reads it where corpus.source is {source}; take it out"


def overridden(written: dict, name: str) -> dict:
    """A config with an experiment's overrides; the experiment becomes the config's own.

    Args:
        written: the config as it was written, with defaults.
        name: the experiment's name.
    """
    experiment = written["experiments"][name]
    own = {key: experiment[key] for key in ("targets", "methods", "seeds") if key in experiment}
    alone = {name: {key: value for key, value in experiment.items() if key != "overrides"}}
    return overlay(written, experiment["overrides"]) | own | {"experiments": alone, "paper": [name]}


def check_chosen(key: str, method: str, config: dict, root: Path) -> Iterator[str]:
    """Faults of a method that an experiment runs."""
    blocks, grids = config["method_settings"], config["grids"]
    if has_grid(blocks[method]) and method not in grids:
        kind = "settings" if "grid" in blocks[method] else "learning rates"
        yield f"{key}: {method} has a list of {kind}; choose one first, or name it under methods of the config"
        return

    def faults(block: dict) -> Iterator[str]:
        yield from check_method(method, block, config["all_targets"], root)
        yield from check_external(method, block, config)
        yield from check_window(method, block, config["corpus"])

    yield from check_variants(method, grids.get(method, [method]), blocks, faults)


def check_selected(key: str, config: dict, targets: list[str]) -> Iterator[str]:
    """Faults of a config by which no stage can be chosen.

    Args:
        key: the key that needs a choice.
        targets: the targets that run.
    """
    evaluation, needed = config["evaluation"], [primary("forget"), primary("neighbour")]
    if why := without_dev(config, targets):
        yield f"{key}: selected is chosen on dev probes, and {why}"
    for when in ("between", "before_and_after"):
        if not set(needed) <= set(evaluation[when]):
            yield f"{key}: selected is chosen by {' and '.join(needed)}; ask both in evaluation.{when}"


def resolve_own(key: str, names: list[str], config: dict, chosen: dict) -> Iterator[str]:
    """Faults of the targets that an experiment names; put their ids into ``chosen``."""
    groups = config["benchmarks"][config["benchmark"]].get("groups", {})
    chosen["targets"] = resolve_targets(key, names, config["all_targets"], groups)
    yield from ()
