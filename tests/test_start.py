"""The start of a run: one run a directory, nothing left of killed jobs, a command that can be given again."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from atu.common.leftovers import RECORD, new_folder
from atu_pipeline import start, status
from atu_pipeline.settings import ConfigError
from conftest import ROOT, Workflow


def test_the_modules_that_the_code_imports():
    assert start.missing_modules(ROOT) == []


def test_a_missing_module_is_named_before_the_first_job(tmp_path):
    for folder in ("atu", "scripts"):
        (tmp_path / "workflow" / folder).mkdir(parents=True)
    (tmp_path / "workflow/atu/a.py").write_text("import json, no_such_one.part\nfrom atu.b import c\n")
    (tmp_path / "workflow/scripts/b.py").write_text("def f():\n    import only_for_some\n\nfrom no_such_two import x\n")
    with pytest.raises(ConfigError, match=r"lacks no_such_one, no_such_two: .* -m pip install --requirement"):
        start.check_modules(tmp_path, [])
    start.check_modules(tmp_path, ["conda"])  # jobs have an environment of their own


def test_results_of_an_earlier_layout_are_told_of(here):
    for run in (
        "llm/tiny/1_Ada/seed0/atu-0123abcd",
        "llm/tiny/1_Ada/seed0/stages/atu-0123abcd",
        "experiments/a/tables",
    ):
        (here / "results" / run).mkdir(parents=True)
    assert start.old_results() == []
    for run in ("1_Ada/atu/seed0", "2_Bo/ga/seed1"):
        (here / "results/llm/tiny" / run / "stage1").mkdir(parents=True)
    (said,) = start.old_results()
    assert said.startswith("results/ holds 2 runs of an earlier version, such as results/llm/tiny/")
    assert "\n" not in said


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def other(here: Path, **changed) -> None:
    record = start.owner() | {"pid": os.getppid(), "started": None} | changed
    (here / ".snakemake").mkdir(exist_ok=True)
    (here / start.RUN).write_text(json.dumps(record))


def test_one_run_a_directory(here):
    other(here)
    with pytest.raises(ConfigError, match=rf"another run works in this directory \(process {os.getppid()} on"):
        start.take_directory()
    other(here, host="login2")
    with pytest.raises(ConfigError, match=r"on login2\): wait until it ends, or if it works no more, delete"):
        start.take_directory()
    other(here, started="1")  # killed; its number belongs to another process now
    start.take_directory()
    assert json.loads((here / start.RUN).read_text()) == start.owner()
    start.give_directory_back(here / start.RUN, {"pid": 0})
    assert (here / start.RUN).exists()
    start.give_directory_back(here / start.RUN, start.owner())
    assert not (here / start.RUN).exists()
    (here / start.RUN).write_text('{"half')
    start.take_directory()


def begin(workflow: Workflow, *arguments: str) -> subprocess.Popen:
    command = workflow.command(*arguments)
    return subprocess.Popen(
        command, cwd=workflow.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_second_run_with_other_targets_is_refused_and_a_killed_one_is_none(workflow):
    """What a run holds, for real: a dry run, a report, an unlock and the status go on meanwhile."""
    run, left = workflow.directory / start.RUN, workflow.directory / "results/llm/x"
    first, slow = begin(workflow, workflow.paths().llm), workflow.paths().probes("1_Ada")
    wait_for(run.exists)
    second = workflow.run(slow, check=False)
    assert second.returncode
    assert f"another run works in this directory (process {first.pid} on" in second.stdout + second.stderr
    assert "Traceback" not in second.stdout + second.stderr
    assert workflow.planned(workflow.paths().probes("2_Bo")) == {"prepare_probes": 1}
    printed = subprocess.run(
        [sys.executable, "-m", "atu_pipeline", "status"],
        cwd=workflow.directory,
        capture_output=True,
        text=True,
    ).stdout
    assert "Snakemake has ended" not in printed
    if first.poll() is None:
        first.send_signal(signal.SIGKILL)
    first.wait()
    workflow.run("--unlock")
    left.mkdir(parents=True)
    temporary = new_folder(left, "epochs")
    (temporary / "weights").write_bytes(bytes(30_000_000))
    record = json.loads((temporary / RECORD).read_text()) | {"started": "1"}
    (temporary / RECORD).write_text(json.dumps(record))
    done = workflow.run(slow, "--rerun-incomplete")
    assert f"removed 0.03 GB that a killed job had left in {temporary.relative_to(workflow.directory)}" in done.stderr
    assert not temporary.exists()
    assert not run.exists()


def test_options_are_kept_with_all_their_values():
    words = [
        *("results/x", "--profile", "a b", "-c2", "--configfile", "one.yaml", "two.yaml", "--resources=gpu=1", "-n"),
        *("--config", "targets=[1_Ada, 2_Bo]", "x={a: {b: 'c'}}", "--forcerun", "align", "--retries", "2", "-F"),
        *("--set-threads", "align=2", "train=3", "-k", "--report", "r.html", "--nolock", "--", "results/y"),
    ]
    assert status.options_of(words) == [
        *("--profile", "a b", "-c2", "--configfile", "one.yaml", "two.yaml", "--resources=gpu=1"),
        *("--config", "targets=[1_Ada, 2_Bo]", "x={a: {b: 'c'}}", "--retries", "2"),
        *("--set-threads", "align=2", "train=3", "-k", "--nolock"),
    ]


@pytest.mark.full
def test_the_command_of_a_failed_job_plans_it_under_the_same_settings(tiny, tmp_path):
    """A second configfile and --config, with blanks and quotes: done jobs stand, the failed one alone is left."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    workflow = Workflow(tiny, folder)
    benchmark = shutil.copytree(tiny / "benchmark", tmp_path / "bench mark")
    (benchmark / "Target/2_Bo/forget_level1.json").write_text("not JSON")
    second = folder / "second file.json"
    second.write_text(json.dumps({"benchmarks": {"tiny": {"path": str(benchmark)}}, "split": {"seed": 5}}))
    place = next(i for i, word in enumerate(workflow.command()) if word == "--configfile")
    command = workflow.command()
    own = {"benchmarks": {"tiny": {"path": str(benchmark)}}}
    paths = workflow.paths(**own, split={"seed": 5, "dev_share": 0.5})
    targets = [paths.probes(name) for name in ("1_Ada", "2_Bo")]
    config = ["--config", "split={dev_share: 0.5}", "llm=llm"]
    command = [*command[:3], *targets, *command[3 : place + 2], str(second), *command[place + 2 :], "-k", *config]
    failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert failed.returncode, failed.stderr
    printed = subprocess.run(
        [sys.executable, "-m", "atu_pipeline", "status", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (again,) = (line.partition("again: ")[2] for line in printed.splitlines() if "again: " in line)
    assert again.startswith(f"cd {tmp_path} && snakemake")
    again = again.replace("snakemake", f"{sys.executable} -m snakemake -n --rerun-triggers params mtime input", 1)

    def planned(command: str, *more: str) -> int:
        done = subprocess.run(f"{command} {shlex.join(more)}", shell=True, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return next(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("prepare_probes "))

    assert planned(again) == planned(again, targets[0]) == 1
    # without the second file or --config it would be of other settings
    for given, changed in (("dev_share: 0.5", "dev_share: 0.25"), (shlex.quote(str(second)), "")):
        assert given in again
        other = subprocess.run(again.replace(given, changed), shell=True, capture_output=True, text=True)
        assert other.returncode
        assert f"config: {targets[1]} is of other settings than those in force, which make results/" in other.stderr


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            ["--set-resources", "unlern:runtime=480"],
            "config: set-resources (`times` of the Slurm profile): unknown rule",
        ),
        (
            ["--set-threads", "evaluate_befor=2"],
            "config: set-threads: unknown rule 'evaluate_befor'; did you mean eval",
        ),
        (["--default-resources", "gpu_option=gress"], "config: gpu_option: gress is not one of gpus, gres, both"),
        (["--default-resources", "gpu_option='gres'", "--set-resources", "unlearn:runtime=480"], None),
    ],
)
def test_resources_that_no_job_would_get(workflow, options, fault):
    done = workflow.run("before", "--dry-run", *options, check=False)
    assert done.returncode == (1 if fault else 0)
    assert not fault or done.stderr.splitlines()[-1].startswith(fault)


@pytest.mark.parametrize("wrapped", [lambda number: number, lambda number: SimpleNamespace(value=number)])
def test_fewer_gpus_than_a_job_needs(wrapped):
    def given(**resources):
        found = {name: wrapped(number) for name, number in resources.items()}
        own = {"overwrite_resources": {}, "overwrite_threads": {}, "default_resources": None}
        return SimpleNamespace(resources=found, **own)

    for enough, gpus in ((given(gpu=4), 4), (given(gpu=1), 1), (given(), 4)):
        start.check_resources(enough, [], {"gpus_per_job": gpus})
    start.check_resources(given(gpu=1), [], {})
    for key, other in (("gpus_per_job", "gpus_per_evaluation"), ("gpus_per_evaluation", "gpus_per_job")):
        with pytest.raises(ConfigError, match=f"{key} is 4, and this run has 2 GPUs: start it with --resources gpu=4"):
            start.check_resources(given(gpu=2), [], {other: 2, key: 4})
