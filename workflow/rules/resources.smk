# What jobs ask for: computed from the config, more at each attempt.

from atu_pipeline import resources
from atu_pipeline.demands import demand

ON_GPU = config["device"] != "cpu"
HARDWARE = config["hardware"]


@cache
def sized(rule, name, subject, threads):
    """GPUs, GPU memory, memory, minutes and disk of one job, at the first attempt."""
    needed = demand(rule, config, name, subject)
    on_gpu = HARDWARE["gpu_tflops"][config["precision"]], resources.START_SECONDS
    on_cpu = HARDWARE["cpu_tflops"] * threads, resources.START_SECONDS_CPU
    rate, start = on_gpu if ON_GPU else on_cpu
    disk = HARDWARE["disk_mb_per_s"]
    expected = resources.seconds(needed, rate, disk, start)
    return {
        "gpu": int(ON_GPU and needed.device > 0),
        "gpu_mem_mb": resources.gpu_mem_mb(needed) if ON_GPU else 0,
        "mem_mb": resources.mem_mb(needed, ON_GPU),
        "runtime": resources.minutes(expected, HARDWARE["margin"]),
        "disk_mb": resources.disk_mb(needed),
        "expected_s": round(expected),  # for `make plan`
    }


def needs(rule):
    """The resources of a rule that handles a model."""

    def amount(name):
        def at(wildcards, attempt, threads):
            about = wildcards.get("method", wildcards.get("model"))
            subject = wildcards.get("subject")
            first = sized(rule, about, subject, threads)[name]
            growing = name in ("mem_mb", "runtime")
            return resources.grown(first, attempt) if growing else first

        return at

    names = ("gpu", "gpu_mem_mb", "mem_mb", "runtime", "disk_mb", "expected_s")
    return {name: amount(name) for name in names}


def light(mem_mb=2000):
    """The resources of a rule that reads and writes small files."""
    return {
        "mem_mb": lambda wildcards, attempt: resources.grown(mem_mb, attempt),
        "runtime": lambda wildcards, attempt: resources.grown(
            resources.SHORTEST, attempt
        ),
        "disk_mb": 10,
    }
