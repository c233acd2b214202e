"""What is checked before a run submits to Slurm, and the profile; no Slurm is needed."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.profiles import ProfileConfigFileParser
from snakemake_interface_common.exceptions import WorkflowError

from atu_pipeline import cluster
from atu_pipeline.settings import ConfigError
from conftest import ROOT


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


NAME = "0b1f4d3e-1c2d-4e5f-8a9b-0123456789ab"


def test_jobs_of_an_earlier_run_in_this_directory():
    queue = f"12|{NAME}|/data/run\n9|mine_{NAME}|/data/run\n13|{NAME}|/data/other\n\n"
    assert cluster.left_behind(queue, Path("/data/run")) == ["9", "12"]
    assert cluster.left_behind("", Path("/data/run")) == []


def test_snakemakes_own_job_and_other_work_is_not_left_behind():
    """Snakemake started by sbatch or in an interactive job in the directory, and the user's notebook there."""
    queue = "12|run.sh|/data/run\n13|wrap|/data/run\n14|interactive|/data/run\n15|a|b|/data/run\n"
    assert cluster.left_behind(queue, Path("/data/run")) == []
    assert cluster.left_behind(f"16|{NAME}|/data/a|b\n", Path("/data/a|b")) == ["16"]


def test_the_check(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    answers = {"scontrol": shown("none", 300), "squeue": f"5|{NAME}|{tmp_path}\n"}
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
    assert "find_intervention:gpu_model=a100" in asked  # RepE's; ICU asks for none, see below
    assert not [option for option in asked if option.startswith("known:slurm")]


def test_accounts_that_are_none_or_numbers(tmp_path):
    options = profile(tmp_path, account="none")
    assert options["slurm-no-account"] in (True, "true", "True")
    assert not any("slurm_account" in option for option in options["default-resources"])
    assert "slurm-no-account" not in profile(tmp_path)
    options = profile(tmp_path, account="12-34", gpu_model="a100-sxm4-80gb", partition="7")
    assert {"slurm_account='12-34'", "slurm_partition='7'"} <= set(options["default-resources"])
    assert "unlearn:gpu_model='a100-sxm4-80gb'" in options["set-resources"]
    assert "gpu_option=gres" in profile(tmp_path, gpu_option="gres")["default-resources"]
    assert "gpu=1" in profile(tmp_path)["resources"]
    assert "gpu=8" in profile(tmp_path, gpus_at_most="8")["resources"]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, ""),
        ({"gpu": 0, "gpu_model": "a100"}, ""),  # ICU runs no model
        ({"gpu": 1}, " --gpus=1"),
        ({"gpu": 1, "gpu_model": "a100-sxm4-80gb"}, " --gpus=a100-sxm4-80gb:1"),
        ({"gpu": 2, "gpu_option": "gres"}, " --gres=gpu:2 --nodes=1"),
        ({"gpu": 4, "gpu_model": "a100-sxm4-80gb"}, " --gpus=a100-sxm4-80gb:4 --nodes=1"),
        ({"gpu": 8, "gpu_model": "h100-80", "gpu_option": "both"}, " --gpus=h100-80:8 --gres=gpu:h100-80:8 --nodes=1"),
        ({"gpu": 1, "gpu_option": "both"}, " --gpus=1 --gres=gpu:1"),
        ({"gpu": 8, "nodes": 1}, " --gpus=8"),  # which the plugin hands on itself
        ({"gpu": 1, "gpu_option": "gres", "gpu_model": "a100-sxm4-80gb"}, " --gres=gpu:a100-sxm4-80gb:1"),
        ({"gpu": 1, "gres": "gpu:tesla:1,lscratch:10"}, " --gres=gpu:tesla:1,lscratch:10"),
    ],
)
def test_a_gpu_is_asked_for_once(resources, expected):
    assert cluster.gpu_request(SimpleNamespace(resources=resources)) == expected


@pytest.mark.parametrize("resources", [{"gpu": 1, "gpu_model": "a100; rm"}, {"gpu": 1, "gpu_option": "tres"}])
def test_a_gpu_that_cannot_be_is_refused(resources):
    with pytest.raises(WorkflowError, match=r"gpu_option|gpu_model"):
        cluster.gpu_request(SimpleNamespace(resources=resources))


def test_a_preempted_job_that_does_not_come_back_has_failed():
    answers = iter(
        [
            ({"1": "PREEMPTED", "2": "PREEMPTED", "3": "RUNNING"}, 0.1),
            (None, None),  # no answer
            ({"1": "PREEMPTED", "2": "PENDING", "3": "PREEMPTED"}, 0.1),
            ({"1": "PREEMPTED", "2": "RUNNING", "3": "PREEMPTED"}, 0.1),
        ]
    )

    async def query(command, logger):
        return next(answers)

    ask = cluster.ended(query)
    said = [asyncio.run(ask("squeue", None))[0] for _ in range(4)]
    assert said[0] == {"1": "PREEMPTED", "2": "PREEMPTED", "3": "RUNNING"}
    assert said[1] is None
    assert said[2] == {"1": "CANCELLED", "2": "PENDING", "3": "PREEMPTED"}
    assert said[3] == {"1": "CANCELLED", "2": "RUNNING", "3": "CANCELLED"}


def test_a_job_that_slurm_has_forgotten_has_failed():
    """Seen, then missing: once may be an accident. One that was never seen is still on its way into the queue."""
    answers = iter([{"1": "RUNNING", "2": "RUNNING"}, {"2": "RUNNING"}, {"1": "RUNNING"}, {"2": "NODE_FAIL"}, {}, {}])

    async def query(command, logger):
        return next(answers), 0.1

    ask = cluster.ended(query)
    said = [asyncio.run(ask("squeue", None))[0] for _ in range(6)]
    assert said[:4] == [{"1": "RUNNING", "2": "RUNNING"}, {"2": "RUNNING"}, {"1": "RUNNING"}, {"2": "NODE_FAIL"}]
    assert said[4] == {"1": "FAILED"}
    assert said[5] == {"1": "FAILED", "2": "FAILED"}


SBATCH = """#!/bin/sh
printf '%s\\n' "$*" >> "$RECORD"
echo 'sbatch: error: this is a stub' >&2
exit 1
"""
SMALL = f"""
sys.path.insert(0, {str(ROOT / "workflow")!r})
from atu_pipeline.cluster import teach_plugins
teach_plugins()
rule all:
    output: "out"
    resources: gpu=1, mem_mb=100, runtime=5
    shell: "touch {{output}}"
"""


@pytest.mark.parametrize(
    ("edits", "expected", "absent"),
    [
        ({}, ["-A guessed", "--gpus=1"], ["--gres"]),
        ({"account": "none", "gpu_model": "a100-sxm4-80gb"}, ["--gpus=a100-sxm4-80gb:1"], ["-A ", "--gres"]),
        (
            {"account": "me", "gpu_model": "h100-80", "gpu_option": "gres"},
            ["-A me", "--gres=gpu:h100-80:1"],
            ["--gpus"],
        ),
    ],
)
def test_what_sbatch_gets(tmp_path, edits, expected, absent):
    """The command that the plugin really submits, to programs that answer as a cluster with accounts does."""
    programs = {
        "sbatch": SBATCH,
        "sacct": "#!/bin/sh\necho guessed\n",
        "sacctmgr": "#!/bin/sh\necho guessed; echo me\n",
        "sinfo": "#!/bin/sh\necho 'work*'\n",
        "scontrol": "#!/bin/sh\necho 'MinJobAge = 300 sec'\n",
        "squeue": "#!/bin/sh\n",
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "profile").mkdir()
    options = profile(tmp_path / "profile", **edits)  # writes it
    assert options["executor"] == "slurm"
    model = "a100-sxm4-80gb" if "gpu_model" in edits else ""
    (tmp_path / "Snakefile").write_text("import sys\n" + SMALL)
    environment = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "RECORD": str(tmp_path / "record")}
    command = [sys.executable, "-m", "snakemake", "--profile", str(tmp_path / "profile"), "--retries", "0"]
    if model:  # the profile names this workflow's rules
        command += ["--set-resources", f"all:gpu_model='{edits['gpu_model']}'"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "this is a stub" in done.stdout + done.stderr
    submitted = (tmp_path / "record").read_text().partition("--wrap")[0]
    for part in expected:
        assert part in submitted
    for part in absent:
        assert part not in submitted


def test_the_profile_names_every_rule_with_a_gpu():
    """The rules whose device memory is computed, as the rules' files declare them."""
    listed = re.search(r"gpu_rules = \[(.*?)\]", (ROOT / "slurm/config.yaml").read_text(), re.DOTALL)[1]
    declared = {}
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        blocks = re.split(r"^ *(?:rule (\w+):|use rule (\w+) as (\w+) with:)$", path.read_text(), flags=re.MULTILINE)
        for name, base, heir, block in zip(*(blocks[i::4] for i in range(1, 5)), strict=True):
            asked = re.search(r'\.resources\("(\w+)"\)', block)
            declared[name or heir] = asked[1] if asked else declared.get(base)  # which is inherited
    asking = {name for name, asked in declared.items() if asked}
    assert {"realign", "unlearn_last", "evaluate_after", "start_states"} < asking
    on_host = {"download_model", "embed_target", "keep_weights"}
    assert set(re.findall(r'"(\w+)"', listed)) == asking - on_host
