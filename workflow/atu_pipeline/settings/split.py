"""The probes on which settings may be chosen: a share of everyone's probes, or all probes of dev targets."""

from collections.abc import Iterator

from atu.data.benchmark import BenchmarkError, read_rows
from atu.data.probe_sets import PROBE_SETS, primary
from atu_pipeline.settings.messages import ConfigError

BY_PROBE, BY_TARGET = "probe", "target"


def share_of(config: dict, subject: str) -> float:
    """The share of a subject's probes that are dev.

    Args:
        subject: a target, or :data:`atu.data.benchmark.UTILITY` for the shared probes.
    """
    if config["split"]["by"] == BY_PROBE:
        return config["split"]["dev_share"]
    return float(subject in config["dev_targets"])


def check_split(split: dict) -> Iterator[str]:
    """Faults of a split whose settings contradict each other."""
    if split["by"] == BY_TARGET and split["dev_share"]:
        yield f"split.dev_share: {split['dev_share']:g}, and nothing reads it where split.by is target; set it to 0"


def without_dev(config: dict, targets: list[str]) -> str | None:
    """Why nothing can be chosen on dev probes, and how to fix it; None if something can be chosen.

    Args:
        targets: the targets that run; if there are dev targets among them, only those count.

    Raises:
        ConfigError: if a file of the benchmark cannot be read.
    """
    split, dev = config["split"], [name for name in targets if name in config["dev_targets"]]
    if split["by"] == BY_TARGET and not dev:
        named = f"{', '.join(targets[:3])}{', ...' if len(targets) > 3 else ''}"
        return f"none of {named} is a dev target, as split.by has it; run a target of dev_targets too"
    if split["by"] == BY_PROBE and split["dev_share"] == 0:
        return "there are none; set split.dev_share above 0"
    benchmark, judged = config["benchmarks"][config["benchmark"]], dev or targets
    if benchmark["source"] == "hub":
        return None
    for name in (primary("forget"), primary("neighbour")):
        file = PROBE_SETS[name].file
        try:
            sizes = [len(read_rows(benchmark["path"], target, file) or []) for target in judged]
        except BenchmarkError as error:
            raise ConfigError(f"benchmarks.{config['benchmark']}.path: {error}") from error
        shares = [share_of(config, target) for target in judged]
        if not any(round(share * size) for share, size in zip(shares, sizes, strict=True)):
            mend = (
                "set split.dev_share higher" if split["by"] == BY_PROBE else "give it rows, or name another dev target"
            )
            return f"no row of {file}.json of {', '.join(judged[:3])} is one; {mend}"
    return None
