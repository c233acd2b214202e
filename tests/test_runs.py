"""What lies in a directory, what a config needs of it, and what is deleted."""

import json
import subprocess
import sys

import pytest

from atu_pipeline.runs import agreed, flat, refuse_foreign, size
from atu_pipeline.settings import ConfigError
from conftest import ROOT


def test_nobody_who_answers_has_not_agreed(monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    assert agreed()

    def nobody(_):
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    assert not agreed()
    assert "--yes" in capsys.readouterr().out


def test_another_workflows_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse_foreign([])
    (tmp_path / "Snakefile").write_text("")
    refuse_foreign(["--configfile", "mine.yaml"])
    with pytest.raises(ConfigError, match="name it: atu runs --configfile FILE"):
        refuse_foreign([])


def test_sizes_and_settings(tmp_path):
    """A file that is linked counts once."""
    (tmp_path / "weights").write_bytes(b"x" * 100)
    (tmp_path / "model").hardlink_to(tmp_path / "weights")
    assert size(tmp_path, set()) == 100
    assert flat({"layer": 2, "unlearn": {"tau": {"1": 0.0}}}) == {"layer": 2, "unlearn.tau.1": 0.0}


def runs(workflow, *arguments):
    command = [sys.executable, "-m", "atu_pipeline", "runs", "--configfile", str(workflow.config), *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=workflow.directory,
        env={"PYTHONPATH": str(ROOT / "workflow"), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_no_config_needs_is_deleted(copy):
    """Of a config and of another one that shares its texts: first both are needed, then one."""
    assert "not needed: 0 results" in runs(copy)
    config = json.loads(copy.config.read_text())
    config["method_settings"]["atu"]["layer"] = 1
    other = copy.directory / "other.json"
    other.write_text(json.dumps(config))
    own = sorted(path for path in copy.directory.rglob("results/llm/**/*-????????*") if path.name[-8:].isalnum())
    copy.config, kept = other, copy.config
    listed = runs(copy)
    assert "not needed: 6 results" in listed  # a run with its stage and alignment, states of three subjects
    assert "not needed: 0 results" in runs(copy, "--also", f"--configfile {kept}")
    assert "nothing is deleted" in runs(copy, "--delete")
    assert sorted(path for path in own if path.exists()) == own
    assert "deleted 6 results" in runs(copy, "--delete", "--yes")
    assert not list(copy.directory.glob("results/llm/tiny/1_Ada/seed0/atu-*"))
    assert len(list(copy.directory.glob("results/llm/tiny/texts/positive/*.jsonl"))) == 3
    copy.config = kept
    assert copy.planned()["align"] == 1
