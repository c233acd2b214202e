"""The check of a whole config: its form, and then what the form cannot express, with one line per fault."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from atu.data.probe_sets import PROBE_SETS, ProbeSetError, known_kinds, use_kind
from atu.data.probe_sets import RWKU as OF_RWKU
from atu.data.protocol import RWKU, STRICT
from atu_pipeline.settings.blocks import has_grid
from atu_pipeline.settings.experiments import SHOWN
from atu_pipeline.settings.fit import described_model, model_needs, unmet_needs
from atu_pipeline.settings.form import Draft, read_form
from atu_pipeline.settings.grids import (
    check_alike,
    check_choice,
    check_drawn,
    check_grid_probes,
    check_variants,
    expand_grids,
    owner_of,
)
from atu_pipeline.settings.memory import check_memory
from atu_pipeline.settings.messages import refuse, told, unknown
from atu_pipeline.settings.methods import check_external, check_method, check_names, check_one_block, check_window
from atu_pipeline.settings.sources import (
    check_corpus,
    check_primers,
    check_published,
    check_source,
    check_utility,
    known_targets,
)
from atu_pipeline.settings.split import check_split
from atu_pipeline.settings.targets import check_groups, resolve_targets
from atu_pipeline.settings.texts import check_described

SOURCES = (("llm", "models"), ("encoder", "models"), ("benchmark", "benchmarks"))


@dataclass(frozen=True)
class Step:
    """A check of a draft.

    Attributes:
        faults: yields one line per fault; a raised ConfigError counts too. It may resolve short forms, in place.
        reads: keys of the config that it needs; without them it is skipped.
        makes: keys that are removed for later steps if it finds a fault.
    """

    faults: Callable[[Draft], Iterable[str]]
    reads: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()


def check_config(config: dict, root: Path) -> dict:
    """Check the config and resolve short forms.

    Args:
        config: as Snakemake read it.
        root: the checkout, against which paths of files that ship with it are resolved.

    Returns:
        The config with lists in place of ``all``, with resolved paths, and with ``all_targets`` and ``grids``
        added.

    Raises:
        ConfigError: has one line per fault. Checks that need a faulty key are skipped.
    """
    draft = read_form(config, root)
    for step in STEPS:
        if all(key in draft.config for key in step.reads):
            faults = list(told(step.faults(draft)))
            draft.faults += faults
            for key in step.makes if faults else ():
                draft.config.pop(key, None)
    refuse(draft.faults)
    return draft.config


def check_known(draft: Draft) -> Iterator[str]:
    """Faults of names that must be names of blocks."""
    config = draft.config
    named = [(key, config.get(key), table) for key, table in SOURCES]
    named += [("methods", name, "method_settings") for name in config.get("methods", [])]
    named += [("paper", name, "experiments") for name in config.get("paper", [])]
    named += [("before.llms", name, "models") for name in config.get("before", {}).get("llms", [])]
    named += [("published.benchmark", config.get("published", {}).get("benchmark"), "benchmarks")]
    named += [("model_cards", name, "models") for name in config.get("model_cards", {})]
    for name, experiment in config.get("experiments", {}).items():
        key = f"experiments.{name}.methods"
        if not (experiment.get("overrides") or {}).get("method_settings"):  # overrides may have blocks of their own
            named += [(key, method, "method_settings") for method in experiment.get("methods", [])]
        llm = (experiment.get("overrides") or {}).get("llm")
        named.append((f"experiments.{name}.overrides.llm", llm, "models"))
    for key, name, table in named:
        known = draft.names.get(table)
        if name is not None and known is not None and name not in known:
            yield unknown(key, name, sorted(known))


def take_kind(draft: Draft) -> Iterator[str]:
    """Make the library use the benchmark's kind, here and in jobs; the later checks depend on it."""
    known = known_kinds()
    if draft.kind not in known:
        yield unknown(f"benchmarks.{draft.config.get('benchmark')}.kind", draft.kind, known)
        return
    try:
        use_kind(draft.kind)
    except ProbeSetError as error:
        yield str(error)


def check_shows(draft: Draft) -> Iterator[str]:
    for name, experiment in draft.config["experiments"].items():
        for shown in experiment["shows"]:
            if shown not in SHOWN:
                yield unknown(f"experiments.{name}.shows", shown, list(SHOWN))


def find_sources(draft: Draft) -> Iterator[str]:
    """Resolve the paths of models and benchmarks that ship with the checkout, in place."""
    for table in ("models", "benchmarks"):
        for source in draft.config.get(table, {}).values():
            if source["source"] == "path" and not Path(source["path"]).exists():
                source["path"] = str(draft.root / source["path"])
    yield from ()


def check_sources(draft: Draft) -> Iterator[str]:
    """Faults of the models and the benchmark in use."""
    config = draft.config
    for key, table in SOURCES:
        if key in config and (source := draft.block(table, config[key])):
            yield from check_source(key, config[key], source)
    if "llm" in config and config["llm"] == config.get("encoder"):
        yield f"encoder: {config['encoder']} is the llm too; name a sentence encoder"


def find_targets(draft: Draft) -> Iterator[str]:
    """Add ``all_targets``, the benchmark's targets."""
    config, name = draft.config, draft.config["benchmark"]
    if benchmark := draft.block("benchmarks", name):
        config["all_targets"] = known_targets(name, benchmark, draft.root)
    yield from ()


def check_benchmark(draft: Draft) -> Iterator[str]:
    config, name = draft.config, draft.config["benchmark"]
    benchmark = config["benchmarks"][name]
    yield from check_utility(name, benchmark)
    yield from check_groups(name, benchmark.get("groups", {}), config["all_targets"])


def resolve(key: str) -> Callable[[Draft], Iterator[str]]:
    """A step that turns the entries under a key of targets into ids, in place."""

    def ids(draft: Draft) -> Iterator[str]:
        config = draft.config
        groups = config["benchmarks"][config["benchmark"]].get("groups", {})
        config[key] = resolve_targets(key, config[key], config["all_targets"], groups)
        yield from ()

    return ids


def find_grids(draft: Draft) -> Iterator[str]:
    """Turn each combination of a method's values to choose from into a method of its own, in place; faults of grids."""
    for method in draft.config["methods"]:
        block = draft.block("method_settings", method)
        if block and has_grid(block):
            yield from check_alike(method, block)
            yield from check_drawn(method, block, draft.config["search"])
    expand_grids(draft.config)


def check_methods(draft: Draft) -> Iterator[str]:
    """Faults of the blocks of methods that run."""
    config, right = draft.config, []
    of_owner: dict[str, list[str]] = {}
    for method in config["methods"]:
        if draft.block("method_settings", method):
            of_owner.setdefault(owner_of(method), []).append(method)
    for owner, variants in of_owner.items():
        faults = list(check_variants(owner, variants, config["method_settings"], partial(block_faults, draft, owner)))
        yield from faults
        right += [] if faults else variants
    yield from check_fit(draft, right)


def block_faults(draft: Draft, method: str, block: dict) -> Iterator[str]:
    """Faults of a method's settings, as far as what they are checked against is valid."""
    config = draft.config
    yield from told(check_method(method, block, config.get("all_targets"), draft.root))
    if all(key in config for key in ("all_targets", "models", "llm")):
        yield from told(check_external(method, block, config))
    if "corpus" in config:
        yield from check_window(method, block, config["corpus"])
    if all(key in config for key in ("all_targets", "targets")):
        yield from check_described(method, block, config["targets"], config)


def check_fit(draft: Draft, methods: list[str]) -> Iterator[str]:
    """Faults of methods that need what the language model lacks, as far as that is known before the first job."""
    config = draft.config
    if "corpus" in config and draft.block("models", config.get("llm")) and (described := described_model(config)):
        yield from unmet_needs(model_needs(config, methods), described)


def check_evaluation(draft: Draft) -> Iterator[str]:
    """Faults of ``evaluation``; resolve ``all`` in place."""
    evaluation = draft.config["evaluation"]
    for key in ("before_and_after", "between"):
        if evaluation[key] == "all":
            evaluation[key] = list(PROBE_SETS)
        for name in evaluation[key]:
            if name not in PROBE_SETS:
                yield unknown(f"evaluation.{key}", name, list(PROBE_SETS))
    if evaluation["protocol"] == RWKU.name and draft.kind != OF_RWKU:
        yield (
            f"evaluation.protocol: {RWKU.name} is how RWKU's own code asks, and the benchmark is of kind {draft.kind}; "
            f"set it to {STRICT.name}"
        )


def check_between(draft: Draft) -> Iterator[str]:
    before, between = (draft.config["evaluation"][key] for key in ("before_and_after", "between"))
    if alone := [name for name in between if name not in before]:
        yield (
            f"evaluation.between: {alone[0]} is not in evaluation.before_and_after, so no number of the base "
            "model would stand beside it; ask it in both, or take it out"
        )


def check_choices(draft: Draft) -> Iterator[str]:
    """Faults of methods with values to choose from."""
    config = draft.config
    for method in config["grids"]:
        block, asked = config["method_settings"][method], config["evaluation"]["before_and_after"]
        yield from check_choice(method, block, asked)


def check_own_primers(draft: Draft) -> Iterator[str]:
    config, name = draft.config, draft.config["benchmark"]
    evaluation = config["evaluation"]
    asked = [*evaluation["before_and_after"], *evaluation["between"]]
    return check_primers(name, config["benchmarks"][name], asked, config["targets"])


OF_TARGETS = ("benchmark", "benchmarks", "all_targets")
STEPS = [
    Step(take_kind, makes=("benchmark", "corpus", "evaluation")),
    Step(check_known),
    Step(check_shows, ("experiments",)),
    Step(lambda draft: check_one_block(draft.config["method_settings"]), ("method_settings",)),
    Step(find_sources),
    Step(check_sources),
    Step(lambda draft: check_published(draft.config["published"], draft.root), ("published",)),
    Step(find_targets, ("benchmark", "benchmarks"), ("all_targets",)),
    Step(check_benchmark, OF_TARGETS),
    Step(resolve("targets"), (*OF_TARGETS, "targets"), ("targets",)),
    Step(resolve("dev_targets"), (*OF_TARGETS, "dev_targets"), ("dev_targets",)),
    Step(lambda draft: check_corpus(draft.config["corpus"]), ("corpus",)),
    Step(lambda draft: check_split(draft.config["split"]), ("split",), ("split",)),
    Step(lambda draft: check_memory(draft.config), ("memory", "precision", "gpus_per_job")),
    Step(find_grids, ("methods", "method_settings", "search"), ("grids",)),
    Step(check_methods, ("methods", "method_settings")),
    Step(check_evaluation, ("evaluation",), ("evaluation",)),
    Step(check_choices, ("grids", "method_settings", "evaluation"), ("grids",)),
    Step(lambda draft: check_names("methods", draft.config["methods"]), ("methods",)),
    Step(check_between, ("evaluation",)),
    Step(check_own_primers, (*OF_TARGETS, "targets", "evaluation")),
    Step(
        lambda draft: check_grid_probes(draft.config),
        (*OF_TARGETS, "grids", "targets", "dev_targets", "split"),
    ),
]
