"""Comparison of methods at equal forgetting: what is kept of neighbours and abilities at the same forget recall.

A run is a curve over its stages (stage 0 is the base model): forget recall, and the score of what should be kept. Both
are shares of their values before unlearning.
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
NEAR = (LEVELS[0] - LEVELS[1]) / 2  # a model counts for a level if its share is at most this far from it
UNDER = "under "  # prefix of an attack's column
FORGET = primary("forget")
COLLAPSED_NOTE = (
    "Collapsed: of these runs some stage, or all, write no language; what is kept is read from such stages too, and "
    "what is told by the likelihood of a choice may look kept."
)
NEIGHBOURS = sorted(of_role("neighbour"), key=lambda name: name != primary("neighbour"))  # the primary one first
KEPT = (*NEIGHBOURS, *of_role("utility", "fluency"))


@dataclass(frozen=True)
class Curve:
    """Scores of a run's probes over its stages, 0..1.

    Attributes:
        forget, kept: [stages, probes] each; row 0 is the base model.
    """

    forget: np.ndarray
    kept: np.ndarray


def at_level(forget: np.ndarray, kept: np.ndarray, level: ArrayLike) -> np.ndarray:
    """The share kept where the curve first falls to each level, interpolated linearly between stages.

    Args:
        forget, kept: shares of the values before unlearning, [stages].
        level: shares of forget recall, any shape.

    Returns:
        Shaped as ``level``; NaN if the curve never falls to a level.
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
    """The mean share kept over all levels of forgetting, from nothing to everything.

    At levels that the run did not reach, the share counts as 0, so a method that forgets little has a small area. NaN
    if there was nothing to keep.
    """
    if np.isnan(kept[0]):
        return float("nan")
    values = np.nan_to_num(at_level(forget, kept, np.linspace(1, 0, 101)))
    return float(np.trapezoid(values, dx=1 / 100))


def shares(runs: list[Curve], weights: list[tuple[np.ndarray, ...]] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The mean curve of several runs with equally many stages, as shares of the values before, [stages] each.

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
    """The name of the measure of what is kept at a level."""
    return f"kept at {level:.0%}"


def measures(forget: np.ndarray, kept: np.ndarray) -> dict[str, float]:
    """The share kept at each level, and the area, by name of the measure."""
    values = at_level(forget, kept, LEVELS)
    named = {kept_at(level): float(value) for level, value in zip(LEVELS, values, strict=True)}
    return named | {"area": area(forget, kept)}


def compare(methods: dict[str, dict[str, Curve]], resamples: int, seed: int) -> pd.DataFrame:
    """The matched comparison of methods, with 95 % intervals by bootstrap over targets and their probes.

    Args:
        methods: each method's runs by target. All methods have the same targets and probes, and a resample draws the
            same ones for each.

    Returns:
        One row per method and measure: method, measure, value, low, high, reached (the share of resamples in which the
        level was reached). Values are shares of what was known before.
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
    """Runs by method and target (with seed), from the test predictions of their stages.

    Args:
        rows: dicts of target, method, seed, stage and files (Parquet predictions), from which the tables are made.
            Stages at which one of the two sets was not asked are left out. A run that stopped before others keeps its
            last values.
        kept, forget: names of probe sets.
        read: returns the predictions in a tuple of files.

    Returns:
        Curves by method and target. A method is left out if both sets were asked only of the base model; a target is
        left out if the base model was not asked both.
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
        # a run that stopped keeps its last values
        asked = [n for n in range(last + 1) if any(n in others for key, others in stages.items() if key[0] == method)]
        filled = [of_run[max(m for m in of_run if m <= n)] for n in asked]
        runs.setdefault(method, {})[target] = Curve(
            *(np.array([pair[i].to_numpy() for pair in filled]) for i in (0, 1))
        )
    return runs


def marks_of(rows: list[dict], collapsed: pd.DataFrame) -> dict[str, dict[str, float]]:
    """For each method, the shares of its runs that are ``collapsed`` and ``foreign``.

    A run counts as collapsed if it has collapsed at any stage, since all stages are points of the curve. It is foreign
    if it is a model from elsewhere that has not forgotten the target.

    Args:
        rows: as for :func:`read_runs`, with ``foreign`` if that is true.
        collapsed: from :func:`atu.reporting.tables.find_collapsed`, for the same targets.
    """
    marks = pd.DataFrame([{"method": row["method"], "foreign": float(bool(row.get("foreign")))} for row in rows])
    fallen = collapsed.groupby(["method", "target", "seed"])["collapsed"].any().groupby(level="method").mean()
    shares = marks.groupby("method")["foreign"].mean().to_frame()
    shares.insert(0, "collapsed", fallen.reindex(shares.index).fillna(0.0).astype(float))
    return shares.to_dict("index")


def matched(rows: list[dict], resamples: int, seed: int) -> pd.DataFrame:
    """:func:`compare` for every set that should be kept and was asked before and after unlearning.

    Args:
        rows: as for :func:`read_runs`.

    Returns:
        The rows of :func:`compare` after a column ``kept``, the name of the set; empty if there is no such set.
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
    """The level at which a run ends: the one nearest to the last stage, if no earlier stage has fallen to it.

    Args:
        forget: shares of forget recall over the stages, [stages].

    Returns:
        The level; None if it is further away than NEAR, or an earlier stage has fallen to it.
    """
    level = min(LEVELS, key=lambda level: abs(forget[-1] - level))
    return level if abs(forget[-1] - level) <= NEAR and (forget[:-1] > level).all() else None


def why_no_level(forget: np.ndarray) -> str:
    """Why a run ends at no level, in words; arguments as for :func:`end_level`."""
    if np.isnan(forget[-1]):
        return "the base model recalls nothing"
    near = np.abs(forget[-1] - np.array(LEVELS)) <= NEAR
    why = "and an earlier stage had forgotten as much" if near.any() else "which is near none of these levels"
    return f"its kept model recalls {forget[-1]:.0%}, {why}"


def with_attacks(table: pd.DataFrame, attacks: pd.DataFrame, rows: list[dict]) -> tuple[pd.DataFrame, list[str]]:
    """The comparison with added recall under attacks, at the level of forgetting of the attacked models.

    Only kept models, those of last stages, are attacked, so cells at other levels are empty.

    Args:
        table: from :func:`matched`.
        attacks: from :func:`atu.reporting.robustness.compare_attacks`, for the same runs.
        rows: as for :func:`read_runs`.

    Returns:
        The table with a column "under <attack>" for each attack, and a sentence for each method without cells. A cell,
        such as "at 25%: 12.5 → 50.0", has the recall of the primary forget set, in percent, before the attack and after
        its last step.
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
    """The cells of attacks, one row per method, at whichever level; they are the same for every kept set.

    Args:
        table: from :func:`with_attacks`.

    Returns:
        A table indexed by method, with one column per attack.
    """
    columns = {name: name.removeprefix(UNDER) for name in table if name.startswith(UNDER)}
    return table.groupby("method")[[*columns]].max().rename(columns=columns)


def attacks_note(notes: list[str]) -> str:
    """What the columns of attacks mean, followed by ``notes`` about methods without cells."""
    levels = in_words(f"{level:.0%}" for level in LEVELS)
    told = (
        f"Under attacks: {PROBE_SETS[FORGET].label} recall in percent before → behind the last step of the attack, of "
        f"kept models, which are those of last stages. The level in front ({levels} of the base model's recall) is "
        f"within {PERCENT * NEAR:g} points of the model's own, and no earlier stage had fallen to it; no cell is of "
        "another stage."
    )
    return " ".join([told, *notes])
