"""Files that are either complete or absent, so that a killed job leaves nothing that a rerun would trust."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from atu.common.errors import DamagedError
from atu.common.leftovers import new_folder, remove_abandoned

if TYPE_CHECKING:  # slow to import, and most jobs and all planning read no tables
    import pandas as pd

# JSON files that define a model or its tokenizer.
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "adapter_config.json",
)

NOT_KEPT: set[Path] = set()  # outputs of several processes that another process keeps, and this one does not


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path``; rename it to ``path`` if the block succeeds.

    The block may create a file or a directory. If it raises (disk full, Ctrl-C), the temporary is removed, and whatever
    was at ``path`` stays untouched. Leftovers of killed jobs are removed first. A path in ``NOT_KEPT`` is written
    elsewhere and removed after the block.
    """
    path = Path(path)
    if path in NOT_KEPT:
        with tempfile.TemporaryDirectory() as elsewhere:
            yield Path(elsewhere, path.name)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, path.name)
    scratch = new_folder(path.parent, path.name)
    try:
        part = scratch / path.name
        yield part
        if not part.exists():
            raise FileNotFoundError(f"nothing was written for {path}")
        share(part)
        if path.is_dir() and not path.is_symlink():
            os.replace(path, scratch / "before")  # moved, not deleted: a file in use might not be deletable
        os.replace(part, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def share(part: Path) -> None:
    """Give every file the mode that the user's umask asks for, since some libraries write files only for the owner."""
    umask = os.umask(0)
    os.umask(umask)
    for file in [part, *part.rglob("*")]:
        if file.is_file() and not file.is_symlink():
            with suppress(PermissionError):  # a hard link to another user's file
                file.chmod(0o666 & ~umask)


def link_tree(source: str | Path, target: str | Path) -> None:
    """Copy a directory with hard links if the file system has them, so that large files are not written twice.

    Hidden files are not copied: other programs keep notes there about the directory itself, such as when it was made,
    and a linked file would change in both places.
    """
    hidden = shutil.ignore_patterns(".*")
    try:
        shutil.copytree(source, target, copy_function=os.link, ignore=hidden)
    except OSError:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=hidden)


def write_json(path: str | Path, value: object) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_jsonl(path: str | Path, rows: Iterable[dict]) -> None:
    """Write one JSON object per line, atomically."""
    with atomic_path(path) as part, part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


@contextmanager
def intact(path: str | Path, delete: str | Path | None = None) -> Iterator[None]:
    """Turn errors inside a block that only reads ``path`` into a :class:`DamagedError`.

    Args:
        delete: what to delete to have it made again: the file itself (default), or a job's output folder.

    Raises:
        DamagedError: if the file cannot be read; names, in one line, the file and what to delete.
    """
    try:
        yield
    except DamagedError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise DamagedError(
            f"{path} is damaged, cut or missing ({said}): delete {delete or path} and start again, which makes it anew"
        ) from error


def read_jsonl(path: str | Path) -> list[dict]:
    """Read the objects of a JSON-lines file, at least one.

    Raises:
        DamagedError: names file and line.
    """
    with intact(path), Path(path).open(encoding="utf-8") as file:
        rows = []
        for number, line in enumerate(file, start=1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            if not isinstance(rows[-1], dict):
                raise ValueError(f"line {number} is no object")
            if not line.endswith("\n"):
                raise ValueError(f"line {number} has no end")
        if not rows:
            raise ValueError("it has no line")
        return rows


def read_json(path: str | Path, delete: str | Path | None = None) -> dict:
    """Read one JSON object of an earlier job; ``delete`` as in :func:`intact`.

    Raises:
        DamagedError: names the file and what to delete.
    """
    with intact(path, delete):
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"it holds {type(value).__name__}, not an object")
        return value


def read_parquet(path: str | Path) -> "pd.DataFrame":
    """Read a table of an earlier job.

    Raises:
        DamagedError: names the file.
    """
    import pandas as pd

    with intact(path):
        return pd.read_parquet(path)


def parquet_attrs(path: str | Path) -> dict:
    """Read a table's ``attrs`` as pandas wrote them, without reading its rows.

    Raises:
        DamagedError: names the file.
    """
    from pyarrow.parquet import read_schema

    with intact(path):
        return json.loads((read_schema(path).metadata or {}).get(b"PANDAS_ATTRS", b"{}"))


def read_tensors(path: str | Path, delete: str | Path | None = None) -> dict:
    """Read the tensors of a safetensors file by name; ``delete`` as in :func:`intact`.

    Raises:
        DamagedError: names the file and what to delete.
        NotFiniteError: if a number in it is not finite.
    """
    from safetensors.torch import load_file  # torch is slow to import, and most jobs read no tensors

    from atu.common.finite import check_finite

    with intact(path, delete):
        tensors = load_file(path)
    check_finite(tensors.items(), path)
    return tensors


def check_weights(directory: str | Path) -> None:
    """Check that the files of a model directory are complete: headers of all weights, and the JSON files beside them.

    Raises:
        DamagedError: names the file that is cut or missing, and the directory to delete.
    """
    from safetensors import safe_open

    directory = Path(directory)
    for path in sorted(directory.rglob("*.json")):
        if path.name.endswith(".index.json"):
            index = read_json(path, directory)
            with intact(path, directory):
                for name in sorted(set(index["weight_map"].values())):
                    if not (path.parent / name).exists():
                        raise ValueError(f"there is no {name}, which it names")
        elif path.name in MODEL_FILES:
            read_json(path, directory)
    for path in sorted(directory.rglob("*.safetensors")):
        with intact(path, directory), safe_open(path, framework="numpy") as file:  # reading the header needs no torch
            file.keys()
