"""What is checked before a run submits to Slurm, and the profile; no Slurm is needed."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.profiles import ProfileConfigFileParser

import cluster
from conftest import ROOT
from settings import ConfigError


def shown(accounting: str, age: int) -> str:
    return f"AccountingStorageType   = accounting_storage/{accounting}\nMinJobAge               = {age} sec\n"


@pytest.mark.parametrize(
    ("accounting", "age", "command", "interval", "expected"),
    [
        ("slurmdbd", 300, "squeue", 20, None),
        ("none", 300, "squeue", 20, None),
        ("slurmdbd", 30, "sacct", 20, None),
        ("none", 300, "sacct", 20, "set slurm-status-command to squeue"),
        ("slurmdbd", 120, "squeue", 20, "set slurm-status-command to sacct"),
        ("none", 120, "squeue", 20, "set MinJobAge in slurm.conf to 200"),
        # below three times the first pause the plugin asks sacct after all
        ("none", 300, "squeue", 120, "set slurm-init-seconds-before-status-checks to at most 100"),
    ],
)
def test_will_the_end_of_a_job_be_seen(accounting, age, command, interval, expected):
    fault = cluster.status_fault(shown(accounting, age), command, interval)
    assert fault is None if expected is None else expected in fault


def test_a_cluster_that_does_not_answer():
    assert "no Slurm answers" in cluster.status_fault("", "sacct", 20)


def test_jobs_of_an_earlier_run_in_this_directory():
    queue = "12|/data/run\n9|/data/run\n13|/data/other\n\n"
    assert cluster.left_behind(queue, Path("/data/run")) == ["9", "12"]
    assert cluster.left_behind("", Path("/data/run")) == []


def test_the_check(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    answers = {"scontrol": shown("none", 300), "squeue": f"5|{tmp_path}\n"}
    monkeypatch.setattr(cluster, "answer", lambda program, *rest: answers[program])
    settings = SimpleNamespace(status_command="squeue", init_seconds_before_status_checks=20)
    with pytest.raises(ConfigError, match="or: scancel 5"):
        cluster.check_cluster(settings)
    answers["squeue"] = ""
    cluster.check_cluster(settings)
    cluster.check_cluster(None)  # another executor
    settings.status_command = "sacct"
    with pytest.raises(ConfigError, match="keeps no accounts"):
        cluster.check_cluster(settings)


def profile(tmp_path, **edits: str) -> dict:
    """The profile as Snakemake reads it, with a site's edits."""
    text = (ROOT / "slurm/config.yaml").read_text()
    for name, value in edits.items():
        text, count = re.subn(rf"^  {name}: .*$", f"  {name}: {value}", text, flags=re.MULTILINE)
        assert count == 1
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with path.open() as file:
        return ProfileConfigFileParser().parse(file)


def test_the_profile_as_it_is(tmp_path):
    options = profile(tmp_path)
    assert options["executor"] == "slurm"
    assert options["slurm-status-command"] == "squeue"
    assert "set-resources" not in options
    assert not any("slurm_" in option for option in options["default-resources"])
    link = ROOT / "slurm"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()


def test_what_a_site_edits(tmp_path):
    edits = {"account": "me", "partition": "cpu", "gpu_partition": "gpu", "gpu_model": "a100"}
    options = profile(tmp_path, **edits, times="{unlearn: 480, known: 60}", scratch="/scratch", jobs="7")
    assert options["jobs"] == "7"
    assert {"slurm_account=me", "slurm_partition=cpu", "tmpdir=/scratch"} <= set(options["default-resources"])
    asked = set(options["set-resources"])
    assert {"unlearn:slurm_partition=gpu", "unlearn:gpu_model=a100", "find_intervention:slurm_partition=gpu"} <= asked
    assert "unlearn:runtime=int(480 * 1.5 ** (attempt - 1))" in asked
    assert "known:runtime=int(60 * 1.5 ** (attempt - 1))" in asked
    assert "find_intervention:gpu_model=a100" not in asked
    assert not [option for option in asked if option.startswith("known:slurm")]


def test_the_profile_names_every_rule_with_a_gpu():
    """The rules whose device memory is computed, as the rules' files declare them."""
    listed = re.search(r"gpu_rules = \[(.*?)\]", (ROOT / "slurm/config.yaml").read_text(), re.DOTALL)[1]
    declared = set()
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        declared |= set(re.findall(r'\*\*needs\("(\w+)"\)', path.read_text()))
    on_host = {"download_model", "embed_target", "keep_model"}
    assert set(re.findall(r'"(\w+)"', listed)) == (declared - on_host) | {"write_texts"}
