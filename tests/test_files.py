"""Outputs are complete or absent."""

import errno
import os

import pytest

from atu.files import atomic_path, read_jsonl, write_json, write_jsonl


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(OSError, match="No space left"), atomic_path(target) as part:
        part.write_text("half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_an_interrupt_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "model") as part:
        part.mkdir()
        (part / "weights").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_success_replaces_files_and_directories(tmp_path):
    for content in ("one", "two"):
        with atomic_path(tmp_path / "model") as part:
            part.mkdir()
            (part / content).write_text(content)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["two"]
    write_json(tmp_path / "a.json", {"é": 1})
    assert (tmp_path / "a.json").read_text() == '{\n  "é": 1\n}\n'


def test_others_may_read_what_a_library_left_to_the_owner(tmp_path):
    with atomic_path(tmp_path / "model") as part:
        part.mkdir()
        weights = part / "model.safetensors"
        weights.touch(mode=0o600)
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "model/model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_writing_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing was written"), atomic_path(tmp_path / "x"):
        pass


def test_a_full_disk_while_writing_rows(tmp_path):
    def rows():
        yield {"text": "one"}
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_jsonl(tmp_path / "corpus.jsonl", rows())
    assert list(tmp_path.iterdir()) == []
    write_jsonl(tmp_path / "corpus.jsonl", [{"text": "Beyoncé"}])
    assert read_jsonl(tmp_path / "corpus.jsonl") == [{"text": "Beyoncé"}]
