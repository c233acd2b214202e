"""What killed jobs leave: it goes once nobody works on it any more, and nothing else does."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from atu.common import leftovers
from atu.common.files import atomic_path
from atu.common.leftovers import RECORD, new_folder, remove_all_abandoned, remove_if_abandoned, scratch_folder
from conftest import ROOT

WRITER = """
import sys, time
from pathlib import Path
from atu.common.files import atomic_path
with atomic_path(sys.argv[1]) as part:
    part.mkdir()
    (part / "weights").write_bytes(bytes(20_000_000))
    print(flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that has written a third of a checkpoint, and where it has."""
    target = tmp_path / "run/llm"
    command = [sys.executable, "-c", WRITER, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT / "workflow")}) as process:
        process.stdout.readline()
        yield process, target
        process.kill()


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_what_a_kill_9_leaves_goes_when_the_job_runs_again(writer, caplog):
    process, target = writer
    (left,) = hidden(target.parent)
    with atomic_path(target) as part:  # the other one still writes
        part.mkdir()
    assert hidden(target.parent) == [left]
    process.kill()
    process.wait()
    assert hidden(target.parent) == [left]
    with caplog.at_level(logging.INFO, "atu"), atomic_path(target) as part:
        part.mkdir()
    assert hidden(target.parent) == []
    assert f"removed 0.02 GB that a killed job had left in {target.parent / left}" in caplog.text


def test_all_of_a_folder_at_once(writer, tmp_path):
    process, target = writer
    own = new_folder(tmp_path / "run", "predictor")  # of this process, which works
    strange = tmp_path / "run/.llm.12345678"  # no record: nobody knows whose
    strange.mkdir()
    assert remove_all_abandoned(tmp_path) == []
    process.kill()
    process.wait()
    (line,) = remove_all_abandoned(tmp_path)
    assert line.startswith("removed 0.02 GB that a killed job had left in")
    assert set(hidden(target.parent)) == {own.name, strange.name}
    assert remove_all_abandoned(tmp_path / "nowhere") == []


def belonging_to(parent: Path, **changed) -> Path:
    """A temporary folder whose record says something else."""
    folder = new_folder(parent, "epochs")
    record = json.loads((folder / RECORD).read_text()) | changed
    (folder / RECORD).write_text(json.dumps(record))
    return folder


def test_a_number_that_was_given_to_another_process(tmp_path):
    assert remove_if_abandoned(belonging_to(tmp_path, started="1")).startswith("removed")
    assert remove_if_abandoned(belonging_to(tmp_path, started=None)) is None  # this system does not tell


def test_another_host_without_slurm_is_not_judged(tmp_path):
    folder = belonging_to(tmp_path, host="elsewhere", pid=7)
    line = remove_if_abandoned(folder)
    assert line.startswith("left: 0.00 GB")
    assert "if process 7 of elsewhere works no more; delete it yourself" in line
    assert folder.exists()
    assert remove_if_abandoned(belonging_to(tmp_path, namespace="pid:[1]")).startswith("left")  # a container


@pytest.mark.parametrize(
    ("squeue", "expected"),
    [
        ("echo RUNNING", None),
        ("echo PENDING", None),
        ("true", "removed"),  # it has ended
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "removed"),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", "left"),
    ],
)
def test_another_host_of_a_cluster(tmp_path, monkeypatch, squeue, expected):
    program = tmp_path / "bin/squeue"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n[ $3 = --jobs=12 ] || exit 3\n{squeue}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    line = remove_if_abandoned(belonging_to(tmp_path, host="elsewhere", slurm="12"))
    assert line is None if expected is None else line.startswith(expected)


def test_a_job_that_slurm_has_started_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert leftovers.owner()["slurm"] == "12"
    assert remove_if_abandoned(belonging_to(tmp_path, host="elsewhere", restart="0")).startswith("removed")
    assert remove_if_abandoned(belonging_to(tmp_path, slurm="12")) is None  # this very process


def test_a_scratch_folder_that_does_not_go_loses_nothing(tmp_path, caplog):
    """A file system mounted in it stands for files that NFS still holds: removal fails with EBUSY."""

    def work():
        with scratch_folder(tmp_path, "states") as folder:
            (folder / "busy").mkdir()
            mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder / "busy"], capture_output=True)
            if mounted.returncode:
                pytest.skip("mounting a file system needs root")
            return folder

    with caplog.at_level(logging.WARNING, "atu"):
        folder = work()
    assert folder.exists()
    assert f"cannot remove all of {folder}: delete it yourself" in caplog.text
    subprocess.run(["umount", folder / "busy"], check=True)
    with scratch_folder(tmp_path, "states") as other:
        assert other.exists()
    assert not other.exists()


def test_a_failed_block_leaves_no_scratch(tmp_path):
    with pytest.raises(ZeroDivisionError), scratch_folder(tmp_path, "states"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_closed_hidden_states_map_nothing(tmp_path):
    import torch
    from safetensors.torch import save_file

    from atu.alignment.hidden import HiddenStates
    from atu.alignment.windows import WindowedCorpus

    save_file({"hidden_states": torch.arange(12.0).reshape(6, 2)}, tmp_path / "0.safetensors")
    corpus = WindowedCorpus(torch.arange(6), torch.tensor([0, 6]), torch.full((6,), -1), torch.empty(0, 2))
    shards = [{"file": "0.safetensors", "first_token": 0}]
    index = {"layer": 1, "tokens": 6, "texts": corpus.checksum, "shards": shards}
    (tmp_path / "index.json").write_text(json.dumps(index))
    states = HiddenStates(tmp_path, corpus)
    assert states[slice(1, 3)].tolist() == [[2, 3], [4, 5]]
    maps = Path("/proc/self/maps")
    assert str(tmp_path) in maps.read_text()
    states.close()
    assert str(tmp_path) not in maps.read_text()
