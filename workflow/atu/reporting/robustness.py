"""Does it stay forgotten: recall under attacks, beside recall before them and the base model under the same attack."""

import json

import numpy as np
import pandas as pd

from atu.common.names import display_name
from atu.data.metrics import PERCENT
from atu.data.probe_sets import PROBE_SETS, primary
from atu.reporting.published import bounds, probe_scores, resampled
from atu.reporting.tables import read_predictions, remark

BASE = "base model"
MEASURES = ("recall", "probability")
COLUMNS = ["method", "attack", "step", "set", "measure", "before", "after", "low", "high"]
COLUMNS += ["base_before", "base_after", "targets", "probes", "foreign"]


def with_probability(predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions with the probability of the first answer in place of their score; none where it was not asked for."""
    if "details" not in predictions or not len(predictions):
        return predictions.head(0)
    found = predictions["details"].map(json.loads).map(lambda details: details.get("probability"))
    return predictions.assign(score=found.astype(float))[found.notna()]


def read_measures(files: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """Predictions of one evaluation by measure."""
    predictions = read_predictions(files)
    return {"recall": predictions, "probability": with_probability(predictions)}


def of_same(predictions: pd.DataFrame, ids: set[str]) -> float:
    """Mean score, in percent, of the test probes with some ids; NaN of none."""
    chosen = predictions[(predictions["split"] == "test") & predictions["id"].isin(ids)]
    return PERCENT * chosen["score"].mean() if len(chosen) else float("nan")


def compare_attacks(runs: list[dict], resamples: int, seed: int, read=read_measures) -> pd.DataFrame:
    """Each method under each attack, means over targets and seeds, test split.

    Args:
        runs: a dict a run, attack and person: target, method, seed, attack, ``files`` (predictions under the attack,
            with a column step), ``before`` (its predictions without), ``base`` and ``base_files`` (of the base model
            without the attack and under it), and ``foreign`` where a model from elsewhere has not forgotten the target.

    Returns:
        COLUMNS, one row a method, attack, step, set and measure; numbers in percent. ``before`` is of the same probes:
        those that the attack asks. low, high: the 95 % interval of ``after`` by bootstrap over targets and their
        probes, NaN of a single probe. What no run was asked (it had collapsed before) has no row.
    """
    rows = []
    groups: dict[tuple[str, str], dict[str, list[dict]]] = {}
    for run in runs:
        groups.setdefault((run["method"], run["attack"]), {}).setdefault(run["target"], []).append(run)
    for (method, attack), targets in groups.items():
        seen: dict[str, dict[str, list]] = {kind: {} for kind in ("files", "before", "base", "base_files")}
        for name, of_target in targets.items():
            for kind, found in seen.items():
                found[name] = [read(tuple(run[kind])) for run in of_target]
        foreign = float(np.mean([run.get("foreign", False) for found in targets.values() for run in found]))
        for measure in MEASURES:
            under = {name: [frame[measure] for frame in found] for name, found in seen["files"].items()}
            asked = pd.concat([frame for frames in under.values() for frame in frames], ignore_index=True)
            if not len(asked):
                continue
            for step, probe_set in asked[["step", "set"]].drop_duplicates().itertuples(index=False):
                parts: list[pd.DataFrame] = []
                others: dict[str, list[float]] = {kind: [] for kind in ("before", "base", "base_files")}
                for name, frames in under.items():
                    now = [frame[(frame["step"] == step) & (frame["set"] == probe_set)] for frame in frames]
                    part = probe_scores(now)
                    parts.append(part)
                    for kind, values in others.items():
                        kept = [frame[measure] for frame in seen[kind][name]]
                        kept = [frame[frame["step"] == step] if "step" in frame else frame for frame in kept]
                        values += [of_same(frame, set(part["id"])) for frame in kept]
                known = [part for part in parts if len(part)]
                if not known:
                    continue
                rng = np.random.default_rng(seed)
                chosen = rng.integers(len(known), size=(resamples, len(known)))
                probes = sum(map(len, known))
                low, high = bounds(PERCENT * resampled(known, chosen, rng), probes)
                row = {"method": method, "attack": attack, "step": int(step), "set": probe_set, "measure": measure}
                row |= {"after": PERCENT * np.mean([part["score"].mean() for part in known]), "low": low, "high": high}
                names = {"before": "before", "base": "base_before", "base_files": "base_after"}
                row |= {names[kind]: mean_of(values) for kind, values in others.items()}
                rows.append(row | {"targets": len(known), "probes": probes, "foreign": foreign})
    return pd.DataFrame(rows, columns=COLUMNS)


def mean_of(values: list[float]) -> float:
    """Mean of what is known; NaN of nothing."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def last_steps(table: pd.DataFrame) -> pd.DataFrame:
    """Of each method and attack the rows of the last step."""
    return table[table["step"] == table.groupby(["method", "attack"])["step"].transform("max")]


def robustness_page(table: pd.DataFrame, probe_set: str) -> pd.DataFrame:
    """For readers: a row a method, a column an attack, cells "11.9 → 45.2 [30.1, 60.3]", recall of one set before the
    attack and behind its last step. The first row is the base model's.

    Args:
        table: from :func:`compare_attacks`.
    """
    rows = last_steps(table)
    rows = rows[(rows["set"] == probe_set) & (rows["measure"] == "recall")]
    cells = [f"{row.before:.1f} → {row.after:.1f}{interval(row)}" for row in rows.itertuples()]
    called = {row.method: display_name(row.method) + remark({"foreign": row.foreign}) for row in rows.itertuples()}
    wide = rows.assign(cell=cells).pivot(index="method", columns="attack", values="cell")
    wide = wide.reindex(index=list(called), columns=list(rows["attack"].unique()))
    wide = wide.rename(index=called)
    base = rows.groupby("attack", sort=False)[["base_before", "base_after"]].mean()
    first = {attack: f"{values.base_before:.1f} → {values.base_after:.1f}" for attack, values in base.iterrows()}
    shown = pd.concat([pd.DataFrame([first], index=[BASE]), wide]).fillna("")
    return shown.rename_axis("Method").reset_index()


def interval(row) -> str:
    """The interval of a row, in brackets; nothing where there is none."""
    return "" if np.isnan(row.low) else f" [{row.low:.1f}, {row.high:.1f}]"


def worst(table: pd.DataFrame) -> pd.DataFrame:
    """The attack behind which each method recalls most of the primary forget set: method, attack, before, after and
    base_before; the method that recalls least first."""
    rows = last_steps(table)
    rows = rows[(rows["set"] == primary("forget")) & (rows["measure"] == "recall")]
    most = rows.loc[rows.groupby("method")["after"].idxmax()]
    return most.sort_values("after", kind="stable")[["method", "attack", "before", "after", "base_before"]]


def verdict(table: pd.DataFrame) -> str:
    """Whose forgetting survives, in a sentence."""
    found = worst(table)
    if found.empty:
        return f"No attack asked {PROBE_SETS[primary('forget')].label}, so none can be judged by it."
    said = [
        f"{display_name(row.method)} {row.before:.0f} → {row.after:.0f} ({row.attack})" for row in found.itertuples()
    ]
    return (
        f"{PROBE_SETS[primary('forget')].label} recall before and behind the attack that brings back most, the method "
        f"that keeps most forgotten first: {'; '.join(said)}. The base model recalls {found['base_before'].mean():.0f}."
    )
