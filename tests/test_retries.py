"""What fails in the same way again is tried once; what may pass is tried as often as was asked."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from atu.common.runtime import ExplainedError, comes_again, job_log
from conftest import ROOT

SNAKEFILE = f"""
import sys

sys.path.insert(0, {str(ROOT / "workflow")!r})
from atu_pipeline.cluster import teach_plugins
from atu_pipeline.retries import tell_faults_apart
from atu_pipeline.settings import share_library

share_library(Path({str(ROOT)!r}), workflow.is_main_process)
teach_plugins()
tell_faults_apart(workflow.is_main_process)

wildcard_constraints:
    name="[a-z]+"

rule all:
    input: expand("{{name}}.txt", name=config["names"])

rule job:
    output: "{{name}}.txt"
    log: "logs/{{name}}.log"
    resources: mem_mb=1000, runtime=5
    script: "job.py"

rule waits:
    output: "waits"
    resources: mem_mb=1000, runtime=5
    shell: "echo waits >> tried; [ $(grep -c waits tried) -gt 1 ] || sleep 600; touch {{output}}"

rule gpu:
    output: "gpu"
    resources: gpu=1, mem_mb=1000, runtime=5
    shell: "echo $CUDA_VISIBLE_DEVICES > {{output}}"

rule own_retries:
    output: "own/{{name}}.txt"
    log: "logs/own/{{name}}.log"
    retries: 2
    resources: mem_mb=1000, runtime=5
    script: "job.py"

rule first:
    output: "group/{{name}}.first"
    log: "logs/group/{{name}}.first.log"
    group: "both"
    resources: mem_mb=1000, runtime=5
    shell: "touch {{output}}"

rule second:
    input: "group/{{name}}.first"
    output: "group/{{name}}.txt"
    log: "logs/group/{{name}}.log"
    group: "both"
    resources: mem_mb=1000, runtime=5
    script: "job.py"
"""
SCRIPT = """
import os
from pathlib import Path

from atu.data.benchmark import BenchmarkError
from atu.common.runtime import ExplainedError, job_log

name = snakemake.wildcards.name
with Path("tried").open("a") as file:
    file.write(snakemake.output[0].removesuffix(".txt") + "\\n")
with job_log(snakemake.log[0]) as log:
    if name == "nan":
        raise FloatingPointError("step 1: loss is nan")
    if name == "data":
        raise BenchmarkError("row 3: the answer is empty")
    if name == "module":
        import nothing_of_this_name
    if name == "network":
        raise ExplainedError("the hub is busy", passing=True)
    if name == "memory":
        raise MemoryError
    if name == "disk":
        raise OSError(28, "No space left on device")
    if name == "killed":
        os.kill(os.getpid(), 9)
    Path(snakemake.output[0]).touch()
"""
ONCE, THRICE = ["nan", "data", "module"], ["network", "memory", "disk", "killed"]


def build(directory: Path) -> None:
    """A small workflow whose jobs fail as their names say, and note that they were tried."""
    (directory / "Snakefile").write_text(SNAKEFILE)
    (directory / "job.py").write_text(SCRIPT)


def tried(directory: Path) -> dict[str, int]:
    return dict(Counter((directory / "tried").read_text().split()))


def run(directory: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_what_comes_again_runs_once_and_the_rest_three_times(tmp_path):
    build(tmp_path)
    names = [*ONCE, *THRICE, "good"]
    printed = run(tmp_path, "--retries", "2", "--config", f"names=[{','.join(names)}]")
    assert tried(tmp_path) == dict.fromkeys([*ONCE, "good"], 1) | dict.fromkeys(THRICE, 3)
    assert "is not tried again, since it would fail again: BenchmarkError: row 3: the answer is empty" in printed
    assert not list(tmp_path.rglob("*.fault"))  # taken away: it counts for one run


def test_a_rules_own_retries_are_not_multiplied(tmp_path):
    """Snakemake starts a Snakemake for each job, which would see to the rule's retries itself."""
    build(tmp_path)
    run(tmp_path, "own/network.txt", "own/data.txt", "--config", "names=[]")
    assert tried(tmp_path) == {"own/network": 3, "own/data": 1}


def test_a_mark_of_an_earlier_run_does_not_count(tmp_path):
    build(tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/network.fault").write_text("ValueError: earlier\n")
    run(tmp_path, "--retries", "1", "--config", "names=[network]")
    assert tried(tmp_path) == {"network": 2}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ExplainedError("wrong"), True),
        (ExplainedError("busy", passing=True), False),
        (KeyError("a"), True),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), True),
        (IsADirectoryError(21, "a folder"), True),
        (FileNotFoundError(2, "not yet seen"), False),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
        (RuntimeError("CUDA error: unspecified launch failure"), False),
        (KeyboardInterrupt(), False),
        (SystemExit(1), False),
    ],
)
def test_which_faults_come_again(error, expected, tmp_path):
    assert comes_again(error) is expected
    log = tmp_path / "logs/a.b/job.v1.log"
    with pytest.raises(BaseException), job_log(log):  # noqa: B017
        raise error
    assert (tmp_path / "logs/a.b/job.v1.fault").exists() is expected
    with job_log(log):
        pass
    assert not (tmp_path / "logs/a.b/job.v1.fault").exists()
