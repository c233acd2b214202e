"""Files that are either complete or absent: a killed job leaves nothing a rerun would trust."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from atu.leftovers import new_folder, remove_abandoned


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path``; rename it to ``path`` if the block succeeds.

    The block may create a file or a directory. If it raises (disk full, Ctrl-C), the
    temporary is removed and whatever stood at ``path`` before is untouched. What jobs that
    were killed have left of earlier tries is removed first.
    """
    path = Path(path)
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
            os.replace(path, scratch / "before")  # aside, not away: a file of it may be in use and not go
        os.replace(part, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def share(part: Path) -> None:
    """Give every file the mode that the user's umask asks for: some libraries leave theirs to the owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    for file in [part, *part.rglob("*")]:
        if file.is_file() and not file.is_symlink():
            with suppress(PermissionError):  # another user's, linked here
                file.chmod(0o666 & ~umask)


def link_tree(source: str | Path, target: str | Path) -> None:
    """Copy a directory by hard links where the file system has them: large files are not written twice."""
    try:
        shutil.copytree(source, target, copy_function=os.link)
    except OSError:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)


def write_json(path: str | Path, value: object) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_jsonl(path: str | Path, rows: Iterable[dict]) -> None:
    """Write one JSON object a line, atomically."""
    with atomic_path(path) as part, part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: str | Path) -> list[dict]:
    """Read the objects of a JSON-lines file."""
    with Path(path).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
