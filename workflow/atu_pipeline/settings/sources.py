"""Models, the benchmark and its texts: checks that the config's models (models.py) cannot make."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from atu.common.errors import ExplainedError
from atu.data.benchmark import BenchmarkError, file_of, list_targets, read_primers, target_name
from atu.data.probe_sets import PROBE_SETS, TEXT_SETS, shared_sets
from atu.data.publications import read_published
from atu.data.rows import folded
from atu_pipeline.settings.files import own_file
from atu_pipeline.settings.messages import ConfigError, unknown
from atu_pipeline.settings.published import of_authors, of_scripts
from atu_pipeline.settings.targets import rank

# Folders in results/ other than those of models and benchmarks.
OWN_FOLDERS = ("answers", "checks", "experiments", "figures", "tables")
# Characters that names of targets must not have, since they become file names and parts of Snakemake's patterns.
UNUSABLE = re.compile(r"[{}\x00-\x1f\x7f\\]")
# Keys of a model's block that concern its use, not its files.
NOT_FETCHED = ("parameters", "layers", "vocabulary", "activation_bytes", "cache_bytes", "template", "template_options")
# Below this temperature, all texts that a model samples are the same.
LEAST_TEMPERATURE = 0.01


def fetched_from(model: dict) -> dict:
    """The keys of a model's block that determine its files."""
    return {key: value for key, value in model.items() if key not in NOT_FETCHED}


def template_of(model: dict) -> dict:
    """The keys of a model's block that determine its prompts, as params of jobs: template_options, or nothing."""
    if model.get("template") == "none":
        return {"template_options": {"chat_template": None}}
    return {"template_options": told} if (told := model.get("template_options")) else {}


def check_source(key: str, name: str, source: dict) -> Iterator[str]:
    """Faults of a model or benchmark that is used.

    Args:
        key: its role: llm, encoder or benchmark.
        name: its key under ``models`` or ``benchmarks``.
    """
    where = f"{'benchmarks' if key == 'benchmark' else 'models'}.{name}"
    if key != "encoder" and name in OWN_FOLDERS:
        yield f"{where}: results/{name} is the folder of other files; call it otherwise"
    if key == "encoder" and source.get("template_options"):
        yield f"{where}.template_options: an encoder is asked nothing and has no chat; take them out"
    if key == "encoder" and source.get("template"):
        yield f"{where}.template: an encoder is asked nothing and has no chat; take it out"
    if source.get("template") and source.get("template_options"):
        yield f"{where}.template_options: with template: none no template reads them; take one of the two out"
    if source["source"] == "hub" and not re.fullmatch(r"[0-9a-f]{40}", source["revision"]):
        yield (
            f"{where}.revision: {source['revision']!r} is no commit (40 digits of 0-9a-f), and what it names may "
            f"change between two runs; write the commit that the hub shows for {source['repo']}"
        )
    if key != "benchmark" and source["source"] == "path" and not Path(source["path"]).is_dir():
        yield f"{where}.path: {source['path']} is not a directory"


def check_published(published: dict, root: Path) -> Iterator[str]:
    """Faults of the files of published numbers; resolve their paths in place."""
    readers = {"file": read_published, "found_by_others": read_published, "trained": of_scripts, "aligned": of_authors}
    for name, read in readers.items():
        key = f"published.{name}"
        published[name] = str(own_file(key, published[name], root))
        try:
            read(published[name])
        except ExplainedError as error:
            yield f"{key}: {error}"


def targets_of_file(key: str, path: Path) -> list[str]:
    """Target ids of a JSON list.

    Raises:
        ConfigError: if the file is not such a list.
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


def targets_of_folder(key: str, path: str) -> list[str]:
    """Target ids of a folder.

    Raises:
        ConfigError: if it is not a benchmark's folder.
    """
    folder = Path(path, "Target")
    if not folder.is_dir():
        raise ConfigError(f"{key}: {path} has no folder Target/ with a folder for each target")
    if not (found := list_targets(path)):
        raise ConfigError(f"{key}: {folder} has no folder like 1_Stephen_King")
    if files := [target for target in found if not (folder / target).is_dir()]:
        raise ConfigError(f"{key}: {folder / files[0]} is a file; it must be a folder of JSON files")
    return found


def known_targets(name: str, benchmark: dict, root: Path) -> list[str]:
    """All target ids of a benchmark, by rank; this needs no network.

    Args:
        name: its key in ``benchmarks``.

    Raises:
        ConfigError: if they cannot be read, cannot be used in file names, or cannot be told apart.
    """
    if benchmark["source"] == "hub":
        key = f"benchmarks.{name}.targets"
        found = targets_of_file(key, own_file(key, benchmark["targets"], root))
    else:
        key = f"benchmarks.{name}.path"
        found = targets_of_folder(key, benchmark["path"])
    for target in found:
        if wrong := UNUSABLE.search(target):
            raise ConfigError(f"{key}: {target!r} holds {wrong[0]!r}, which names of files cannot have here; rename it")
    ids: dict[str, str] = {}
    for target in found:
        if (other := ids.setdefault(folded(target_name(target)), target)) != target:  # and would count twice in means
            raise ConfigError(f"{key}: {other!a} and {target!a} cannot be told apart; remove or rename one")
    return found


def check_utility(name: str, benchmark: dict) -> Iterator[str]:
    """Faults of ``shared_utility``, which must agree with the benchmark's files."""
    key, shared = f"benchmarks.{name}.shared_utility", benchmark["shared_utility"]
    if benchmark["source"] == "hub":
        if shared:
            yield f"{key}: true, but in a dataset of the hub the sets lie with each target; set it to false"
        return
    folder = Path(benchmark["path"], "Utility")
    if folder.exists() and not folder.is_dir():
        yield f"{key}: {folder} is a file; it must be a folder of JSON files"
        return
    files = [f"{PROBE_SETS[name].file}.json" for name in shared_sets()]
    held = [file for file in files if (folder / file).exists()]
    if shared and not held:
        yield f"{key}: true, but {folder} has none of {', '.join(files)}; put them there, or set it to false"
    if held and not shared:
        yield f"{key}: false, so {', '.join(held)} in {folder} would not be asked; set it to true"


def check_primers(name: str, benchmark: dict, probe_sets: list[str], targets: list[str]) -> Iterator[str]:
    """Faults of the user's own benchmark if it lacks few-shot texts with which its sets are asked."""
    if benchmark["source"] == "hub" or benchmark.get("primers"):
        return
    path = Path(benchmark["path"], "Utility/primers.json")
    try:
        primers = read_primers(path if path.exists() else None)
    except BenchmarkError as error:
        yield f"benchmarks.{name}.path: {error}"
        return
    for probe_set in dict.fromkeys(probe_sets):
        needed, file = PROBE_SETS[probe_set].primers, PROBE_SETS[probe_set].file
        asked = any(file_of(benchmark["path"], place, file).exists() for place in (None, *targets))
        if asked and (lacking := [primer for primer in needed if primer not in primers]):
            yield (
                f"benchmarks.{name}.path: {probe_set} is asked with the few-shot text {lacking[0]}, which "
                f"{path} lacks; write it there"
            )


def check_corpus(corpus: dict) -> Iterator[str]:
    """Faults of the texts that methods read."""
    known = [name for name in TEXT_SETS if name.startswith("positive")]
    if corpus["text_set"] not in TEXT_SETS:
        yield unknown("corpus.text_set", corpus["text_set"], list(TEXT_SETS))
    elif corpus["text_set"] not in known:
        yield f"corpus.text_set: {corpus['text_set']} holds no biographies; choose one of {', '.join(known)}"
    if corpus["source"] == "generate" and corpus["texts"] > 1 and corpus["temperature"] < LEAST_TEMPERATURE:
        yield (
            f"corpus.temperature: at {corpus['temperature']:g} the model writes one text {corpus['texts']} times; "
            "set it higher (RWKU: 1.0), or corpus.texts to 1"
        )
