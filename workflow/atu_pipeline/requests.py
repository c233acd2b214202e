"""What jobs request from the scheduler, computed from the config; they request more at each attempt."""

from collections.abc import Callable
from functools import cache

from atu_pipeline import resources
from atu_pipeline.demands import demand

GROWING = ("mem_mb", "runtime")  # these grow at each attempt


def small_job(mem_mb: int = 2000) -> dict:
    """The resources of a rule that reads and writes small files."""
    return {
        "mem_mb": lambda wildcards, attempt: resources.grown(mem_mb, attempt),
        "runtime": lambda wildcards, attempt: resources.grown(resources.SHORTEST, attempt),
        "disk_mb": 10,
    }


class Requests:
    """The first requests of jobs under one config.

    Args:
        config: from ``check_config``.
    """

    def __init__(self, config: dict):
        self.config = config
        self.on_gpu, self.hardware = config["device"] != "cpu", config["hardware"]

    @cache  # noqa: B019 (one object a run)
    def first(self, rule: str, name: str | None, subject: str | None, threads: int, people: int = 1) -> dict[str, int]:
        """GPUs, GPU memory, memory, minutes, disk and expected seconds of one job at its first attempt.

        The arguments other than ``threads`` are those of ``demand``.
        """
        needed = demand(rule, self.config, name, subject, people)
        on_gpu = self.hardware["gpu_tflops"][self.config["precision"]], resources.START_SECONDS
        on_cpu = self.hardware["cpu_tflops"] * threads, resources.START_SECONDS_CPU
        rate, start = on_gpu if self.on_gpu else on_cpu
        expected = resources.seconds(needed, rate, self.hardware["disk_mb_per_s"], start)
        return {
            "gpu": needed.gpus if self.on_gpu and needed.device > 0 else 0,
            "gpu_mem_mb": resources.gpu_mem_mb(needed) if self.on_gpu else 0,
            "mem_mb": resources.mem_mb(needed, self.on_gpu),
            "runtime": resources.minutes(expected, self.hardware["margin"]),
            "disk_mb": resources.disk_mb(needed),
            "expected_s": round(expected),  # for `atu plan`
        }


def model_job(rule: str, asked: Callable[[object, str, int], dict[str, int]]) -> dict[str, Callable]:
    """The resources of a rule that handles a model, each a function of a job's wildcards, attempt and threads.

    Args:
        asked: maps a job's wildcards, rule and threads to its first request.
    """

    def amount(name: str) -> Callable:
        def at(wildcards: object, attempt: int, threads: int) -> int:
            first = asked(wildcards, rule, threads)[name]
            return resources.grown(first, attempt) if name in GROWING else first

        return at

    return {name: amount(name) for name in ("gpu", "gpu_mem_mb", "mem_mb", "runtime", "disk_mb", "expected_s")}
