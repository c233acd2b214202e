"""The config: checked before anything runs, each fault one line that names the key and the mend."""

import hashlib
import json
import math
import os
import re
import string
import sys
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, validators

from atu import ROOT
from atu.common.declared import FOLDER, Declared, UnreadableError, declared, method_files
from atu.common.names import display_name
from atu.common.runtime import COMMIT, code_version
from atu.data.benchmark import (
    TEXT_SETS,
    BenchmarkError,
    file_of,
    list_targets,
    read_primers,
    read_rows,
    target_name,
)
from atu.data.probe_sets import PROBE_SETS, generated, of_role, primary, shared_sets
from atu.data.publications import PublishedError, read_published
from atu.data.rows import folded


class Rows(list):
    """A list that prints as its length and a digest: Snakemake prints params, and compares them as printed."""

    def __repr__(self) -> str:
        return f"{len(self)} rows, {hashlib.sha256(list.__repr__(self).encode()).hexdigest()[:16]}"

    __str__ = __repr__

    def __reduce__(self):
        return list, (list(self),)  # a plain list to the scripts, which know nothing of this class


class Uncompared(list):
    """A list that always prints alike: a changed one makes no job run again."""

    def __repr__(self) -> str:
        return "not compared"

    __str__ = __repr__

    def __reduce__(self):
        return list, (list(self),)


def share_library(root: Path, first: bool) -> None:
    """Let the jobs' scripts import the library from the checkout, on whichever host they run, and tell its commit.

    Args:
        first: whether a run starts here. What it starts for single jobs, hours later and on nodes without git, is
            told the commit of the start by its environment.
    """
    if first or COMMIT not in os.environ:
        os.environ[COMMIT] = code_version(root) or ""
    paths = [str(root / "workflow"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))


class ConfigError(SystemExit):
    """The config is wrong; the message says where and what is allowed.

    It ends Snakemake with this one line alone, wherever it is raised: Snakemake puts its own words and a traceback
    around every ``Exception`` of a Snakefile or an input function, and a SystemExit is none.
    """

    def __init__(self, message: str):
        super().__init__(message)
        self.code = f"config: {message}"  # what Python prints, and leaves with exit status 1


def meant(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a message: which known name may have been meant, whatever its case; nothing if none is alike.

    Args:
        cutoff: how alike, 0 to 1, as difflib measures it.
    """
    folded = {other.casefold(): other for other in known}
    found = get_close_matches(name.casefold(), folded, n=1, cutoff=cutoff)
    return f"; did you mean {folded[found[0]]}?" if found else ""


def unknown(key: str, value: str, known: list[str]) -> str:
    """One line about a name that does not exist."""
    hint = meant(value, known, cutoff=0.5)
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"{key}: unknown {value!r}{hint} (known: {listed})"


NOUNS = {
    "array": "a list",
    "object": "a block of settings",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


def describe(error) -> str:
    """A schema violation in one line."""
    where = ".".join(str(part) for part in error.absolute_path) or "config"
    if error.validator == "additionalProperties":
        allowed = sorted(error.schema["properties"])
        extra = next(key for key in error.instance if key not in allowed)
        return unknown(f"{where}.{extra}" if where != "config" else extra, extra, allowed)
    if error.validator == "enum":
        return f"{where}: {error.instance!r} is not one of {', '.join(map(str, error.validator_value))}"
    if error.validator == "required":
        new = where.startswith("experiments.")  # a block that lacks what all others have may be a misspelt one
        return f"{where}: {error.message}" + ("; is its name spelt as in the config?" if new else "")
    if error.validator == "type":
        return f"{where}: {error.instance!r} is not {NOUNS[error.validator_value]}"
    if "propertyNames" in error.absolute_schema_path:
        short = re.sub(r"[^A-Za-z0-9._+-]+", "-", error.instance.split("/")[-1]).strip("-.")
        call = f"; call it {short}" if re.fullmatch(error.validator_value, short) else "; choose another name"
        return f"{where}: {error.instance!r} does not match {error.validator_value}, as it names files{call}"
    if error.validator == "minItems":
        return f"{where}: is empty; name one at least"
    if error.validator == "uniqueItems":
        again = next(item for i, item in enumerate(error.instance) if item in error.instance[:i])
        return f"{where}: names {again!r} twice; each counts once"
    if error.validator == "anyOf":
        return f"{where}: {error.instance!r} is not {error.schema['description']}"
    return f"{where}: {error.message}"


def own_file(key: str, name: str, root: Path) -> Path:
    """A file that a key of the config names: from the working directory, or one that ships with the checkout.

    Raises:
        ConfigError: if there is none.
    """
    for path in (Path(name), root / name):
        if path.is_file():
            return path
    raise ConfigError(f"{key}: there is no file {name}; correct the path")


def listed_targets(key: str, path: Path) -> list[str]:
    """Target ids of a JSON list.

    Raises:
        ConfigError: if the file is no such list.
    """
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{key}: {path} is not valid JSON ({error}); restore the file") from error
    if not isinstance(ids, list) or not ids:
        raise ConfigError(f"{key}: {path} must hold a JSON list of target ids, such as 1_Stephen_King")
    if wrong := [name for name in ids if not isinstance(name, str) or not re.fullmatch(r"\d+_[^/]+", name)]:
        raise ConfigError(f"{key}: {path} holds {wrong[0]!r}, which is no id such as 1_Stephen_King")
    return sorted(ids, key=lambda name: (rank(name), name))


def known_targets(name: str, benchmark: dict, root: Path) -> list[str]:
    """All target ids of a benchmark by rank; no network is needed.

    Args:
        name: its key in ``benchmarks``.

    Raises:
        ConfigError: if they cannot be read, cannot be names of files of this workflow, or cannot be told apart.
    """
    where = f"benchmarks.{name}"
    if benchmark["source"] == "hub":
        key = f"{where}.targets"
        found = listed_targets(key, own_file(key, benchmark["targets"], root))
    else:
        key, folder = f"{where}.path", Path(benchmark["path"], "Target")
        if not folder.is_dir():
            raise ConfigError(f"{key}: {benchmark['path']} has no folder Target/ with a folder for each target")
        if not (found := list_targets(benchmark["path"])):
            raise ConfigError(f"{key}: {folder} has no folder like 1_Stephen_King")
        if files := [target for target in found if not (folder / target).is_dir()]:
            raise ConfigError(f"{key}: {folder / files[0]} is a file; it must be a folder of JSON files")
    for target in found:
        if wrong := UNUSABLE.search(target):
            raise ConfigError(f"{key}: {target!r} holds {wrong[0]!r}, which names of files cannot have here; rename it")
    ids: dict[str, str] = {}
    for target in found:
        if (other := ids.setdefault(folded(target_name(target)), target)) != target:  # and would count twice in means
            raise ConfigError(f"{key}: {other!a} and {target!a} cannot be told apart; remove or rename one")
    return found


def check_utility(name: str, benchmark: dict) -> None:
    """Compare ``shared_utility`` with what the benchmark has.

    Raises:
        ConfigError: if sets would be left out, or there are none.
    """
    key, shared = f"benchmarks.{name}.shared_utility", benchmark["shared_utility"]
    if benchmark["source"] == "hub":
        if shared:
            raise ConfigError(
                f"{key}: true, but in a dataset of the hub the sets lie with each target; set it to false"
            )
        return
    folder = Path(benchmark["path"], "Utility")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{key}: {folder} is a file; it must be a folder of JSON files")
    files = [f"{PROBE_SETS[name].file}.json" for name in shared_sets()]
    held = [file for file in files if (folder / file).exists()]
    if shared and not held:
        raise ConfigError(
            f"{key}: true, but {folder} has none of {', '.join(files)}; put them there, or set it to false"
        )
    if held and not shared:
        raise ConfigError(f"{key}: false, so {', '.join(held)} in {folder} would not be asked; set it to true")


def check_primers(name: str, config: dict) -> None:
    """Check that a benchmark of one's own has the few-shot texts that its sets are asked with.

    Raises:
        ConfigError: naming the file and what it lacks.
    """
    benchmark, evaluation = config["benchmarks"][name], config["evaluation"]
    if benchmark["source"] == "hub" or benchmark.get("primers"):
        return
    path = Path(benchmark["path"], "Utility/primers.json")
    try:
        primers = read_primers(path if path.exists() else None)
    except BenchmarkError as error:
        raise ConfigError(f"benchmarks.{name}.path: {error}") from error
    places = [None, *config["targets"]]
    for probe_set in {*evaluation["before_and_after"], *evaluation["between"]}:
        needed, file = PROBE_SETS[probe_set].primers, PROBE_SETS[probe_set].file
        asked = any(file_of(benchmark["path"], place, file).exists() for place in places)
        if asked and (lacking := [primer for primer in needed if primer not in primers]):
            raise ConfigError(
                f"benchmarks.{name}.path: {probe_set} is asked with the few-shot text {lacking[0]}, which "
                f"{path} lacks; write it there"
            )


def kind_of(block: dict) -> str:
    """aligned (ATU), applied (at inference, without training) or trained (a loss on texts)."""
    return declared(ROOT, block["method"]).kind


def reads_others(block: dict) -> bool:
    """Whether the loss of a trained method, or its retain term, reads texts of other subjects."""
    return "others" in declared(ROOT, block["method"]).reads or block["retain"]["loss"] != "none"


def published_row(method: str, blocks: dict[str, dict], stage: int, taus: list[float | None]) -> str | None:
    """The row of the published tables that a stage of a run can be compared with.

    Args:
        method: its name in the config; a variant of ATU (atu-layer10) is another experiment than the paper's, but
            for one with other thresholds alone, whose last stage stands for its last threshold.
        blocks: the settings of all methods.
        taus: of the stages, None where there is no threshold.

    Returns:
        None if there is no such row: an epoch before the last, a retain term, a method that was not published.
    """
    if stage == 0:
        return "Before"
    block, tau = blocks[method], taus[stage - 1]
    name, last = declared(ROOT, block["method"]).published, stage == len(taus)
    if not name:
        return None
    match kind_of(block):
        case "aligned":
            if method.split("@")[0] == block["method"]:
                own = tau not in taus[stage:]
            else:
                without_tau = {"unlearn": {"tau": None}}
                base = blocks.get(block["method"], {})
                own = last and overlay(block, without_tau) == overlay(base, without_tau)
            return f"{name} (tau={tau:g})" if own else None
        case "applied":
            return name if last else None
        case "trained":  # what is trained stands there once in full and once as LoRA
            star = "*" if block["texts"] == "passage" else ""
            row = f"{name}{star} ({'LoRA' if block['lora']['rank'] else 'Full'})"
            return row if last and block["retain"]["loss"] == "none" else None
        case kind:
            raise KeyError(f"no published row for a method of kind {kind}")


# What the names of targets must not have, since they become names of files and parts of Snakemake's patterns.
UNUSABLE = re.compile(r"[{}\x00-\x1f\x7f\\]")


def rank(target: str) -> int:
    """1 for "1_Stephen_King"."""
    return int(target.split("_")[0])


def spans(ranks: Iterable[int]) -> str:
    """Numbers in words: "1-3, 5"."""
    parts: list[list[int]] = []
    for number in sorted(set(ranks)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    said = [str(first) if first == last else f"{first}-{last}" for first, last in parts]
    return ", ".join(said[:12]) + (", ..." if len(said) > 12 else "")


def named_targets(key: str, name: str, known: list[str]) -> list[str]:
    """The target of that id or name, however it is spelt; none if there is none.

    Raises:
        ConfigError: if two have this name.
    """
    if name in known:
        return [name]
    found = [target for target in known if folded(name) in (folded(target), folded(target_name(target)))]
    if len(found) > 1:
        raise ConfigError(f"{key}: {name!r} is the name of {' and of '.join(found)}; write the id")
    return found


def in_list(name: str) -> str:
    """A name as it stands in a YAML list on one line."""
    return f'"{name}"' if "," in name else name


def misread(key: str, name: str, known: list[str]) -> str | None:
    """What is wrong with a name that YAML has changed: at its commas, or taken for a number; None if nothing is."""
    start = folded(f"{name},")
    if cut := [target for target in known for text in (target, target_name(target)) if folded(text).startswith(start)]:
        return f"{key}: {name!r} is a name cut at its comma; write it in quotes: [{in_list(cut[0])}]"
    if number := [target for target in known if name.isdecimal() and target.replace("_", "") == name]:
        return f'{key}: {name} is no rank; if {number[0]} is meant, write ["{number[0]}"]: YAML takes it for a number'
    if "," not in name:
        return None
    parts, names = name.split(","), []
    while parts:
        ends = [end for end in range(len(parts), 1, -1) if named_targets(key, ",".join(parts[:end]).strip(), known)]
        end = ends[0] if ends else 1
        names.append(in_list(",".join(parts[:end]).strip()))
        parts = parts[end:]
    return f"{key}: {name!r} is one text; write a list: [{', '.join(names)}]"


def resolve_targets(key: str, names: list[str], known: list[str], groups: dict[str, list[str]]) -> list[str]:
    """Ids, each once, for what may be an id, a name, a rank, a range of ranks ("1-100"), a group or ``all``.

    Raises:
        ConfigError: naming what is unknown, or means two things.
    """
    found: dict[str, None] = {}
    for name in names:
        span = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", name)
        chosen = named_targets(key, name, known)
        if name == "all":
            chosen = known
        elif name in groups:
            chosen = resolve_targets(f"groups.{name}", groups[name], known, {})
        elif span:
            ranks = range(int(span[1]), int(span[2] or span[1]) + 1)
            ranked = [target for target in known if rank(target) in ranks]
            if chosen and ranked and chosen != ranked:
                raise ConfigError(f"{key}: {name} is the name of {chosen[0]} and the rank of {ranked[0]}; write the id")
            if not chosen:
                if not ranks:
                    raise ConfigError(f"{key}: {name} is empty; write {span[2]}-{span[1]}")
                if len({rank(target) for target in ranked}) != len(ranks):
                    has = spans(map(rank, known))
                    raise ConfigError(
                        misread(key, name, known) or f"{key}: {name} names ranks that do not exist (known: {has})"
                    )
                if len(ranked) != len(ranks):
                    twice = [target for target in ranked if [rank(other) for other in ranked].count(rank(target)) > 1]
                    raise ConfigError(f"{key}: {name}: one rank is that of {' and of '.join(twice)}; write ids")
                chosen = ranked
        elif not chosen:
            raise ConfigError(misread(key, name, known) or unknown(key, name, [*known, *groups]))
        found |= dict.fromkeys(chosen)
    return list(found)


# Folders of results/ beside those of models and benchmarks.
OWN_FOLDERS = ("answers", "checks", "experiments", "figures", "tables")


def check_sources(config: dict) -> None:
    """What the schema cannot say of the models and the benchmark that are used.

    Raises:
        ConfigError: naming the key and the mend.
    """
    for key, table in (("llm", "models"), ("encoder", "models"), ("benchmark", "benchmarks")):
        name = config[key]
        where, source = f"{table}.{name}", config[table][name]
        if key != "encoder" and name in OWN_FOLDERS:
            raise ConfigError(f"{where}: results/{name} is the folder of other files; call it otherwise")
        if key == "encoder" and source.get("template_options"):
            raise ConfigError(f"{where}.template_options: an encoder is asked nothing and has no chat; take them out")
        if source["source"] == "hub" and not re.fullmatch(r"[0-9a-f]{40}", source["revision"]):
            raise ConfigError(
                f"{where}.revision: {source['revision']!r} is no commit (40 digits of 0-9a-f), and what it names may "
                f"change between two runs; write the commit that the hub shows for {source['repo']}"
            )
    if config["llm"] == config["encoder"]:
        raise ConfigError(f"encoder: {config['encoder']} is the llm too; name a sentence encoder")


def check_groups(name: str, groups: Iterable[str], known: list[str]) -> None:
    """Check the names of a benchmark's groups; what they name is looked up where it is asked for, as another list of
    targets may not have it.

    Raises:
        ConfigError: if the name of a group means something else.
    """
    for group in groups:
        key = f"benchmarks.{name}.groups.{group}"
        if group == "all" or re.fullmatch(r"[0-9]+(-[0-9]+)?", group) or named_targets(key, group, known):
            raise ConfigError(f"{key}: {group!r} names targets by itself; call the group otherwise")


def expand_grids(config: dict) -> None:
    """Turn each method whose learning rate is a list into one variant a rate; in place.

    Adds ``grids``: by method, the rate of each variant (ga@1e-06, ...). Which one the tables show is chosen
    on dev probes.

    Raises:
        ConfigError: if there are no dev probes to choose on, or the sets that the choice reads are not asked.
    """
    config["grids"] = {}
    methods = []
    asked = config["evaluation"]["before_and_after"]
    for method in config["methods"]:
        block = config["method_settings"][method]
        part = next((name for name in ("unlearn", "train") if name in block), None)
        rates = block[part]["learning_rate"] if part else None
        if not isinstance(rates, list):
            methods.append(method)
            continue
        if config["split"]["dev_share"] == 0:
            raise ConfigError(
                f"method_settings.{method}.{part}.learning_rate: a list is chosen from on dev probes, and there are "
                "none; set split.dev_share above 0"
            )
        chosen_by = [primary("forget"), primary("neighbour")]
        if not set(chosen_by) <= set(asked):
            raise ConfigError(
                f"method_settings.{method}.{part}.learning_rate: a list is chosen from by {' and '.join(chosen_by)}; "
                "ask both in evaluation.before_and_after"
            )
        variants: dict[str, float] = {}
        for rate in rates:
            if (name := f"{method}@{rate:g}") in variants:
                raise ConfigError(
                    f"method_settings.{method}.{part}.learning_rate: {variants[name]!r} and {rate!r} would both be "
                    f"called {name}; take one of them out"
                )
            variants[name] = rate
        for name, rate in variants.items():
            config["method_settings"][name] = overlay(block, {part: {"learning_rate": rate}})
        config["grids"][method] = variants
        methods += variants
    config["methods"] = methods


# What an experiment can show, and the files of each in its folder.
SHOWN = {
    "main": [f"tables/main.{form}" for form in ("csv", "md", "tex", "html")],
    "matched": ["tables/matched.csv", "tables/matched.md"],
    "published": [f"tables/published.{form}" for form in ("csv", "md", "html")],
    "adversarial_types": ["tables/adversarial_types.md", "figures/adversarial_types.pdf"],
    "mia": ["tables/mia.csv", "tables/mia.md"],
    "tradeoff": ["figures/tradeoff.pdf"],
    "stages": ["figures/stages.pdf"],
    "training": ["figures/training.pdf"],
    "targets": ["figures/targets.pdf"],
    "answers": ["answers/{target}.html"],
}


def experiment_of(name: str, config: dict, root: Path = ROOT) -> dict:
    """Targets, methods and seeds of an experiment, and what it shows; checked when it is asked for, as another
    benchmark may not have its targets.

    Args:
        name: its key in ``experiments``, or nothing for the config's own targets and methods, which show all.
        config: from :func:`check_config`.

    Raises:
        ConfigError: if a target is unknown, a method is wrong (:func:`check_method`), or a learning rate is a grid
            that the config's own methods lack.
    """
    chosen = {key: config[key] for key in ("targets", "methods", "seeds")} | {"shows": list(SHOWN)}
    if not name:
        return chosen
    experiment = config["experiments"][name]
    chosen |= experiment
    if "methods" in experiment:
        chosen["methods"] = []
        for method in experiment["methods"]:
            block = config["method_settings"][method]
            check_method(method, block, config["all_targets"], root)
            part = next((part for part in ("unlearn", "train") if part in block), None)
            grid = part and isinstance(block[part]["learning_rate"], list)
            if grid and method not in config["grids"]:
                raise ConfigError(
                    f"experiments.{name}.methods: {method} has a list of learning rates; choose one first"
                )
            chosen["methods"] += config["grids"].get(method, [method])
            check_window(method, block, config["corpus"])
        check_names(f"experiments.{name}.methods", chosen["methods"])
    if "targets" in experiment:
        groups = config["benchmarks"][config["benchmark"]].get("groups", {})
        key = f"experiments.{name}.targets"
        chosen["targets"] = resolve_targets(key, experiment["targets"], config["all_targets"], groups)
    return chosen


def model_needs(config: dict, methods: list[str]) -> list[dict]:
    """What methods ask of the language model: layers, linear maps, room, a tokenizer that says where tokens stand.

    Args:
        config: from :func:`check_config`.
        methods: variants of a grid count once.

    Returns:
        Rows of key (where it stands in the config) and one of layer, modules, tokens, offsets.
    """
    corpus = "max_new_tokens" if config["corpus"]["source"] == "generate" else "max_tokens"
    needs = [{"key": f"corpus.{corpus}", "tokens": config["corpus"][corpus]}]
    for name in dict.fromkeys(method.split("@")[0] for method in methods):
        block, where = config["method_settings"][name], f"method_settings.{name}"
        if kind_of(block) == "aligned":
            needs.append({"key": f"{where}.layer", "layer": block["layer"]})
            needs.append({"key": "corpus.max_tokens", "tokens": config["corpus"]["max_tokens"]})
            needs.append({"key": where, "offsets": True})
        options = block.get("options", {})
        if "layer" in options:
            needs.append({"key": f"{where}.options.layer", "layer": options["layer"]})
        needs += [{"key": f"{where}.options.layers", "layer": layer} for layer in options.get("layers", [])]
        if "max_tokens" in block:
            needs.append({"key": f"{where}.max_tokens", "tokens": block["max_tokens"]})
        if block.get("lora", {}).get("rank"):
            needs.append({"key": f"{where}.lora.modules", "modules": block["lora"]["modules"]})
    return list({json.dumps(need): need for need in needs}.values())


def unmet_needs(needs: list[dict], described: dict) -> list[str]:
    """One line for each key that asks for what a language model lacks, with what there is.

    Args:
        needs: from :func:`model_needs`.
        described: from :func:`atu.engine.checks.describe_llm`.
    """
    faults = []
    layers, room, maps = (described[key] for key in ("layers", "context", "modules"))
    for need in needs:
        key = need["key"]
        match need:
            case {"layer": layer}:
                if not 1 <= layer <= layers:
                    faults.append(f"{key}: {layer} is no layer of the model, which has layers 1 to {layers}")
            case {"modules": modules}:
                for name in modules:
                    if not any(f".{known}".endswith(f".{name}") for known in maps):
                        there = sorted({known.rpartition(".")[2] for known in maps})
                        faults.append(
                            f"{key}: {name} is no linear map of {described['class']}, which has {', '.join(there)}"
                        )
            case {"tokens": tokens}:
                if room is not None and tokens > room:
                    faults.append(f"{key}: {tokens} tokens do not fit into the model's context of {room}")
            case {"offsets": _}:
                if not described["offsets"]:
                    faults.append(
                        f"{key}: the model's tokenizer does not say where in a text its tokens stand (it is no fast "
                        "one), and windows need that; choose a model with a tokenizer.json, or another method"
                    )
            case _:
                raise ValueError(f"unknown need {need}")
    return faults


def fetched_from(model: dict) -> dict:
    """Of a model's block, what says which files it is made of."""
    return {key: value for key, value in model.items() if key not in ("parameters", "template_options")}


def described_model(config: dict) -> dict | None:
    """What an earlier run has found out about the config's language model; None if that is another model by now."""
    source, name = config["models"][config["llm"]], f"checks/{config['llm']}.json"
    for path in (Path("results", name), *sorted(Path("results/experiments").glob(f"*/{name}"))):
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
            own = Path(source["path"], "config.json") if source["source"] == "path" else None
            current = own is None or hashlib.sha256(own.read_bytes()).hexdigest() == described["config_sha256"]
        except (OSError, ValueError, KeyError):
            continue
        if current and described["source"] == fetched_from(source):
            return described
    return None


def check_methods_fit(config: dict, methods: list[str]) -> None:
    """Refuse methods that ask for what the language model lacks, as far as an earlier run has looked at it.

    Raises:
        ConfigError: with one line a fault.
    """
    described = described_model(config)
    if described and (faults := unmet_needs(model_needs(config, methods), described)):
        raise ConfigError("; ".join(faults))


def check_names(key: str, methods: list[str]) -> None:
    """Raises a ConfigError if tables would call two methods alike, and take them for one."""
    called: dict[str, str] = {}
    for method in methods:
        other = called.setdefault(display_name(method), method)
        if other != method:
            raise ConfigError(
                f"{key}: {other} and {method} are both called {display_name(method)} in tables; rename one under "
                "method_settings"
            )


def read_method(name: str, block: dict, root: Path) -> Declared:
    """What the file of a method declares.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        return declared(root, block["method"])
    except UnreadableError as error:
        raise ConfigError(f"method_settings.{name}.method: {error}") from error


def as_number(value: object) -> object:
    """A text as the number or truth value that YAML would have read; else what it is."""
    for cast in (CASTS["number"], CASTS["boolean"]) if isinstance(value, str) else ():
        with suppress(ValueError, KeyError):
            return cast(value)
    return value


def as_kind(value: object, kind: str | None, items: str | None = None) -> object:
    """An option as its method's annotation wants it: whole numbers whole, texts as numbers; else what it is."""
    if kind == "text":
        return value
    if isinstance(value, list):
        return [as_kind(item, items) for item in value]
    value = as_number(value)
    if kind == "a whole number" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def is_kind(value: object, kind: str | None) -> bool:
    """Whether an option is of the kind that its method's annotation wants."""
    if kind is None:
        return True
    types = {"a whole number": int, "a number": int | float, "true or false": bool, "text": str, "a list": list}
    return isinstance(value, types[kind]) and (isinstance(value, bool) == (kind == "true or false"))


def cast_options(blocks: dict[str, dict], root: Path) -> None:
    """Turn options of methods into what their files want; in place. What cannot be is reported later."""
    for block in blocks.values():
        if not isinstance(block.get("options"), dict):
            continue
        options = declared(root, block["method"]).options
        for key, value in block["options"].items():
            option = options.get(key)
            wanted = (option.kind, option.items) if option else (None, None)
            block["options"][key] = as_kind(value, *wanted)


def check_options(name: str, block: dict, taken: Declared) -> None:
    """Compare a method's options with what its file declares.

    Raises:
        ConfigError: naming the key and the mend.
    """
    where = f"method_settings.{name}.options"
    for key, value in block["options"].items():
        option = taken.options.get(key)
        if option is None and not taken.open:
            raise ConfigError(unknown(f"{where}.{key}", key, list(taken.options)))
        if option and not is_kind(value, option.kind):
            raise ConfigError(f"{where}.{key}: {value!r} is not {option.kind}")
        if key in taken.templates:
            check_template(f"{where}.{key}", value)
        items = value if isinstance(value, list) else [value]
        if key in taken.distinct:
            check_distinct(f"{where}.{key}", items)
        for item in items:
            kind = None if option is None else option.items if isinstance(value, list) else option.kind
            check_item(f"{where}.{key}", key, item, kind, taken)
        if key in taken.below_max_tokens and value >= block.get("max_tokens", math.inf):
            raise ConfigError(
                f"{where}.{key}: {value} leaves out all of texts of at most {block['max_tokens']} tokens (max_tokens); "
                "set it lower"
            )
    if missing := [key for key, option in taken.options.items() if option.needed and key not in block["options"]]:
        raise ConfigError(f"{where}: lacks {', '.join(missing)}")


def check_distinct(key: str, items: list) -> None:
    """Raises a ConfigError about a list that is empty or names something twice."""
    if not items:
        raise ConfigError(f"{key}: is empty; name one at least")
    for i, item in enumerate(items):
        if item in items[:i]:
            raise ConfigError(f"{key}: names {item!r} twice; each counts once")


def check_item(where: str, key: str, item: object, kind: str | None, taken: Declared) -> None:
    """Compare an option, or an item of its list, with its kind and with the range that the method's file declares.

    Args:
        where: its place in the config.
        key: the option.
        kind: as its annotation asks for.

    Raises:
        ConfigError: naming the key.
    """
    if not is_kind(item, kind):
        raise ConfigError(f"{where}: {item!r} is not {kind}")
    if kind != "text" and isinstance(item, str | dict | None):
        raise ConfigError(f"{where}: {item!r} is neither a number nor true or false")
    if key in taken.positive and not item > 0:
        raise ConfigError(f"{where}: {item!r} is not above 0")
    if key in taken.not_negative and not item >= 0:
        raise ConfigError(f"{where}: {item!r} is below 0")
    if key in taken.largest and abs(item) > taken.largest[key]:
        raise ConfigError(f"{where}: {item!r} is further from 0 than {taken.largest[key]:g}; set it nearer")


def check_decay(name: str, block: dict) -> None:
    """Check that weight decay leaves weights: each step takes learning rate times decay of each.

    Raises:
        ConfigError: naming the key.
    """
    for part in ("align", "unlearn", "train"):
        if part not in block:
            continue
        rates, decay = block[part]["learning_rate"], block[part]["weight_decay"]
        rate = max(rates) if isinstance(rates, list) else rates
        # Adam adds it to the gradient, whose size its steps do not follow
        if block[part]["optimizer"] != "adam" and rate * decay >= 1:
            raise ConfigError(
                f"method_settings.{name}.{part}.weight_decay: {decay:g} at a learning rate of {rate:g} takes each "
                f"weight away in one step; set it below {1 / rate:g}"
            )


def check_texts(name: str, block: dict, taken: Declared) -> None:
    """Check that a method's block names texts of a kind that its file can read.

    Raises:
        ConfigError: naming the key and the mend.
    """
    where, file = f"method_settings.{name}", f"{FOLDER}/{block['method']}.py"
    if "texts" in block and not taken.texts:
        raise ConfigError(f"{where}.texts: {file} reads no texts; take it out")
    if "texts" in block and block["texts"] not in taken.texts:
        raise ConfigError(
            f"{where}.texts: {block['texts']} is nothing that {file} reads; choose {' or '.join(taken.texts)}"
        )


def check_trained(name: str, block: dict) -> None:
    """What the schema and the method's file cannot say of a trained method's block.

    Raises:
        ConfigError: naming the key and the mend.
    """
    where = f"method_settings.{name}"
    if block["retain"]["loss"] != "none" and block["retain"]["weight"] == 0:
        raise ConfigError(
            f"{where}.retain.weight: 0, so retain.loss {block['retain']['loss']} would count for nothing; set it above "
            "0, or retain.loss to none"
        )


def check_aligned(name: str, block: dict) -> None:
    """What the schema cannot say of Align-then-Unlearn.

    Raises:
        ConfigError: naming the key and the mend.
    """
    where, predictor = f"method_settings.{name}", block["predictor"]
    if predictor["width"] % predictor["heads"]:
        raise ConfigError(
            f"{where}.predictor.heads: {predictor['heads']} heads cannot share a width of {predictor['width']}; "
            "choose a width that they divide"
        )
    taus = block["unlearn"]["tau"]
    for earlier, later in pairwise(taus):
        if later > earlier:
            raise ConfigError(
                f"{where}.unlearn.tau: rises from {earlier:g} to {later:g}, and training does not bring a model back "
                f"above {earlier:g}: the later stage would not be of its threshold; let it fall"
            )
    lengths = {"unlearn": [("steps", block["unlearn"]["steps"])]}
    lengths["align"] = [("steps", block["align"]["steps"])]
    if len(block["unlearn"]["tau"]) > 1:  # after its last stage nothing is aligned anew
        lengths["align"].append(("steps_between", block["align"]["steps_between"]))
    for part, counted in lengths.items():
        warmup = block[part]["warmup_steps"]
        for key, steps in counted:
            if warmup >= steps:
                raise ConfigError(
                    f"{where}.{part}.warmup_steps: {warmup}, and {part}.{key} is {steps}: the learning rate would "
                    f"never be reached; set it below {steps}"
                )


def check_window(name: str, block: dict, corpus: dict) -> None:
    """Check that texts which the model writes itself can hold a window.

    Raises:
        ConfigError: naming both keys.
    """
    if kind_of(block) == "aligned" and corpus["source"] == "generate" and block["k"] >= corpus["max_new_tokens"]:
        raise ConfigError(
            f"method_settings.{name}.k: behind no token of a text of {corpus['max_new_tokens']} "
            f"(corpus.max_new_tokens) do {block['k']} follow; set it lower"
        )


def check_template(key: str, text: str) -> None:
    """Check that a name can be put into a text.

    Raises:
        ConfigError: saying how to write it.
    """
    try:
        places, said = {field for _, field, *_ in string.Formatter().parse(text) if field is not None}, ""
        text.format(name="")
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        places, said = set(), f" ({error})"
    if places != {"name"}:
        raise ConfigError(
            f"{key}: {text!r} needs {{name}} where the target's name goes, and no other braces but doubled ones{said}"
        )


def others_for(name: str, block: dict, taken: Declared) -> str | None:
    """By what a method reads texts of others: a key, or the loss of its file; None if it reads none."""
    where = f"method_settings.{name}"
    match taken.kind:
        case "aligned":
            return f"{where}.unlearn.retain_weight" if block["unlearn"]["retain_weight"] > 0 else None
        case "trained":
            if "others" in taken.reads:
                return f"the loss of {FOLDER}/{block['method']}.py"
            return f"{where}.retain.loss" if block["retain"]["loss"] != "none" else None
        case "applied":
            return None
    raise KeyError(f"no texts of others for a method of kind {taken.kind}")


def check_method(name: str, block: dict, all_targets: list[str], root: Path) -> None:
    """What the schema cannot say of a method that will run.

    Raises:
        ConfigError: naming the key and the mend.
    """
    where, taken = f"method_settings.{name}", read_method(name, block, root)
    check_decay(name, block)
    if taken.kind == "aligned":
        check_aligned(name, block)
    else:
        check_options(name, block, taken)
        check_texts(name, block, taken)
    if taken.kind == "trained":
        check_trained(name, block)
    by = others_for(name, block, taken)
    if by and block["other_subjects"] == 0:
        raise ConfigError(f"{where}.other_subjects: 0, but by {by} texts of others are read; set it to 1 at least")
    if (by or taken.kind == "aligned") and block["other_subjects"] >= len(all_targets):
        raise ConfigError(
            f"{where}.other_subjects: {block['other_subjects']} others, but the benchmark has only "
            f"{len(all_targets)} targets; set it to at most {len(all_targets) - 1}"
        )


# Below this temperature all texts that a model samples are alike.
LEAST_TEMPERATURE = 0.01


def ranks_as_text(config: dict) -> None:
    """Turn ranks that came as numbers into texts wherever targets are listed; in place.

    What has another form than it should have is left for the schema to refuse.
    """
    tables = [config.get(key) for key in ("experiments", "benchmarks")]
    blocks = [block for table in tables if isinstance(table, dict) for block in table.values()]
    groups = [block.get("groups") for block in blocks if isinstance(block, dict)]
    places = [(block, "targets") for block in [config, *blocks]] + [(config, "dev_targets")]
    places += [(block, name) for block in groups if isinstance(block, dict) for name in block]
    for block, key in places:
        if isinstance(block, dict) and isinstance(block.get(key), list):
            block[key] = list(map(str, block[key]))


def whole(value: str | float) -> int:
    """A text or a number as a whole number.

    Raises:
        ValueError: if it is none.
    """
    with suppress(ValueError):
        return int(str(value))
    if not float(value).is_integer():
        raise ValueError(f"{value} is not whole")
    return int(float(value))


def number(value: str) -> int | float:
    """A text as the number that YAML would read: a whole one stays whole."""
    try:
        return int(value)
    except ValueError:
        return float(value)


CASTS = {"integer": whole, "number": number, "boolean": {"true": True, "false": False}.__getitem__}

# JSON Schema takes 2.0 for a whole number; torch and range() do not.
Validator = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def cast_text(config: dict, validator: Validator) -> None:
    """Turn text into the number or truth value that the schema wants, and 2.0 into 2; in place.

    Snakemake hands over what is nested in ``--config`` as text.
    """
    errors = list(validator.iter_errors(config))
    inner = [part for error in errors for part in error.context]
    for error in errors + inner:
        if error.validator == "type" and error.validator_value in CASTS and isinstance(error.instance, str | float):
            *parents, last = error.absolute_path
            place = config
            for key in parents:
                place = place[key]
            with suppress(ValueError, KeyError, OverflowError):  # what cannot be cast is reported as it is
                place[last] = CASTS[error.validator_value](error.instance)


def overlay(base: dict, over: dict) -> dict:
    """``base`` with what ``over`` sets, block by block."""
    both = [key for key in base.keys() & over if isinstance(base[key], dict) and isinstance(over[key], dict)]
    return base | over | {key: overlay(base[key], over[key]) for key in both}


def check_blocks(blocks: object, root: Path) -> None:
    """Check that each block of settings is of a method that there is; one of a method's name need not say so. In place.

    Raises:
        ConfigError: naming the block and what is known.
    """
    if not isinstance(blocks, dict):
        raise ConfigError(f"method_settings: {blocks!r} is not a block of settings")
    known = method_files(root)
    for name, block in blocks.items():
        where = f"method_settings.{name}"
        if not isinstance(block, dict):
            raise ConfigError(f"{where}: {block!r} is not a block of settings")
        if "method" not in block and name in known:
            block["method"] = name
        if "method" not in block:
            raise ConfigError(f"{where}: lacks method, one of {', '.join(known)}")
        method = block["method"]
        if not isinstance(method, str):
            raise ConfigError(f"{where}.method: {method!r} is not text")
        if method in blocks and method not in known:
            raise ConfigError(
                f"{where}.method: {method} is a variant itself; name one of {', '.join(known)}, and set here all that "
                "differs from it"
            )
        if method not in known:
            raise ConfigError(unknown(f"{where}.method", method, known))
        if "reads" in block:
            raise ConfigError(f"{where}.reads: {FOLDER}/{method}.py says what its loss reads; delete this")


def complete_blocks(config: dict, root: Path) -> None:
    """Fill in what the blocks of ``method_settings`` do not say; in place.

    A block has what ``method_defaults`` says for the kind of its method, the texts and options that the method's file
    declares, and, if it is of another name, what the method's own block sets.

    Raises:
        ConfigError: as :func:`check_blocks`, or if the file of a method cannot be read.
    """
    blocks = config.get("method_settings") or {}
    check_blocks(blocks, root)
    defaults = config.get("method_defaults")
    for name, block in blocks.items():
        taken = read_method(name, block, root)
        kept = defaults.get(taken.kind) if isinstance(defaults, dict) else None
        base = overlay(dict(kept) if isinstance(kept, dict) else {}, of_file(taken))
        if block["method"] != name:
            base = overlay(base, blocks.get(block["method"], {}))
        blocks[name] = overlay(deepcopy(base), block)


def of_file(taken: Declared) -> dict:
    """The settings that a method's file gives: texts and options; none to an aligned one, whose block says all."""
    if taken.kind == "aligned":
        return {}
    options = {key: option.default for key, option in taken.options.items() if option.default is not None}
    return ({"texts": taken.texts[0]} if taken.texts else {}) | {"options": options}


def check_finite(value: object, where: str = "") -> None:
    """Raises a ConfigError that names the key of a number which is none, or which is infinite."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        check_finite(part, f"{where}.{key}" if where else str(key))
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: {value} is no number that can be computed with; write one")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ConfigError(f"{where}: {str(value)[:12]}... is larger than any number that can be computed with")


def check_evaluation(evaluation: dict) -> None:
    """Resolve ``all``, in place, and check the names of the probe sets.

    Raises:
        ConfigError: naming the key and what is unknown.
    """
    for key in ("before_and_after", "between"):
        if evaluation[key] == "all":
            evaluation[key] = list(PROBE_SETS)
        for name in evaluation[key]:
            if name not in PROBE_SETS:
                raise ConfigError(unknown(f"evaluation.{key}", name, list(PROBE_SETS)))


def check_corpus(corpus: dict) -> None:
    """What the schema cannot say of the texts.

    Raises:
        ConfigError: naming the key and the mend.
    """
    if corpus["text_set"] not in TEXT_SETS:
        raise ConfigError(unknown("corpus.text_set", corpus["text_set"], list(TEXT_SETS)))
    if not corpus["text_set"].startswith("positive"):
        known = ", ".join(name for name in TEXT_SETS if name.startswith("positive"))
        raise ConfigError(f"corpus.text_set: {corpus['text_set']} holds no biographies; choose one of {known}")
    if corpus["source"] == "generate" and corpus["texts"] > 1 and corpus["temperature"] < LEAST_TEMPERATURE:
        raise ConfigError(
            f"corpus.temperature: at {corpus['temperature']:g} the model writes one text {corpus['texts']} times; "
            "set it higher (RWKU: 1.0), or corpus.texts to 1"
        )


def check_grid_probes(config: dict) -> None:
    """Check that a benchmark of one's own leaves dev probes by which learning rates can be chosen.

    Raises:
        ConfigError: naming the set that has none.
    """
    benchmark, share = config["benchmarks"][config["benchmark"]], config["split"]["dev_share"]
    if not config["grids"] or benchmark["source"] == "hub":
        return
    targets = [name for name in config["targets"] if name in config["dev_targets"]] or config["targets"]
    for name in (primary("forget"), primary("neighbour")):
        file = PROBE_SETS[name].file
        try:
            sizes = [len(read_rows(benchmark["path"], target, file) or []) for target in targets]
        except BenchmarkError as error:
            raise ConfigError(f"benchmarks.{config['benchmark']}.path: {error}") from error
        if not any(round(share * size) for size in sizes):
            raise ConfigError(
                f"split.dev_share: at {share:g} no row of {file}.json of {', '.join(targets[:3])} is a dev probe, and "
                f"the learning rates of {', '.join(config['grids'])} are chosen on them; set it higher"
            )


def notes(config: dict) -> list[str]:
    """What holds under this config and is easily overlooked: said once where a run starts.

    Args:
        config: from :func:`check_config`.
    """
    said = []
    share = config["split"]["dev_share"]
    if share > 0:
        said.append(
            f"split.dev_share is {share:g}: that share of the probes of each set is kept for choosing settings, and "
            "tables and figures show the rest alone; set it to 0 if nothing is chosen on them"
        )
    if set(config["targets"]) <= set(config["dev_targets"]):
        said.append("all targets are dev targets: tables average those on which settings were chosen")
    blocks = {name: config["method_settings"][name] for name in config["methods"]}
    written = set(generated()) & set(config["evaluation"]["between"])
    if config["collapse"]["stop"] and not written and "aligned" in map(kind_of, blocks.values()):
        seen_by = " or ".join([*of_role("fluency"), primary("forget")])
        said.append(
            "collapse.stop is true, but the model writes no answer to any set of evaluation.between: no stage can be "
            f"seen to have collapsed, and all are run; ask {seen_by} there, say"
        )
    for name, block in blocks.items():
        if kind_of(block) != "trained" or block["texts"] != "positive" or config["corpus"]["source"] != "generate":
            continue
        train, texts = block["train"], config["corpus"]["texts"]
        steps = train["epochs"] * math.ceil(texts / (min(train["batch_size"], texts) * train["accumulate"]))
        if train["warmup_steps"] >= steps and train["schedule"] != "constant":
            said.append(
                f"method_settings.{name}.train.warmup_steps is {train['warmup_steps']}, and {texts} texts make {steps} "
                f"steps: the learning rate reaches {(steps - 1) / train['warmup_steps']:.0%} of what is set"
            )
    return said


class OnceLoader(yaml.SafeLoader):
    """Reads YAML, JSON as well, and refuses a key that stands twice in one block."""

    def construct_mapping(self, node, deep=False):
        names = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for i, (key, _) in enumerate(node.value):
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in names[:i]:
                where = f"{key.start_mark.name}, line {key.start_mark.line + 1}"
                raise ConfigError(
                    f"{where}: {key.value} stands twice in one block, and the first would not count; take one out"
                )
        return super().construct_mapping(node, deep)


def check_keys(files: Iterable[str | Path]) -> None:
    """Refuse files of settings in which a key stands twice; what else is wrong with them is Snakemake's to say.

    Raises:
        ConfigError: naming file, line and key.
    """
    for file in files:
        with suppress(OSError, ValueError, yaml.YAMLError), open(file, encoding="utf-8") as stream:
            yaml.load(stream, OnceLoader)


def check_config(config: dict, root: Path) -> dict:
    """Check the config and resolve what may be written short.

    Args:
        config: as Snakemake read it.
        root: the checkout, to which relative paths of files that ship with it are relative.

    Returns:
        The config with lists for ``all``, paths resolved, and ``all_targets`` added.

    Raises:
        ConfigError: with one line a fault.
    """
    config = json.loads(json.dumps(config, default=str))  # YAML takes 2026-11-25 for a date
    experiments = config.get("experiments")
    for block in (config, *(experiments.values() if isinstance(experiments, dict) else [])):
        for key in ("targets", "dev_targets", "methods", "seeds"):
            if isinstance(block, dict) and isinstance(block.get(key), (str, int)):
                block[key] = [block[key]]
    ranks_as_text(config)
    complete_blocks(config, root)
    blocks = config.get("method_settings") or {}
    schema = json.loads((root / "workflow/schemas/config.schema.json").read_text(encoding="utf-8"))
    forms = {name: {"$ref": f"#/$defs/{declared(root, block['method']).kind}"} for name, block in blocks.items()}
    schema["properties"]["method_settings"]["properties"] = forms
    validator = Validator(schema)
    cast_options(blocks, root)
    cast_text(config, validator)
    check_finite(config)
    faults = sorted(validator.iter_errors(config), key=lambda error: list(map(str, error.path)))
    faults = [fault for fault in faults if "method_defaults" in fault.absolute_path] or faults  # all blocks have them
    if faults:
        said: dict[str, str] = {}  # what variants inherit is said once, of their method's own block
        for fault in faults:
            text = describe(fault)
            table, name, *_ = [*fault.absolute_path, "", ""]
            base = blocks[name]["method"] if table == "method_settings" and name else name
            fact = text.replace(f"method_settings.{name}", f"method_settings.{base}", 1)
            said[fact] = said.get(fact, text) if name != base else text
        raise ConfigError("; ".join(said.values()))

    for key, table in (("llm", "models"), ("encoder", "models"), ("benchmark", "benchmarks")):
        if config[key] not in config[table]:
            raise ConfigError(unknown(key, config[key], sorted(config[table])))
    check_sources(config)
    for method in config["methods"]:
        if method not in config["method_settings"]:
            raise ConfigError(unknown("methods", method, sorted(config["method_settings"])))

    published = config["published"]
    published["file"] = str(own_file("published.file", published["file"], root))
    try:
        read_published(published["file"])
    except PublishedError as error:
        raise ConfigError(f"published.file: {error}") from error
    for key, name, table in (
        ("published.benchmark", published["benchmark"], "benchmarks"),
        *(("model_cards", name, "models") for name in config["model_cards"]),
    ):
        if name not in config[table]:
            raise ConfigError(unknown(key, name, sorted(config[table])))
    for name, experiment in config["experiments"].items():
        for method in experiment.get("methods", []):
            if method not in config["method_settings"]:
                raise ConfigError(unknown(f"experiments.{name}.methods", method, sorted(config["method_settings"])))
        for shown in experiment["shows"]:
            if shown not in SHOWN:
                raise ConfigError(unknown(f"experiments.{name}.shows", shown, list(SHOWN)))
    for source in [*config["models"].values(), *config["benchmarks"].values()]:
        if source["source"] == "path" and not Path(source["path"]).exists():
            source["path"] = str(root / source["path"])

    for key in ("llm", "encoder"):
        source = config["models"][config[key]]
        if source["source"] == "path" and not Path(source["path"]).is_dir():
            raise ConfigError(f"models.{config[key]}.path: {source['path']} is not a directory")

    benchmark = config["benchmarks"][config["benchmark"]]
    config["all_targets"] = known_targets(config["benchmark"], benchmark, root)
    check_utility(config["benchmark"], benchmark)
    groups = benchmark.get("groups", {})
    check_groups(config["benchmark"], groups, config["all_targets"])
    for key in ("targets", "dev_targets"):
        config[key] = resolve_targets(key, config[key], config["all_targets"], groups)
    check_corpus(config["corpus"])
    for method in config["methods"]:
        check_method(method, config["method_settings"][method], config["all_targets"], root)
        check_window(method, config["method_settings"][method], config["corpus"])

    check_evaluation(config["evaluation"])
    expand_grids(config)
    check_names("methods", config["methods"])
    before, between = (config["evaluation"][key] for key in ("before_and_after", "between"))
    if alone := [name for name in between if name not in before]:
        raise ConfigError(
            f"evaluation.between: {alone[0]} is not in evaluation.before_and_after, so no number of the unmodified "
            "model would stand beside it; ask it in both, or take it out"
        )
    check_primers(config["benchmark"], config)
    check_grid_probes(config)
    return config
