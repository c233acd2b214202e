"""Methods at equal forgetting: what neighbours and abilities keep when a method has forgotten as much as another.

A run is a curve: forget recall and the score of what should be kept over its stages, stage 0 the base
model. Both are taken as shares of their value before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from atu.common.names import display_name, in_words
from atu.data.benchmark import of_test
from atu.data.metrics import PERCENT
from atu.data.probe_sets import PROBE_SETS, of_role, primary
from atu.reporting.robustness import change, counted, of_primary
from atu.reporting.tables import read_predictions

LEVELS = (0.75, 0.5, 0.25)  # shares of the original forget recall at which methods are compared
NEAR = (LEVELS[0] - LEVELS[1]) / 2  # a model whose share is no further from a level stands for it
UNDER = "under "  # before the name of an attack: a column
FORGET = primary("forget")
COLLAPSED_NOTE = (
    "Collapsed: of these runs some stage, or all, write no language; what is kept is read from such stages too, and "
    "what is told by the likelihood of a choice may look kept."
)
NEIGHBOURS = sorted(of_role("neighbour"), key=lambda name: name != primary("neighbour"))  # the primary one first
KEPT = (*NEIGHBOURS, *of_role("utility", "fluency"))


@dataclass(frozen=True)
class Curve:
    """Scores of a run's probes, 0..1.

    Attributes:
        forget, kept: [stages, probes] each; row 0 is the base model.
    """

    forget: np.ndarray
    kept: np.ndarray


def at_level(forget: np.ndarray, kept: np.ndarray, level: ArrayLike) -> np.ndarray:
    """What is kept where the curve first falls to each level, on the straight line between two stages.

    Args:
        forget, kept: shares of their values before, over the stages, [stages].
        level: shares of forget recall, any shape.

    Returns:
        Shaped as ``level``; NaN where the curve never gets there.
    """
    level = np.asarray(level, dtype=float)
    lowest = np.minimum.accumulate(forget)
    after = np.searchsorted(-lowest, -level)  # the first stage at or below the level
    reached = (after < len(forget)) & ~np.isnan(forget[0])
    after = np.minimum(after, len(forget) - 1)
    before = np.maximum(after - 1, 0)
    fall = forget[before] - forget[after]
    share = np.where(fall > 0, (forget[before] - level) / np.where(fall > 0, fall, 1), 1)
    return np.where(reached, kept[before] + share * (kept[after] - kept[before]), np.nan)


def area(forget: np.ndarray, kept: np.ndarray) -> float:
    """Mean of what is kept over all levels of forgetting from nothing to everything.

    Beyond what the run reached nothing counts as kept: a method that forgets little has a small area. NaN
    if there was nothing to keep.
    """
    if np.isnan(kept[0]):
        return float("nan")
    values = np.nan_to_num(at_level(forget, kept, np.linspace(1, 0, 101)))
    return float(np.trapezoid(values, dx=1 / 100))


def shares(runs: list[Curve], weights: list[tuple[np.ndarray, ...]] | None = None) -> tuple[np.ndarray, np.ndarray]:
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


def kept_at(level: float) -> str:
    """How the measure is called that says what is kept at a level."""
    return f"kept at {level:.0%}"


def measures(forget: np.ndarray, kept: np.ndarray) -> dict[str, float]:
    """What is kept at each level, and the area."""
    values = at_level(forget, kept, LEVELS)
    named = {kept_at(level): float(value) for level, value in zip(LEVELS, values, strict=True)}
    return named | {"area": area(forget, kept)}


def compare(methods: dict[str, dict[str, Curve]], resamples: int, seed: int) -> pd.DataFrame:
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
    rows: list[dict], kept: str, forget: str = FORGET, read: Callable = read_predictions
) -> dict[str, dict[str, Curve]]:
    """Runs by method and target (and seed), from the test predictions of their stages.

    Args:
        rows: of target, method, seed, stage and files (Parquet predictions), as the tables are made of.
            Stages after which one of the two sets was not asked are left out; a run that was stopped
            before others keeps its last values.
        kept, forget: names of probe sets.
        read: predictions of a tuple of files.

    Returns:
        Methods of which no stage but the base model was asked both sets are left out, and targets that lack one.
    """

    def scores(files: tuple, name: str) -> pd.Series:
        asked = read(files)
        chosen = of_test(asked[asked["set"] == name])
        return chosen.set_index("id")["score"].sort_index()

    stages: dict[tuple[str, str], dict[int, tuple]] = {}
    for row in rows:
        found = tuple(scores(tuple(row["files"]), name) for name in (forget, kept))
        of_run = stages.setdefault((row["method"], f"{row['target']} {row['seed']}"), {})
        if all(map(len, found)):
            of_run[row["stage"]] = found
    runs: dict[str, dict[str, Curve]] = {}
    trained = {name for (name, _), of_run in stages.items() if set(of_run) - {0}}
    for (method, target), of_run in stages.items():
        if method not in trained or 0 not in of_run:
            continue
        last = max(number for (name, _), others in stages.items() if name == method for number in others)
        # a run that was stopped stays where it was
        asked = [n for n in range(last + 1) if any(n in others for key, others in stages.items() if key[0] == method)]
        filled = [of_run[max(m for m in of_run if m <= n)] for n in asked]
        runs.setdefault(method, {})[target] = Curve(
            *(np.array([pair[i].to_numpy() for pair in filled]) for i in (0, 1))
        )
    return runs


def marks_of(rows: list[dict], collapsed: pd.DataFrame) -> dict[str, dict[str, float]]:
    """By method the share of its runs that have collapsed, at whichever stage, since all are points of its curve; and
    of those that are of targets which a model from elsewhere has not forgotten.

    Args:
        rows: as for :func:`read_runs`, with ``foreign`` where it is so.
        collapsed: from :func:`atu.reporting.tables.find_collapsed`, of the same targets.
    """
    marks = pd.DataFrame([{"method": row["method"], "foreign": float(bool(row.get("foreign")))} for row in rows])
    fallen = collapsed.groupby(["method", "target", "seed"])["collapsed"].any().groupby(level="method").mean()
    shares = marks.groupby("method")["foreign"].mean().to_frame()
    shares.insert(0, "collapsed", fallen.reindex(shares.index).fillna(0.0).astype(float))
    return shares.to_dict("index")


def matched(rows: list[dict], resamples: int, seed: int) -> pd.DataFrame:
    """:func:`compare` for every set that should be kept and was asked before and after.

    Args:
        rows: as for :func:`read_runs`.

    Returns:
        Its rows behind a column ``kept``, the name of the set; none if no set was asked before and after.
    """
    read = cache(lambda files: read_predictions(files)[["set", "id", "split", "score"]])
    tables = [pd.DataFrame(columns=["kept", "method", "measure", "value", "low", "high", "reached"])]
    for kept in KEPT:
        if runs := read_runs(rows, kept, read=read):
            table = compare(runs, resamples, seed)
            table.insert(0, "kept", kept)
            tables.append(table)
    return pd.concat(tables[1:] or tables, ignore_index=True)


def end_level(forget: np.ndarray) -> float | None:
    """The level at which a run ends: that to which the last stage is nearest, if no stage before has fallen to it.

    Args:
        forget: shares of forget recall over the stages, [stages].
    """
    level = min(LEVELS, key=lambda level: abs(forget[-1] - level))
    return level if abs(forget[-1] - level) <= NEAR and (forget[:-1] > level).all() else None


def why_no_level(forget: np.ndarray) -> str:
    """Why a run ends at no level, in words; arguments as of :func:`end_level`."""
    if np.isnan(forget[-1]):
        return "the base model recalls nothing"
    near = np.abs(forget[-1] - np.array(LEVELS)) <= NEAR
    why = "and an earlier stage had forgotten as much" if near.any() else "which is near none of these levels"
    return f"its kept model recalls {forget[-1]:.0%}, {why}"


def with_attacks(table: pd.DataFrame, attacks: pd.DataFrame, rows: list[dict]) -> tuple[pd.DataFrame, list[str]]:
    """The comparison with recall under attacks, at the level of forgetting of the models that are attacked.

    Kept models alone are attacked, those of last stages: at other levels there is nothing to say.

    Args:
        table: from :func:`matched`.
        attacks: from :func:`atu.reporting.robustness.compare_attacks`, of the same runs.
        rows: as for :func:`read_runs`.

    Returns:
        The table with a column "under <attack>" for each, "at 25%: 12.5 → 50.0", recall of the primary forget set in
        percent before it and behind its last step, in the rows of that level, else empty; and for each method that has
        none a sentence.
    """
    found, notes = of_primary(attacks), []
    table = table.assign(**{f"{UNDER}{name}": "" for name in found["attack"].unique()})
    for method, runs in read_runs(rows, FORGET).items():
        forget, _ = shares(list(runs.values()))
        level = end_level(forget)
        whole = found[(found["method"] == method) & (found["runs"] == len(runs))]
        if level is None:
            notes.append(f"{display_name(method)}: {why_no_level(forget)}.")
        elif whole.empty:
            notes.append(f"{display_name(method)}: some of its runs have no kept model that could be attacked.")
        else:
            place = (table["method"] == method) & (table["measure"] == kept_at(level))
            for row in whole.itertuples():
                said = change(row.before, row.after) + counted(row)
                table.loc[place, f"{UNDER}{row.attack}"] = f"at {level:.0%}: {said}"
    return table, notes


def under_attacks(table: pd.DataFrame) -> pd.DataFrame:
    """The cells of attacks, one row a method, whichever level they are of: they are the same beside every kept set.

    Args:
        table: from :func:`with_attacks`.

    Returns:
        method, and a column an attack.
    """
    columns = {name: name.removeprefix(UNDER) for name in table if name.startswith(UNDER)}
    return table.groupby("method")[[*columns]].max().rename(columns=columns)


def attacks_note(notes: list[str]) -> str:
    """What columns of attacks say, and of which methods they say nothing."""
    levels = in_words(f"{level:.0%}" for level in LEVELS)
    told = (
        f"Under attacks: {PROBE_SETS[FORGET].label} recall in percent before → behind the last step of the attack, of "
        f"kept models, which are those of last stages. The level in front ({levels} of the base model's recall) is "
        f"within {PERCENT * NEAR:g} points of the model's own, and no earlier stage had fallen to it; no cell is of "
        "another stage."
    )
    return " ".join([told, *notes])
