"""Methods at equal forgetting: what neighbours keep when a method has forgotten as much as another.

A run is a curve: forget and neighbour recall over its stages, stage 0 the unmodified model. Both are taken
as shares of their value before.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from atu.tables import read_outcomes

LEVELS = (0.75, 0.5, 0.25)  # shares of the original forget recall at which methods are compared


@dataclass(frozen=True)
class Run:
    """Scores of a run's probes, 0..1.

    Attributes:
        forget, kept: [stages, probes] each; row 0 is the unmodified model.
    """

    forget: np.ndarray
    kept: np.ndarray


def at_level(forget: np.ndarray, kept: np.ndarray, level: float) -> float:
    """What is kept where the curve first falls to ``level``, on the straight line between two stages.

    Args:
        forget, kept: shares of their values before, over the stages, [stages].

    Returns:
        NaN if the curve never gets there.
    """
    for i in np.flatnonzero(forget <= level)[:1]:
        if i == 0:
            return float(kept[0])
        share = (forget[i - 1] - level) / (forget[i - 1] - forget[i])
        return float(kept[i - 1] + share * (kept[i] - kept[i - 1]))
    return float("nan")


def area(forget: np.ndarray, kept: np.ndarray) -> float:
    """Mean of what is kept over all levels of forgetting from nothing to everything.

    Beyond what the run reached nothing counts as kept: a method that forgets little has a small area.
    """
    levels = np.linspace(1, 0, 101)
    values = np.nan_to_num([at_level(forget, kept, level) for level in levels])
    return float(np.trapezoid(values, dx=1 / 100))


def shares(
    runs: list[Run], weights: list[tuple[np.ndarray, np.ndarray]] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean curve of several runs (of as many stages) as shares of the values before, [stages] each.

    Args:
        weights: for each run, how often each forget probe and each kept probe counts.
    """
    curves = []
    for kind in ("forget", "kept"):
        means = []
        for i, run in enumerate(runs):
            scores = getattr(run, kind)
            counts = np.ones(scores.shape[1]) if weights is None else weights[i][kind == "kept"]
            means.append(scores @ counts / counts.sum())
        mean = np.mean(means, axis=0)
        curves.append(mean / mean[0] if mean[0] > 0 else np.full_like(mean, np.nan))
    return curves[0], curves[1]


def measures(forget: np.ndarray, kept: np.ndarray) -> dict[str, float]:
    """What is kept at each level, and the area."""
    return {f"kept at {level:.0%}": at_level(forget, kept, level) for level in LEVELS} | {"area": area(forget, kept)}


def compare(methods: dict[str, dict[str, Run]], resamples: int, seed: int) -> pd.DataFrame:
    """Matched comparison of methods, with 95 % intervals by bootstrap over targets and their probes.

    Args:
        methods: by method, the run of each target (all methods have the same targets and probes; a
            resample draws the same ones for each).

    Returns:
        One row a method and measure: method, measure, value, low, high, reached (share of resamples in
        which the level was reached at all). Values are shares of what was known before.
    """
    rng = np.random.default_rng(seed)
    targets = sorted(set.intersection(*(set(runs) for runs in methods.values())))
    drawn: dict[tuple[str, str], list[float]] = {}
    for _ in range(resamples):
        chosen = rng.choice(len(targets), len(targets))
        weights = []
        for i in chosen:
            run = next(iter(methods.values()))[targets[i]]
            sizes = (run.forget.shape[1], run.kept.shape[1])
            weights.append(tuple(rng.multinomial(size, np.full(size, 1 / size)) for size in sizes))
        for name, runs in methods.items():
            curve = shares([runs[targets[i]] for i in chosen], weights)
            for measure, value in measures(*curve).items():
                drawn.setdefault((name, measure), []).append(value)
    rows = []
    for name, runs in methods.items():
        for measure, value in measures(*shares([runs[target] for target in targets])).items():
            values = np.array(drawn[name, measure])
            reached = ~np.isnan(values)
            low, high = np.percentile(values[reached], [2.5, 97.5]) if reached.any() else (np.nan, np.nan)
            row = {"method": name, "measure": measure, "value": value, "low": low, "high": high}
            rows.append(row | {"reached": reached.mean()})
    return pd.DataFrame(rows)


def read_runs(
    rows: list[dict], split: str = "test", forget: str = "forget_qa", kept: str = "neighbor_qa"
) -> dict[str, dict[str, Run]]:
    """Runs by method and target (and seed), from the outcomes of their stages.

    Args:
        rows: of target, method, seed, stage and files (Parquet outcomes), as the tables are made of.
            Stages after which one of the two sets was not asked are left out; a run that was stopped
            before others keeps its last values.
    """
    frames: dict[tuple, pd.DataFrame] = {}

    def scores(files: tuple, name: str) -> pd.Series:
        if files not in frames:
            frames[files] = read_outcomes(files)
        asked = frames[files]
        chosen = asked[(asked["set"] == name) & (asked["split"] == split)]
        return chosen.set_index("id")["score"].sort_index()

    stages: dict[tuple[str, str], dict[int, tuple]] = {}
    for row in rows:
        found = tuple(scores(tuple(row["files"]), name) for name in (forget, kept))
        of_run = stages.setdefault((row["method"], f"{row['target']} {row['seed']}"), {})
        if all(map(len, found)):
            of_run[row["stage"]] = found
    runs: dict[str, dict[str, Run]] = {}
    for (method, target), of_run in stages.items():
        last = max(number for (name, _), others in stages.items() if name == method for number in others)
        # a run that was stopped stays where it was
        asked = [n for n in range(last + 1) if any(n in others for key, others in stages.items() if key[0] == method)]
        filled = [of_run[max(m for m in of_run if m <= n)] for n in asked]
        runs.setdefault(method, {})[target] = Run(*(np.array([pair[i].to_numpy() for pair in filled]) for i in (0, 1)))
    return runs
