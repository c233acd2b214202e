"""Jobs that run side by side on a machine with several GPUs take different ones."""

import os
from contextlib import ExitStack

import pytest

from atu.common import gpus


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of three cards, and a job that takes some: what torch would see of them, and the job's end."""

    def job(count, named="GPU-a1,GPU-b2,GPU-c3"):
        monkeypatch.setenv(gpus.VISIBLE, named)
        held = ExitStack()
        monkeypatch.setattr(gpus, "HELD", held)
        gpus.take_gpus(count)
        return os.environ[gpus.VISIBLE], held.close

    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    return job


def test_jobs_take_different_cards_and_give_them_back(machine):
    (first, end_first), (second, end_second) = machine(1), machine(2)
    assert (first, second) == ("GPU-a1", "GPU-b2,GPU-c3")
    end_first()
    assert machine(1)[0] == "GPU-a1"
    end_second()
    assert machine(1)[0] == "GPU-b2"


def test_a_job_waits_for_a_card(machine, monkeypatch, caplog):
    caplog.set_level("INFO")
    _, end = machine(2)
    monkeypatch.setattr("time.sleep", lambda seconds: end())
    assert machine(2)[0] == "GPU-a1,GPU-b2"
    assert caplog.messages == ["other jobs hold the 3 GPUs of this machine: waiting for 2"]


def test_a_job_that_waits_holds_nothing(machine, monkeypatch):
    """Two that want two of three, each with one of them, would wait for each other."""
    machine(2)
    with pytest.raises(InterruptedError):
        monkeypatch.setattr("time.sleep", lambda seconds: (_ for _ in ()).throw(InterruptedError))
        machine(2)
    assert machine(1)[0] == "GPU-c3"


@pytest.mark.parametrize(("named", "count"), [("", 1), ("3", 1), ("MIG-1", 1), ("0,1", 2), ("0", 2)])
def test_where_there_is_no_choice_nothing_is_held(machine, named, count):
    for _ in range(2):
        assert machine(count, named)[0] == named


def test_what_nvidia_smi_prints():
    assert gpus.listed("GPU-a1, [N/A], A100\nGPU-b2, Disabled, T4\n") == {"GPU-a1": "A100", "GPU-b2": "T4"}
    assert gpus.listed("GPU-a1, Disabled, H100\nGPU-b2, Enabled, H100\n") == {}
    assert gpus.listed("") == {}


def test_numbers_hold_the_locks_of_names(machine, monkeypatch):
    """Equal cards are counted alike by all; of different ones the fastest may be 0."""
    monkeypatch.setattr(gpus, "installed", lambda: dict.fromkeys(["GPU-a1", "GPU-b2", "GPU-c3"], "A100"))
    machine(1)
    assert machine(1, "0,1")[0] == "GPU-b2"
    assert machine(1, "7,0,1")[0] == "7"  # there is no such card here: nobody can say which is meant
    monkeypatch.setattr(gpus, "installed", lambda: {"GPU-a1": "A100", "GPU-b2": "T4"})
    assert gpus.by_name(["1"]) == ["1"]
    monkeypatch.setenv(gpus.ORDER, "PCI_BUS_ID")
    assert gpus.by_name(["1", "0"]) == ["GPU-b2", "GPU-a1"]


def test_a_machine_without_gpus_has_none(monkeypatch, tmp_path):
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible() == []
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU-a1, Disabled, A100'\necho 'GPU-b2, [N/A], A100'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert gpus.visible() == ["GPU-a1", "GPU-b2"]
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    assert gpus.visible() == []
