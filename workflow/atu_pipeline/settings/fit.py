"""Whether methods fit the language model: what they need, and what is known about the model before the first job.

If an earlier run has checked the model, results/checks describes it. If it is on this disk but unchecked, its
config.json and the headers of its weights describe it as far as they can. For any other model, the job ``check_model``
finds out in its first seconds.
"""

import glob
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from atu.common.errors import ExplainedError
from atu.common.recipe import RecipeError, read_record
from atu.engine.bases import CONFIG, other_base
from atu.engine.parts import ALL_LAYERS, AUTO, layer_range, query_value_maps
from atu_pipeline.settings.blocks import kind_of
from atu_pipeline.settings.grids import owner_of, placed
from atu_pipeline.settings.messages import refuse
from atu_pipeline.settings.sources import fetched_from

# The fact with which each need is compared; in a description, None means unknown.
FACTS = {
    "layer": "layers",
    "range": "layers",
    "modules": "modules",
    "layer_modules": "modules",
    "tokens": "context",
    "offsets": "offsets",
}
DEPTHS = ("num_hidden_layers", "n_layer", "num_layers")  # names for the number of layers in config.json
LONGEST_HEADER = 100_000_000  # bytes; safetensors has the same limit


def model_needs(config: dict, methods: list[str]) -> list[dict]:
    """What methods need from the language model: layers, linear maps, context, a tokenizer that gives token positions.

    Args:
        config: from :func:`check_config`.
        methods: names of methods; needs that variants of a grid have in common count once.

    Returns:
        Rows with key (the place in the config) and one of layer (counted from 1), range (of layers, from 0), modules,
        layer_modules (those inside layers), tokens, offsets.
    """
    corpus = config["corpus"]
    key = "max_new_tokens" if corpus["source"] == "generate" else "max_tokens"
    needs = [{"key": f"corpus.{key}", "tokens": corpus[key]}]
    for name in methods:
        owner, block = owner_of(name), config["method_settings"][name]
        for need in block_needs(f"method_settings.{owner}", block, corpus):
            needs.append(need | {"key": placed(owner, config["method_settings"][owner], need["key"])})
    return list({json.dumps(need): need for need in needs}.values())


def block_needs(where: str, block: dict, corpus: dict) -> Iterator[dict]:
    """What one method needs from the language model."""
    if kind_of(block) == "aligned":
        yield {"key": f"{where}.layer", "layer": block["layer"]}
        yield {"key": "corpus.max_tokens", "tokens": corpus["max_tokens"]}
        yield {"key": where, "offsets": True}
    options = block.get("options", {})
    if "layer" in options:
        yield {"key": f"{where}.options.layer", "layer": options["layer"]}
    yield from ({"key": f"{where}.options.layers", "layer": layer} for layer in options.get("layers", []))
    if "max_tokens" in block:
        yield {"key": f"{where}.max_tokens", "tokens": block["max_tokens"]}
    trained, place = (block["unlearn"], f"{where}.unlearn") if kind_of(block) == "aligned" else (block, where)
    layers = trained.get("layers", ALL_LAYERS)
    if layers != ALL_LAYERS:
        yield {"key": f"{place}.layers", "range": layers}
    if trained.get("lora", {}).get("rank"):
        kind = "modules" if layers == ALL_LAYERS and trained is block else "layer_modules"
        yield {"key": f"{place}.lora.modules", kind: trained["lora"]["modules"]}


def unmet_needs(needs: list[dict], described: dict) -> list[str]:
    """One line for each key that needs what a language model lacks; the line says what the model has.

    Args:
        needs: from :func:`model_needs`.
        described: from :func:`atu.engine.checks.describe_llm` or :func:`outline`.
    """
    faults = []
    for need in needs:
        (kind,) = need.keys() - {"key"}
        if described[FACTS[kind]] is not None:
            faults += [f"{need['key']}: {fault}" for fault in need_faults(kind, need[kind], described)]
    return faults


def need_faults(kind: str, value: object, described: dict) -> Iterator[str]:
    """Why the model does not meet one need."""
    match kind:
        case "layer" if not 1 <= value <= described["layers"]:
            yield f"{value} is no layer of the model, which has layers 1 to {described['layers']}"
        case "range" if layer_range(value).stop > described["layers"]:
            yield f"{value} names layers that the model lacks, which has layers 0 to {described['layers'] - 1}"
        case "modules":
            yield from map_faults(value, described["modules"], described["class"])
        case "layer_modules":
            inside = [name for name in described["modules"] if ".*." in name]
            yield from map_faults(value, inside, f"the layers of {described['class']}")
        case "tokens" if value > described["context"]:
            yield f"{value} tokens do not fit into the model's context of {described['context']}"
        case "offsets" if not described["offsets"]:
            yield (
                "the model's tokenizer does not say where in a text its tokens stand (it is no fast one), and windows "
                "need that; choose a model with a tokenizer.json, or another method"
            )


def map_faults(chosen: list[str] | str, known: list[str], where: str) -> Iterator[str]:
    """What is wrong with the maps that get an adapter.

    Args:
        chosen: their names, or "auto".
        known: the maps that exist.
        where: what contains the known maps, for the message.
    """
    if chosen == AUTO:
        try:
            query_value_maps(known)
        except ExplainedError as error:
            yield str(error)
        return
    there = ", ".join(sorted({name.rpartition(".")[2] for name in known}))
    for name in chosen:
        if not any(f".{other}".endswith(f".{name}") for other in known):
            yield f"{name} is no linear map of {where}, which has {there}"


def described_model(config: dict) -> dict | None:
    """What is known about the config's language model, from an earlier run or else its files; None if nothing is."""
    name, source = config["llm"], config["models"][config["llm"]]
    folder = own_folder(name, source)
    return found_before(name, source) or (outline(folder) if folder else None)


def found_before(name: str, source: dict) -> dict | None:
    """What an earlier run, of the config itself or of any experiment, found out about a language model."""
    others = sorted(Path("results/experiments").glob(f"*/checks/{glob.escape(name)}.json"))
    files = (Path("results/checks", f"{name}.json"), *others)
    return next(filter(None, (described_before(file, source) for file in files)), None)


def described_before(path: Path, source: dict) -> dict | None:
    """What an earlier run found out about a language model; None if the model has changed since."""
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        own = Path(source["path"], "config.json") if source["source"] == "path" else None
        current = own is None or hashlib.sha256(own.read_bytes()).hexdigest() == described["config_sha256"]
    except (OSError, ValueError, KeyError):
        return None
    return described if current and described["source"] == fetched_from(source) else None


def own_folder(name: str, source: dict) -> Path | None:
    """The folder of a model on this disk: the user's own, or one downloaded from this very source; else None."""
    if source["source"] == "path":
        return Path(source["path"])
    for folder in Path("resources/models").glob(f"{glob.escape(name)}-*"):
        with suppress(RecipeError, KeyError, TypeError, OSError):
            if read_record(folder)["recipe"]["models"][name] == fetched_from(source):
                return folder
    return None


def check_base(key: str, model: str, config: dict) -> Iterator[str]:
    """Faults of an adapter on this disk that says it belongs to a model other than the language model."""
    folder, llm = own_folder(model, config["models"][model]), config["models"].get(config["llm"], {})
    try:
        settings = json.loads(Path(folder, CONFIG).read_text(encoding="utf-8")) if folder else {}
        named = config["model_cards"].get(config["llm"], {}).get("base_model")  # if its source has no name on the hub
        fault = other_base(settings, llm.get("repo", named))
    except (OSError, ValueError, AttributeError):  # no adapter, or a damaged one, which the first job reports
        return
    if fault:
        yield f"{key}: {model} is {fault}"


def outline(folder: Path) -> dict | None:
    """What config.json and the headers of the weights say about a model, in the form of ``describe_llm``.

    No weights are read. What these files do not say is None.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        inner = config.get("text_config") or config
        layers = next((inner[key] for key in DEPTHS if isinstance(inner.get(key), int)), None)
        name = (config.get("architectures") or [config.get("model_type", "the model")])[0]
    except (OSError, ValueError, AttributeError, LookupError):
        return None
    return {"class": name, "layers": layers, "context": None, "modules": linear_maps(folder), "offsets": None}


def linear_maps(folder: Path) -> list[str] | None:
    """Names of a model's matrices, with * for the number of a layer; None if its headers cannot be read.

    A head that is tied to the embeddings has no tensor of its own, so lm_head is always included.
    """
    try:
        index = folder / "model.safetensors.index.json"
        files = {"model.safetensors"}
        if index.exists():
            files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        tensors = {name: tensor for file in files for name, tensor in read_header(folder / file).items()}
        matrices = [name for name, tensor in tensors.items() if len(tensor.get("shape", [])) == 2]
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None
    names = {name.removesuffix(".weight") for name in matrices if name.endswith(".weight")}
    return sorted({re.sub(r"\.\d+\.", ".*.", name) for name in names} | {"lm_head"}) if names else None


def read_header(file: Path) -> dict[str, dict]:
    """The header of a safetensors file: type, shape and place of each tensor by name.

    Raises:
        ValueError: if it is not a safetensors file.
    """
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > LONGEST_HEADER:
            raise ValueError(f"{file} is no safetensors file")
        return json.loads(stream.read(length))


def check_methods_fit(config: dict, methods: list[str]) -> None:
    """Refuse methods that need what the language model lacks, as far as it is known before the first job.

    Raises:
        ConfigError: has one line per fault.
    """
    if described := described_model(config):
        refuse(unmet_needs(model_needs(config, methods), described))
