"""Experiments: what each runs and shows; and grids, methods whose learning rate is a list."""

from collections.abc import Iterator
from pathlib import Path

from atu import ROOT
from atu.data.benchmark import BenchmarkError, read_rows
from atu.data.probe_sets import PROBE_SETS, primary
from atu_pipeline.settings.blocks import has_grid, kind_of, overlay, steps_of
from atu_pipeline.settings.figures import drawn_from
from atu_pipeline.settings.messages import refuse, told
from atu_pipeline.settings.methods import check_external, check_method, check_names, check_window, reads_retain_set
from atu_pipeline.settings.rwku import check_published
from atu_pipeline.settings.targets import resolve_targets

# What an experiment can show, and the files of each in its folder: tables, and pages of answers.
SHOWN = {
    "main": [f"tables/main.{form}" for form in ("csv", "md", "tex", "html")],
    "matched": ["tables/matched.csv", "tables/matched.md"],
    "published": [f"tables/published.{form}" for form in ("csv", "md", "html")],
    "adversarial_types": ["tables/adversarial_types.md"],
    "mia": ["tables/mia.csv", "tables/mia.md"],
    "answers": ["answers/{target}.html"],
}
# Figures join what is called alike.
FIGURES = drawn_from(ROOT)
SHOWN |= {name: [*SHOWN.get(name, []), f"figures/{name}.pdf"] for name in FIGURES}


def experiment_of(name: str, config: dict, root: Path = ROOT) -> dict:
    """Targets, methods and seeds of an experiment, and what it shows; checked when it is asked for, as another
    benchmark may not have its targets.

    Args:
        name: its key in ``experiments``, or nothing for the config's own targets and methods, which show all.
        config: from :func:`check_config`.

    Raises:
        ConfigError: if a target is unknown, a method is wrong (:func:`check_method`), a learning rate is a grid
            that the config's own methods lack, or what is published is run with other settings
            (:func:`check_published`).
    """
    chosen = {key: config[key] for key in ("targets", "methods", "seeds")} | {"shows": list(SHOWN)}
    if not name:
        return chosen
    chosen |= config["experiments"][name]
    refuse(resolve_experiment(name, config, chosen, root))
    return chosen


def resolve_experiment(name: str, config: dict, chosen: dict, root: Path) -> Iterator[str]:
    """Faults of an experiment. Its methods become variants of grids, its targets ids; in place of ``chosen``."""
    experiment, where = config["experiments"][name], f"experiments.{name}"
    if "methods" in experiment:
        for method in experiment["methods"]:
            yield from told(check_chosen(f"{where}.methods", method, config, root))
        grids = config["grids"]
        chosen["methods"] = [variant for method in experiment["methods"] for variant in grids.get(method, [method])]
        yield from check_names(f"{where}.methods", chosen["methods"])
    yield from check_published(name, chosen["methods"], config["method_settings"], root)
    if "targets" in experiment:
        yield from told(resolve_own(f"{where}.targets", experiment["targets"], config, chosen))
    yield from check_groups_fit(where, experiment, chosen, config)


def check_groups_fit(where: str, experiment: dict, chosen: dict, config: dict) -> Iterator[str]:
    """Faults of an experiment whose models forget several people."""
    if not experiment.get("at_once") and not experiment.get("in_sequence"):
        return
    for count in experiment.get("at_once") or ():
        if count > len(chosen["targets"]):
            yield f"{where}.at_once: {count}, and it has {len(chosen['targets'])} targets; name more, or a lower number"
    most = max(experiment.get("at_once") or [len(chosen["targets"])])
    left = len(config["all_targets"]) - most
    if experiment.get("at_once") and experiment.get("in_sequence"):
        yield f"{where}.in_sequence: people are forgotten at once (at_once) or one after another; take one of them out"
    for method in chosen["methods"]:
        block = config["method_settings"][method]
        reads = "align" in block or ("retain" in block and reads_retain_set(block))
        if reads and block["other_subjects"] > left:
            yield (
                f"method_settings.{method}.other_subjects: {block['other_subjects']}, and beside the {most} whom "
                f"{where} forgets the benchmark has {left}; set it to at most {left}"
            )
        if has_grid(block) or any(method in variants for variants in config["grids"].values()):
            yield f"{where}.methods: {method} has a list of learning rates, which is for single people; take one of it"
        if experiment.get("in_sequence") and kind_of(block) == "applied":
            yield f"{where}.in_sequence: {method} changes no model, so nothing follows on it; take it out of methods"
        if experiment.get("in_sequence") and not block.get("lora", {}).get("merge", True):
            yield f"method_settings.{method}.lora.merge: false, and {where} goes on from the kept model; set true"


def overridden(written: dict, name: str) -> dict:
    """A config as an experiment overrides it: what it runs is then the config's own.

    Args:
        written: the config as it was written, with defaults.
        name: the experiment's.
    """
    experiment = written["experiments"][name]
    own = {key: experiment[key] for key in ("targets", "methods", "seeds") if key in experiment}
    alone = {name: {key: value for key, value in experiment.items() if key != "overrides"}}
    return overlay(written, experiment["overrides"]) | own | {"experiments": alone, "paper": [name]}


def check_chosen(key: str, method: str, config: dict, root: Path) -> Iterator[str]:
    """Faults of a method that an experiment runs."""
    block = config["method_settings"][method]
    yield from check_method(method, block, config["all_targets"], root)
    yield from check_external(method, block, config)
    yield from check_window(method, block, config["corpus"])
    if has_grid(block) and method not in config["grids"]:
        yield f"{key}: {method} has a list of learning rates; choose one first"


def resolve_own(key: str, names: list[str], config: dict, chosen: dict) -> Iterator[str]:
    """Faults of the targets that an experiment names, which become ids; in place of ``chosen``."""
    groups = config["benchmarks"][config["benchmark"]].get("groups", {})
    chosen["targets"] = resolve_targets(key, names, config["all_targets"], groups)
    yield from ()


def expand_grids(config: dict) -> None:
    """Turn each method whose learning rate is a list into one variant a rate; in place.

    Adds ``grids``: by method, the rate of each variant (ga@1e-06, ...). Which one the tables show is chosen
    on dev probes.
    """
    blocks, config["grids"], methods = config["method_settings"], {}, []
    for method in config["methods"]:
        block = blocks.get(method, {})
        if not has_grid(block):
            methods.append(method)
            continue
        part = steps_of(block)
        variants = {variant_name(method, rate): rate for rate in block[part]["learning_rate"]}
        blocks |= {name: overlay(block, {part: {"learning_rate": rate}}) for name, rate in variants.items()}
        config["grids"][method] = variants
        methods += variants
    config["methods"] = methods


def variant_name(method: str, rate: float) -> str:
    """The name of a method at one rate of its grid."""
    return f"{method}@{rate:g}"


def check_rates(method: str, block: dict) -> Iterator[str]:
    """Faults of a grid of which two rates would be called alike."""
    part, called = steps_of(block), {}
    for rate in block[part]["learning_rate"]:
        if (name := variant_name(method, rate)) in called:
            yield (
                f"method_settings.{method}.{part}.learning_rate: {called[name]!r} and {rate!r} would both be "
                f"called {name}; take one of them out"
            )
        called[name] = rate


def check_choice(method: str, block: dict, dev_share: float, asked: list[str]) -> Iterator[str]:
    """Faults of a grid from which nothing could be chosen.

    Args:
        asked: probe sets that the last stage is asked.
    """
    key, chosen_by = f"method_settings.{method}.{steps_of(block)}.learning_rate", [primary("forget")]
    chosen_by.append(primary("neighbour"))
    if dev_share == 0:
        yield f"{key}: a list is chosen from on dev probes, and there are none; set split.dev_share above 0"
    if not set(chosen_by) <= set(asked):
        yield (f"{key}: a list is chosen from by {' and '.join(chosen_by)}; ask both in evaluation.before_and_after")


def check_grid_probes(config: dict) -> Iterator[str]:
    """Faults of a benchmark of one's own that leaves no dev probes by which learning rates can be chosen."""
    benchmark, share = config["benchmarks"][config["benchmark"]], config["split"]["dev_share"]
    if not config["grids"] or benchmark["source"] == "hub" or share == 0:
        return
    targets = [name for name in config["targets"] if name in config["dev_targets"]] or config["targets"]
    for name in (primary("forget"), primary("neighbour")):
        file = PROBE_SETS[name].file
        try:
            sizes = [len(read_rows(benchmark["path"], target, file) or []) for target in targets]
        except BenchmarkError as error:
            yield f"benchmarks.{config['benchmark']}.path: {error}"
            return
        if not any(round(share * size) for size in sizes):
            yield (
                f"split.dev_share: at {share:g} no row of {file}.json of {', '.join(targets[:3])} is a dev probe, and "
                f"the learning rates of {', '.join(config['grids'])} are chosen on them; set it higher"
            )
            return  # a higher share mends the other set too
