"""What Snakemake prints of jobs, and what the plan and the status make of it."""

import itertools
import subprocess
import sys

import pytest

from atu_pipeline import plan, status
from atu_pipeline.records import Job, measured, read_jobs

LOG = """
Job stats:
job        count
-------  -------
unlearn        2
all            1
total          3

[Tue Nov 24 21:00:00 2026]
rule unlearn:
    output: results/llm/b/1_Ada/seed0/stages/atu-0123abcd/llm, results/llm/b/1_Ada/seed0/stages/atu-0123abcd/steps.csv
    log: logs/unlearn/1.log
    jobid: 7
    wildcards: llm=llm, benchmark=b, target=1_Ada, seed=0, method=atu, digest=0123abcd
    resources: tmpdir=<TBD>, mem_mb=4000, mem=4 GB, runtime=10, gpu=1, expected_s=60
[Tue Nov 24 21:00:30 2026]
Error in rule unlearn:
    message: None
    jobid: 7
    output: results/llm/b/1_Ada/seed0/stages/atu-0123abcd/llm, results/llm/b/1_Ada/seed0/stages/atu-0123abcd/steps.csv
    log: logs/unlearn/1.log, logs/slurm/9.log (check log file(s) for error details)
Logfile logs/unlearn/1.log:
===========================
loss 1
===========================
Logfile logs/slurm/9.log:
================================================================================
[Tue Nov 24 21:00:10 2026]
rule unlearn:
    jobid: 0
Logfile logs/unlearn/1.log:
================================================================================
loss 1
================================================================================
Finished jobid: 7 (Rule: unlearn)
================================================================================
"""
AGAIN = """[Tue Nov 24 21:01:00 2026]
rule unlearn:
    output: results/llm/b/1_Ada/seed0/stages/atu-0123abcd/llm
    jobid: 7
    wildcards: llm=llm, benchmark=b, target=1_Ada, seed=0, method=atu, digest=0123abcd
    resources: gpu=1, expected_s=60
[Tue Nov 24 21:01:40 2026]
Finished jobid: 7 (Rule: unlearn)
"""


def test_a_failed_job_and_its_quoted_logs():
    (job,), totals = read_jobs(LOG.splitlines())
    assert totals == {"unlearn": 2, "all": 1}
    assert (job.rule, job.number, job.failed) == ("unlearn", "7", True)
    assert job.ended - job.started == 30
    assert job.log == ["logs/unlearn/1.log", "logs/slurm/9.log"]
    assert job.resources == {"mem_mb": 4000, "runtime": 10, "gpu": 1, "expected_s": 60}
    assert job.kind == ("unlearn", "llm", "atu", 1)


def test_downloads_of_two_models_are_of_two_kinds():
    assert Job("download_model", wildcards={"model": "phi"}).kind == ("download_model", "phi", "", 0)


def test_a_job_that_is_tried_again_is_no_longer_failed():
    (job,), _ = read_jobs((LOG + AGAIN).splitlines())
    assert not job.failed
    assert job.ended - job.started == 40


def test_the_state_of_a_run():
    jobs, totals = read_jobs(LOG.splitlines())
    rows = {row.pop("rule"): row for row in status.states(jobs, totals)}
    assert rows["unlearn"] == {"done": 0, "running": 0, "failed": 1, "waiting": 1}
    assert rows["all"] == {"done": 0, "running": 0, "failed": 0, "waiting": 1}


def test_time_left():
    """One job of 60 s has run for 20; another waits: 40 + 60."""
    running = Job("unlearn", started=100.0, resources={"expected_s": 60})
    rows = [{"rule": "unlearn", "waiting": 1, "failed": 0}]
    assert status.seconds_left([running], rows, {}, now=120) == 100
    known = {running.kind: 30.0}  # measured: 10 + 30
    assert status.seconds_left([running], rows, known, now=120) == 40


def test_a_failed_jobs_last_lines_and_what_does_it_again(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("\n".join(f"line {i}" for i in range(20)))
    text = status.failure(Job("unlearn", output=["results/a b"], log=[str(log)], failed=True), "snakemake --profile x")
    assert "line 19" in text
    assert "line 11" not in text
    assert text.endswith("again: snakemake --profile x 'results/a b'")


def jobs_of_a_run(seed: str = "0", last: str = "2") -> list[Job]:
    wildcards = {"llm": "llm", "target": "1_Ada", "method": "atu", "seed": seed}
    stage = {"gpu": 1, "runtime": 120, "expected_s": 1800, "mem_mb": 2000, "disk_mb": 10_000}
    return [
        Job("unlearn", wildcards=wildcards | {"digest": "0"}, resources=stage),
        Job("unlearn", wildcards=wildcards | {"digest": "1"}, resources=stage),
        Job("unlearn_last", wildcards=wildcards | {"digest": last}, resources=stage),
        Job("keep_model", wildcards=wildcards | {"digest": last}, resources={"disk_mb": 10, "mem_mb": 3000}),
    ]


def test_hours_and_what_is_asked_for():
    unlearn, last, keep = plan.by_rule(jobs_of_a_run(), {})
    assert (unlearn["jobs"], unlearn["GPU-hours"], unlearn["GPU-hours asked"]) == (2, 1.0, 4.0)
    assert (last["jobs"], last["GPU-hours"], last["GPU-hours asked"]) == (1, 0.5, 2.0)
    assert keep["GPU-hours"] == 0
    (unlearn, *_) = plan.by_rule(jobs_of_a_run(), {("unlearn", "llm", "atu", 1): 360.0})
    assert (unlearn["measured"], unlearn["GPU-hours"]) == (2, pytest.approx(0.2))
    (unlearn, *_) = plan.by_rule(jobs_of_a_run(), {("unlearn", "llm", "atu", 4): 360.0})  # on four GPUs
    assert (unlearn["measured"], unlearn["GPU-hours"]) == (0, 1.0)


def test_disk():
    """A stage reads a checkpoint of 10 GB while it writes the next: 20 GB; 10 are kept. 5 GB are shared."""
    jobs = [*jobs_of_a_run(), *jobs_of_a_run("1"), Job("hidden_states", resources={"disk_mb": 5000})]
    space = plan.disk(jobs)
    assert space[("1_Ada", "atu", "0", "2")] == (20, 10)
    assert space[("", "", "", "")] == (5, 5)
    assert "disk: 5.0 GB that runs share; with all 2 runs in flight 45.0 GB, at the end 25.0 GB" in plan.report(
        jobs, {}
    )


def test_disk_of_variants_of_one_method():
    """Runs of other settings share the method's file and the stages before the last; each keeps its own 10 GB."""
    first, second = jobs_of_a_run(), jobs_of_a_run(last="3")
    space = plan.disk([*first, *second[2:]])
    assert space[("1_Ada", "atu", "0", "2")] == space[("1_Ada", "atu", "0", "3")] == (20, 10)
    assert plan.disk(first[:2]) == {("", "", "", ""): (0, 0), ("1_Ada", "atu", "0", ""): (20, 0)}
    trained = {"target": "1_Ada", "method": "ga", "seed": "0"}
    sizes = {"train": 30_000, "keep_weights": 10_000}
    jobs = [Job(rule, wildcards=trained, resources={"disk_mb": size}) for rule, size in sizes.items()]
    assert plan.disk(jobs)[("1_Ada", "ga", "0", "")] == (30, 10)


def script(name: str, *arguments: str, directory) -> str:
    command = [sys.executable, "-m", "atu_pipeline", name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory)
    assert done.returncode == 0, done.stderr
    return done.stdout


def counts(printed: str) -> dict[str, dict[str, int]]:
    """The table of the status, by rule."""
    head, _, *lines = printed.splitlines()
    names = head.split()[1:]
    rows = itertools.takewhile(bool, (line.split() for line in lines))
    return {rule: dict(zip(names, map(int, numbers), strict=True)) for rule, *numbers in rows}


def test_plan_and_status_of_a_real_run(finished):
    assert measured(finished.directory)[("unlearn", "llm", "atu", 0)] > 0
    rows = counts(script("status", directory=finished.directory))
    done = [rows[rule]["done"] for rule in ("unlearn", "unlearn_last", "evaluate_after", "all")]
    assert done == [1, 1, 1, 1]
    total = rows.pop("total")
    assert total == {"done": sum(row["done"] for row in rows.values()), "running": 0, "failed": 0, "waiting": 0}
    options = finished.command("--config", "targets=[1_Ada,2_Bo]")[3:]
    printed = script("plan", *options, directory=finished.directory)
    for rule in ("unlearn", "unlearn_last"):
        (line,) = (line.split() for line in printed.splitlines() if line.startswith(f"{rule} "))
        assert line[1:3] == ["1", "1"]  # a job, of a kind that was measured
    assert "2_Bo" in printed
    assert "1_Ada" not in printed


def test_status_after_a_kill(tmp_path):
    """A lock outlives Snakemake: that one works in the directory is seen by its process."""
    (tmp_path / ".snakemake/log").mkdir(parents=True)
    (tmp_path / ".snakemake/log/2026-11-24.snakemake.log").write_text(LOG)
    (tmp_path / ".snakemake/locks").mkdir()
    (tmp_path / ".snakemake/locks/0.output.lock").touch()
    printed = script("status", directory=tmp_path)
    assert "no Snakemake of this host works in it" in printed
    assert counts(printed)["unlearn"] == {"done": 0, "running": 0, "failed": 1, "waiting": 1}
    assert "h left" not in printed
    program = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", program, "snakemake"], cwd=tmp_path, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        printed = script("status", directory=tmp_path)
        process.kill()
    assert "h left" in printed
