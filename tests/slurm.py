"""A real Slurm of one node on this machine, started and stopped by the tests."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
# No cgroups: processes are found by their parents, and memory is looked at every second. Two partitions: what is
# submitted to `urgent` takes the node from jobs in `work`, which go back into the queue.
CONFIG = """
ClusterName=tests
SlurmctldHost={host}
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0,preempt_youngest_first
EnforcePartLimits=ALL
MinJobAge=300
KillWait=1
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=work Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10
"""


def missing() -> str:
    """Why Slurm cannot be started here, or nothing."""
    absent = [name for name in PROGRAMS if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")]
    if absent:
        return f"{', '.join(absent)} not found: install the Debian packages slurm-wlm and munge"
    return "" if os.geteuid() == 0 else "slurmd needs root"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Slurm:
    """Its daemons, and the questions that tests ask it. Use it in a ``with`` block.

    Attributes:
        environment: what a process needs to talk to it.
    """

    def __init__(self, folder: Path):
        self.folder, self.host = folder, socket.gethostname().split(".")[0]
        self.environment = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
        }
        self.daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "Slurm":
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        ports = {"controller": free_port(), "daemon": free_port()}
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        values = {"folder": self.folder, "host": self.host, "user": getpass.getuser(), "memory": memory, **ports}
        (self.folder / "slurm.conf").write_text(CONFIG.format(**values))
        files = ("/dev/null", "/dev/zero")  # two GPUs, as far as Slurm can tell
        (self.folder / "gres.conf").write_text(
            "".join(f"NodeName={self.host} Name=gpu File={file}\n" for file in files)
        )
        # the executor plugin calls srun without SLURM_CONF, which this Slurm needs as it is not in /etc
        srun = self.folder / "bin/srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        options = [*files, f"--socket={self.folder}/munge.socket"]
        try:
            self.start("munged", "--foreground", "--force", *options)
            self.wait(lambda: (self.folder / "munge.socket").exists(), "munged")
            self.start("slurmctld", "-D")
            self.start("slurmd", "-D", "-N", self.host)
            self.wait(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%t"), "slurmd")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error) -> None:
        self.ask("scancel", "--user", getpass.getuser())
        with suppress(TimeoutError):  # so that nothing of a job outlives the daemons
            self.wait(lambda: not self.jobs(), "the end of all jobs", 20)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def start(self, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
        with (self.folder / f"{program}.out").open("wb") as output:
            daemon = subprocess.Popen([path, *arguments], env=self.environment, stdout=output, stderr=output)
        self.daemons.append(daemon)

    def wait(self, condition, title: str, seconds: float = 120) -> None:
        """Wait until something holds.

        Raises:
            TimeoutError: with the queue and the last lines of the daemons' logs.
        """
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                logs = [path.read_text(errors="replace")[-1500:] for path in sorted(self.folder.glob("*.out"))]
                raise TimeoutError("\n".join([f"waited {seconds} s for {title}", self.ask("squeue"), *logs]))
            time.sleep(0.2)

    def ask(self, *command: str) -> str:
        """What a Slurm command prints."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout

    def jobs(self, state: str | None = None) -> list[str]:
        """Ids of the jobs in the queue, of all or those in a state."""
        chosen = [f"--states={state}"] if state else []
        return self.ask("squeue", "--noheader", "--format=%A", *chosen).split()

    def shown(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` says of a job, by field."""
        words = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)
