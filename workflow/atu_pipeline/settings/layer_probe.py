"""Classifiers of hidden states: probe sets on which they cannot be fit."""

from collections.abc import Iterator

from atu.data.benchmark import read_rows
from atu.data.probe_sets import PROBE_SETS, ProbeSet, about_people
from atu.data.rows import BenchmarkError
from atu_pipeline.settings.messages import unknown
from atu_pipeline.settings.split import share_of

SIDES = ("forget", "neighbour")


def check_layer_probe(targets: list[str], config: dict) -> Iterator[str]:
    """Faults of an experiment that shows the layer probe."""
    key, asked, known = "layer_probe.ask", config["layer_probe"]["ask"], about_people()
    if wrong := [name for name in asked if name not in known]:
        yield unknown(key, wrong[0], known)
        return
    sets = [PROBE_SETS[name] for name in asked]
    for probe_set in sets:
        if probe_set.types:
            yield f"{key}: {probe_set.name} has probes of several types, which their wording tells apart; take it out"
        elif lacking := [role for role in SIDES if not any(alike(probe_set, other, role) for other in sets)]:
            yield (
                f"{key}: no set of role {lacking[0]} is asked in the words in which {probe_set.name} is, so the words "
                f"would tell them apart; add one, or take {probe_set.name} out"
            )
    yield from check_enough(targets, sets, config)


def way(probe_set: ProbeSet) -> tuple[str, str]:
    """The words in which a set is asked."""
    return probe_set.message, probe_set.suffix


def alike(probe_set: ProbeSet, other: ProbeSet, role: str) -> bool:
    """Whether another set has a role and is asked in the same words."""
    return other.role == role and way(other) == way(probe_set)


def check_enough(targets: list[str], sets: list[ProbeSet], config: dict) -> Iterator[str]:
    """Faults of the user's own benchmark if no target has a test probe of each kind for each fold.

    If only some targets have too few, the table leaves them out and says so.
    """
    source, folds = config["benchmarks"][config["benchmark"]], config["layer_probe"]["folds"]
    if source["source"] != "path":
        return
    most = 0
    for target in targets:
        sizes: dict[tuple, int] = {}
        share = share_of(config, target)  # a dev target has share 1, and all its probes are shown
        for probe_set in sets:
            try:
                rows = len(read_rows(source["path"], target, probe_set.file) or [])
            except BenchmarkError as error:
                yield f"benchmarks.{config['benchmark']}.path: {error}"
                return
            kind = probe_set.role, way(probe_set)
            sizes[kind] = sizes.get(kind, 0) + rows - (0 if share == 1 else round(share * rows))
        most = max(most, min(sizes.values(), default=0))
    if most < folds:
        yield (
            f"layer_probe.folds: {folds}, and no target has more than {most} test probes of one role that are asked in "
            f"one way; set it to {most} at most, or give more rows"
        )
