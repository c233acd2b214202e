"""The workflow on a real Slurm of one node: an undisturbed run, then faults; the numbers are always the same."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import slurm
import test_retries
from conftest import ROOT, Workflow

pytestmark = pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing())

# A job that pushes aside what runs in the other partition.
URGENT = ("sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")
OF_RUNS = "llm/tiny/1_Ada/seed0"
RUN, STAGES = f"results/{OF_RUNS}/atu-*", f"results/{OF_RUNS}/stages"
AFTER = f"{RUN}/evaluations/*.parquet"
TRAINING = ("unlearn", "unlearn_last")
# Where jobs log, by rule: once there is a file, the job computes.
LOGS = {"align": "alignments/atu-*", "unlearn": "stages/atu-*", "unlearn_last": "atu-*"}
TABLE = "results/tables/main.csv"


class OnSlurm(Workflow):
    """`snakemake --profile slurm` on the tiny models; the pauses alone are shorter than the profile's."""

    def __init__(self, tiny: Path, directory: Path, cluster: slurm.Slurm):
        super().__init__(tiny, directory)
        config = json.loads(self.config.read_text()) | {"device": "auto"}  # so that jobs ask for a GPU
        self.config.write_text(json.dumps(config))
        self.cluster, self.output = cluster, directory / "snakemake.out"

    def command(self, *arguments: str) -> list[str]:
        # cores: the node has two
        pauses = {"slurm-init-seconds-before-status-checks": 4, "seconds-between-status-checks": 4, "latency-wait": 3}
        options = {"profile": ROOT / "slurm", "snakefile": ROOT / "Snakefile", "directory": self.directory, "cores": 2}
        flags = [word for name, value in (options | pauses).items() for word in (f"--{name}", str(value))]
        return [sys.executable, "-m", "snakemake", *arguments, *flags, "--configfile", str(self.config)]

    def start(self, *arguments: str) -> subprocess.Popen:
        with self.output.open("wb") as output:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.directory,
                env=self.cluster.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def end(self, process: subprocess.Popen, watch: Callable[[], None] = lambda: None, seconds: float = 900) -> str:
        """Wait for the end of a run; what it printed."""
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            watch()
            time.sleep(0.3)
        if process.poll() is None:
            process.kill()
            raise TimeoutError(self.cluster.ask("squeue") + self.output.read_text()[-4000:])
        return self.output.read_text()

    def numbers(self) -> str:
        return (self.directory / TABLE).read_text()


class Journal:
    """Every state in which each job of a run was seen, by what it does: rule_unlearn_wildcards_..."""

    def __init__(self, cluster: slurm.Slurm):
        self.cluster, self.earlier = cluster, set(cluster.jobs("all"))
        self.seen: dict[str, dict[str, dict[str, str]]] = {}

    def look(self) -> None:
        for job in self.cluster.jobs("all"):
            fields = self.cluster.shown(job)
            if job not in self.earlier and "Comment" in fields:
                self.seen.setdefault(fields["Comment"], {})[job] = fields

    def of(self, rule: str) -> list[dict[str, str]]:
        """The jobs of a rule in the order of their submission."""
        found = [jobs for what, jobs in self.seen.items() if what.startswith(f"rule_{rule}_wildcards")]
        return [jobs[job] for jobs in found for job in sorted(jobs, key=int)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm.Slurm(tmp_path_factory.mktemp("slurm") / "slurm") as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(tiny, cluster, tmp_path_factory) -> OnSlurm:
    """A whole run on Slurm that nothing disturbs, with what Slurm said of its jobs."""
    workflow = OnSlurm(tiny, tmp_path_factory.mktemp("undisturbed"), cluster)
    workflow.journal = Journal(cluster)
    process = workflow.start(TABLE)
    printed = workflow.end(process, workflow.journal.look)
    assert process.returncode == 0, printed[-6000:]
    return workflow


@pytest.fixture
def partly(tiny, undisturbed, cluster, tmp_path) -> OnSlurm:
    """A copy of the undisturbed run that a test may go on with."""
    shutil.copytree(undisturbed.directory, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    return OnSlurm(tiny, tmp_path, cluster)


class Small(OnSlurm):
    """The small workflow of test_retries.py, under the profile."""

    def __init__(self, tiny: Path, directory: Path, cluster: slurm.Slurm):
        super().__init__(tiny, directory, cluster)
        test_retries.build(directory)

    def command(self, *arguments: str) -> list[str]:
        words = [word.replace(str(ROOT / "Snakefile"), "Snakefile") for word in super().command()]
        return [*words[:3], *arguments, *words[3:-2], "--config", "names=[]"]


@pytest.fixture
def small(tiny, cluster, tmp_path) -> Small:
    return Small(tiny, tmp_path, cluster)


def test_faults_that_come_again_go_through_the_queue_once(small):
    """Single jobs and groups of jobs; the profile asks for two retries."""
    names = ["data.txt", "network.txt", "group/nan.txt", "group/network.txt", "own/data.txt"]
    process = small.start(*names)
    printed = small.end(process)
    assert process.returncode
    expected = {"data": 1, "network": 3, "group/nan": 1, "group/network": 3, "own/data": 1}
    assert test_retries.tried(small.directory) == expected, printed[-6000:]


def test_a_preempted_job_that_is_cancelled_is_tried_again(small, cluster):
    cluster.ask("scontrol", "update", "PartitionName=work", "PreemptMode=CANCEL")
    assert "PreemptMode=CANCEL" in cluster.ask("scontrol", "show", "partition", "work")
    journal, done = Journal(cluster), set()

    def preempt() -> None:
        journal.look()
        started = (small.directory / "tried").exists()
        if started and not done:
            done.add(cluster.ask(*URGENT))

    try:
        process = small.start("waits")
        printed = small.end(process, preempt, 300)
    finally:
        cluster.ask("scontrol", "update", "PartitionName=work", "PreemptMode=REQUEUE")
    assert process.returncode == 0, printed[-6000:]
    states = [job["JobState"] for jobs in journal.seen.values() for job in jobs.values()]
    assert states == ["PREEMPTED", "COMPLETED"]
    assert test_retries.tried(small.directory) == {"waits": 2}


@pytest.mark.parametrize("option", ["gpus", "gres"])
def test_a_step_sees_the_gpu_of_its_job(small, option):
    process = small.start("gpu", "--default-resources", f"gpu_option={option}", "mem_mb=1000", "runtime=5")
    printed = small.end(process)
    assert process.returncode == 0, printed[-6000:]
    assert (small.directory / "gpu").read_text().strip() in ("0", "1")


def test_snakemake_inside_a_job(tiny, cluster, tmp_path):
    """Where login nodes may not be used: the run neither counts its own job as left behind nor its neighbours."""
    workflow = OnSlurm(tiny, tmp_path, cluster)
    probes = workflow.paths().probes("1_Ada")
    command = shlex.join(workflow.command(probes))
    where = ["--chdir", str(tmp_path), "--ntasks=1", "--mem=1000", "--output", str(workflow.output)]
    notebook = cluster.ask("sbatch", "--parsable", "--hold", *where[:2], "--wrap", "true").strip()
    cluster.ask("sbatch", *where, "--wrap", f"{command}")
    try:
        cluster.wait(lambda: cluster.jobs() == [notebook] and workflow.output.exists(), "the end of the run", 300)
    finally:
        cluster.ask("scancel", notebook)
    assert (tmp_path / probes).exists(), workflow.output.read_text()[-6000:]


def forget(workflow: OnSlurm, *patterns: str) -> None:
    for path in [path for pattern in patterns for path in workflow.directory.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.slow
def test_the_numbers_are_those_of_a_run_without_slurm(undisturbed, finished):
    assert undisturbed.numbers() == (finished.directory / TABLE).read_text()


@pytest.mark.slow
def test_jobs_ask_for_what_the_rules_declare(undisturbed):
    journal = undisturbed.journal
    for rule in ("write_texts", "evaluate_before", "align", *TRAINING, "evaluate_between", "evaluate_after"):
        for job in journal.of(rule):
            assert job["TresPerJob"] == "gres:gpu:1"
            assert job["MinMemoryNode"] in ("3001M", "3002M")
            assert job["TimeLimit"] == "00:10:00"
    (prepare,) = (jobs for what, jobs in journal.seen.items() if what.startswith("rule_prepare"))
    (job,) = prepare.values()  # one job for all subjects, without a GPU
    assert "TresPerJob" not in job
    (states,) = (jobs for what, jobs in journal.seen.items() if what.startswith("rule_states"))
    assert len(states) == 3  # windows and hidden states of a subject are one job with one GPU
    assert {job["TresPerJob"] for job in states.values()} == {"gres:gpu:1"}


def test_what_a_cluster_does_to_jobs_loses_nothing(partly, undisturbed, cluster):
    """One run whose jobs meet a time limit, scancel, too little memory, preemption, a drained node."""
    forget(partly, TABLE, f"results/{OF_RUNS}")
    journal, done = Journal(cluster), set()

    def running(rule: str) -> str | None:
        """The job of a rule, once it computes."""
        jobs, logs = journal.of(rule), partly.directory.glob(f"logs/{rule}/{OF_RUNS}/{LOGS[rule]}.log")
        started = any(logs) and jobs and jobs[-1]["JobState"] == "RUNNING"
        return jobs[-1]["JobId"] if started else None

    def once(name: str, job: str | None, *command: str) -> None:
        if job and name not in done:
            done.add(name)
            cluster.ask(*(word.format(job=job) for word in command))

    shutil.rmtree(partly.directory / "logs")

    def disturb() -> None:
        journal.look()
        once("time", running("align"), "scontrol", "update", "JobId={job}", "EndTime=now")
        once("scancel", running("unlearn"), "scancel", "{job}")
        once("urgent", running("unlearn_last"), *URGENT)
        if "urgent" in done and "again" not in done:
            job = journal.of("unlearn_last")[-1]
            if job["JobState"] == "PENDING":  # Slurm would wait for two minutes
                cluster.ask("scontrol", "update", f"JobId={job['JobId']}", "StartTime=now")
            elif job["JobState"] == "RUNNING" and job.get("Restarts") == "1":
                once("again", "now", "scontrol", "update", f"NodeName={cluster.host}", "State=DRAIN", "Reason=test")
        if "again" in done and [job for job in journal.of("evaluate_after") if job["JobState"] == "PENDING"]:
            once("resume", "now", "scontrol", "update", f"NodeName={cluster.host}", "State=RESUME")

    # the first attempt at stage 1's evaluation has too little memory for torch
    memory = "evaluate_between:mem_mb=3000 if attempt > 1 else 300"
    process = partly.start(TABLE, "--set-resources", memory)
    printed = partly.end(process, disturb)
    journal.look()
    assert process.returncode == 0, printed[-6000:]
    assert done == {"time", "scancel", "urgent", "again", "resume"}

    late, second = journal.of("align")
    assert late["JobState"] == "TIMEOUT"
    assert second["TimeLimit"] == "00:15:00"  # half as much again
    cancelled, second = journal.of("unlearn")
    assert cancelled["JobState"] == "CANCELLED"
    assert (cancelled["MinMemoryNode"], second["MinMemoryNode"]) == ("3002M", "4503M")
    killed, second = journal.of("evaluate_between")
    assert killed["JobState"] in ("FAILED", "OUT_OF_MEMORY")
    assert "xceeded" in Path(killed["StdOut"]).read_text()  # ... memory limit
    assert second["JobState"] == "COMPLETED"
    (preempted,) = journal.of("unlearn_last")
    assert preempted["Restarts"] == "1"
    assert len(journal.of("evaluate_after")) == 1
    assert partly.numbers() == undisturbed.numbers()


def test_a_full_disk(tiny, undisturbed, cluster, small_disk, tmp_path):
    """Jobs fail, and fail again; nothing half-written is trusted once there is room."""
    place, resize = small_disk
    shutil.copytree(undisturbed.directory, place, dirs_exist_ok=True, copy_function=shutil.copy2)
    workflow = OnSlurm(tiny, place, cluster)
    workflow.output = tmp_path / "snakemake.out"
    forget(workflow, TABLE, STAGES, RUN)
    resize(f"{shutil.disk_usage(place).used // 1024 + 160}k")  # logs fit, a checkpoint does not
    full = workflow.start(TABLE, "--retries", "0")
    printed = workflow.end(full)
    assert full.returncode, printed[-6000:]
    assert "No space left on device" in printed
    assert not (place / TABLE).exists()
    cluster.wait(lambda: not cluster.jobs(), "the end of the jobs")
    resize("1g")
    subprocess.run(workflow.command("--unlock"), check=True, cwd=place, env=cluster.environment)
    again = workflow.start(TABLE)
    printed = workflow.end(again)
    assert again.returncode == 0, printed[-6000:]
    assert workflow.numbers() == undisturbed.numbers()


def test_a_query_that_never_answers_is_refused(partly):
    """This Slurm has no accounting database: sacct, the executor plugin's first choice, would be asked for ever."""
    forget(partly, TABLE, AFTER)
    refused = partly.start(TABLE, "--slurm-status-command", "sacct")
    assert "set slurm-status-command to squeue" in partly.end(refused)
    assert refused.returncode
    assert "submitted" not in partly.output.read_text()


def test_snakemake_killed_and_two_runs_in_one_directory(partly, undisturbed, cluster):
    """A second run is refused; after kill -9 the jobs go on, and a new run says so instead of doing them twice."""
    forget(partly, TABLE, AFTER)
    journal = Journal(cluster)
    first = partly.start(TABLE)
    cluster.wait(lambda: journal.look() or journal.of("evaluate_after"), "the job")
    second = subprocess.run(
        partly.command(TABLE), capture_output=True, text=True, cwd=partly.directory, env=cluster.environment
    )
    assert second.returncode
    assert "Directory cannot be locked" in second.stdout + second.stderr
    first.send_signal(signal.SIGKILL)
    first.wait()
    (job,) = (job["JobId"] for job in journal.of("evaluate_after"))
    subprocess.run(partly.command("--unlock"), check=True, cwd=partly.directory, env=cluster.environment)
    printed = partly.end(partly.start(TABLE))
    assert f"jobs of an earlier run still work in this directory: wait until they end, or: scancel {job}" in printed
    cluster.ask("scancel", job)
    cluster.wait(lambda: not cluster.jobs(), "the end of the job")
    again = partly.start(TABLE)
    printed = partly.end(again)
    assert again.returncode == 0, printed[-6000:]
    assert partly.numbers() == undisturbed.numbers()
