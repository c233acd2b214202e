"""Does it stay forgotten: recall under attacks, beside recall before them and the base model under the same attack."""

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import pandas as pd

from atu.common.names import display_name
from atu.data.attacks import BESIDE, COMPARED, KINDS
from atu.data.benchmark import of_test
from atu.data.metrics import PERCENT, PROBABILITY
from atu.data.probe_sets import PROBE_SETS, primary
from atu.evaluation.collapse import measured
from atu.reporting.published import bounds, probe_scores, resampled
from atu.reporting.tables import KNOWN_RECALL, REMARKED, read_predictions, remark

BASE = "base model"
MEASURES = ("recall", "probability")
COLUMNS = ["method", "attack", "step", "set", "measure", "before", "after", "low", "high"]
COLUMNS += ["base_before", "base_after", "targets", "probes", "asked", "runs", "foreign"]


def with_probability(predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions with the probability of the first answer in place of their score; none where it was not asked for."""
    found = measured(predictions, PROBABILITY)
    return predictions.assign(score=found)[found.notna()]


def read_measures(files: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """Predictions of one evaluation by measure."""
    predictions = read_predictions(files)
    return {"recall": predictions, "probability": with_probability(predictions)}


def of_same(predictions: pd.DataFrame, ids: set[str]) -> float:
    """Mean score, in percent, of the test probes with some ids; NaN of none."""
    chosen = of_test(predictions[predictions["id"].isin(ids)])
    return PERCENT * chosen["score"].mean() if len(chosen) else float("nan")


def compare_attacks(runs: list[dict], resamples: int, seed: int, read=read_measures) -> pd.DataFrame:
    """Each method under each attack, means over targets and seeds, test split.

    Args:
        runs: a dict a run, attack and person: target, method, seed, attack, its kind, ``files`` (predictions under the
            attack, with a column step), ``before`` (its predictions without), ``base`` and ``base_files`` (of the base
            model without the attack and under it), and ``foreign`` where a model from elsewhere has not forgotten the
            target.

    Returns:
        COLUMNS, one row a method, attack, step, set and measure; numbers in percent. All numbers of a row are of the
        same ``probes``: those of ``asked`` that the attack asks, or of an attack in other words those that the base
        model answers then (a recall of KNOWN_RECALL); NaN where there are none. low, high: the 95 % interval of
        ``after`` by bootstrap over targets and their probes, NaN of a single probe. ``runs``: how many were asked. What
        no run was asked (it had collapsed before) has no row.
    """
    read = cache(read)  # the base model's files serve every method
    groups: dict[tuple[str, str], dict[str, list[dict]]] = {}
    for run in runs:
        groups.setdefault((run["method"], run["attack"]), {}).setdefault(run["target"], []).append(run)
    rows = []
    for (method, attack), targets in groups.items():
        marks = [run.get("foreign", False) for of_target in targets.values() for run in of_target]
        shared = {"method": method, "attack": attack, "foreign": float(np.mean(marks))}
        people = [{kind: [read(tuple(run[kind])) for run in runs] for kind in COMPARED} for runs in targets.values()]
        (rewords,) = {KINDS[run["kind"]].rewords for of_target in targets.values() for run in of_target}
        known = [found["base_files"][0]["recall"] if rewords else None for found in people]
        for measure in MEASURES:
            measured = [{kind: [one[measure] for one in found[kind]] for kind in COMPARED} for found in people]
            rows += [shared | {"measure": measure} | row for row in measured_rows(measured, known, resamples, seed)]
    return pd.DataFrame(rows, columns=COLUMNS)


def measured_rows(
    people: list[dict[str, list[pd.DataFrame]]], known: list[pd.DataFrame | None], resamples: int, seed: int
) -> Iterator[dict]:
    """The rows of one method, attack and measure: one a step and set that is asked.

    Args:
        people: of each target the predictions of each seed, by COMPARED.
        known: of each target the base model's predictions under the attack, by whose recall probes count; None if all
            do.
    """
    asked = pd.concat([frame for found in people for frame in found["files"]], ignore_index=True)
    if not len(asked):
        return
    for step, probe_set in asked[["step", "set"]].drop_duplicates().itertuples(index=False):
        parts, others = [], {column: [] for column in BESIDE.values()}  # type: ignore[var-annotated]
        count, runs = 0, 0
        for found, base in zip(people, known, strict=True):
            frames = [at(frame, step, probe_set) for frame in found["files"]]
            part = probe_scores(frames)
            count, runs = count + len(part), runs + sum(map(bool, map(len, frames)))
            if base is not None:
                part = part[part["id"].isin(answered(at(base, step, probe_set)))]
            if not len(part):
                continue
            parts.append(part)
            for kind, column in BESIDE.items():
                ids = set(part["id"])  # people count alike, as in `after`, also where a seed of one has diverged
                others[column].append(mean_of([of_same(at(frame, step, probe_set), ids) for frame in found[kind]]))
        if not count:  # dev probes alone
            continue
        row = {"step": int(step), "set": probe_set, "asked": count, "runs": runs, "targets": len(parts)}
        row |= {column: mean_of(values) for column, values in others.items()}
        yield row | mean_and_interval(parts, resamples, seed)


def mean_and_interval(parts: list[pd.DataFrame], resamples: int, seed: int) -> dict:
    """Mean score of targets, in percent, its 95 % interval (after, low, high), and of how many probes.

    Args:
        parts: rows id, query, score of each target.
    """
    if not parts:
        return {"after": float("nan"), "low": float("nan"), "high": float("nan"), "probes": 0}
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(parts), size=(resamples, len(parts)))
    probes = sum(map(len, parts))
    low, high = bounds(PERCENT * resampled(parts, chosen, rng), probes)
    after = PERCENT * np.mean([part["score"].mean() for part in parts])
    return {"after": after, "low": low, "high": high, "probes": probes}


def answered(predictions: pd.DataFrame) -> set[str]:
    """The ids of probes that are answered: by a recall of KNOWN_RECALL."""
    return set(predictions.loc[predictions["score"] >= KNOWN_RECALL, "id"])


def at(predictions: pd.DataFrame, step: int, probe_set: str) -> pd.DataFrame:
    """Predictions of one set, and of one step where they were asked over steps."""
    chosen = predictions[predictions["set"] == probe_set]
    return chosen[chosen["step"] == step] if "step" in chosen else chosen


def mean_of(values: list[float]) -> float:
    """Mean of what is known; NaN of nothing."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def last_steps(table: pd.DataFrame) -> pd.DataFrame:
    """Of each method and attack the rows of the last step."""
    return table[table["step"] == table.groupby(["method", "attack"])["step"].transform("max")]


def shares_at_end(collapsed: pd.DataFrame) -> dict[str, dict[str, float]]:
    """What :func:`atu.reporting.tables.remark` says of the last stage of each method, which is what is attacked.

    Args:
        collapsed: from :func:`atu.reporting.tables.find_collapsed`.
    """
    last = collapsed[collapsed["stage"] == collapsed.groupby("method")["stage"].transform("max")]
    return last.astype(dict.fromkeys(REMARKED, float)).groupby("method")[list(REMARKED)].mean().to_dict("index")


def robustness_page(
    table: pd.DataFrame, probe_set: str, shares: Mapping[str, Mapping[str, float]] | None = None
) -> pd.DataFrame:
    """For readers: a row a method, a column an attack, cells "11.9 → 45.2 [30.1, 60.3]", recall of one set before the
    attack and behind its last step, and where not all probes that were asked count, of how many. The first row is the
    base model's.

    Args:
        table: from :func:`compare_attacks`.
        shares: from :func:`shares_at_end`, so that a model that had collapsed before is no robust one.
    """
    rows = last_steps(table)
    rows = rows[(rows["set"] == probe_set) & (rows["measure"] == "recall")]
    cells = [change(row.before, row.after, interval(row)) + counted(row) for row in rows.itertuples()]
    marks = {row.method: {"foreign": row.foreign} for row in rows.itertuples()} | dict(shares or {})
    called = {method: display_name(method) + remark(marks[method]) for method in rows["method"].unique()}
    wide = rows.assign(cell=cells).pivot(index="method", columns="attack", values="cell")
    wide = wide.reindex(index=list(called), columns=list(rows["attack"].unique()))
    wide = wide.rename(index=called)
    numbers = {"base_before": "mean", "base_after": "mean", "probes": "max", "asked": "max"}
    base = rows.groupby("attack", sort=False).agg(numbers)
    first = {row.Index: change(row.base_before, row.base_after) + counted(row) for row in base.itertuples()}
    shown = pd.concat([pd.DataFrame([first], index=[BASE]), wide]).fillna("")
    return shown.rename_axis("Method").reset_index()


def change(before: float, after: float, spread: str = "") -> str:
    """Recall before → under an attack, and its interval; none where no probe counts."""
    return "none" if np.isnan(after) else f"{before:.1f} → {after:.1f}{spread}"


def counted(row) -> str:
    """How many probes of a row count, where not all do."""
    return f" ({row.probes} of {row.asked})" if row.probes < row.asked else ""


def counted_note(table: pd.DataFrame) -> list[str]:
    """A sentence that says which probes count, where not all do."""
    some = table[table["probes"] < table["asked"]]["attack"].unique()
    if not len(some):
        return []
    return [
        f"(5 of 7): {' and '.join(some)} asks in other words, and there those probes alone count that the base model "
        f"answers in these words, by a recall of {KNOWN_RECALL:.0%} at least, here 5 of the 7 that were asked."
    ]


def interval(row) -> str:
    """The interval of a row, in brackets; nothing where there is none."""
    return "" if np.isnan(row.low) else f" [{row.low:.1f}, {row.high:.1f}]"


def of_primary(table: pd.DataFrame) -> pd.DataFrame:
    """Recall of the primary forget set behind the last step of each attack, where any probe counts."""
    rows = last_steps(table)
    return rows[(rows["set"] == primary("forget")) & (rows["measure"] == "recall") & rows["after"].notna()]


def worst(table: pd.DataFrame) -> pd.DataFrame:
    """The attack behind which each method recalls most of the primary forget set: method, attack, before and after; the
    method that recalls least first."""
    rows = of_primary(table)
    most = rows.loc[rows.groupby("method")["after"].idxmax()]
    return most.sort_values("after", kind="stable")[["method", "attack", "before", "after"]]


def verdict(table: pd.DataFrame, shares: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """Whose forgetting survives, in a sentence; arguments as of :func:`robustness_page`."""
    found = worst(table)
    if found.empty:
        return f"No attack asked {PROBE_SETS[primary('forget')].label}, so none can be judged by it."
    marks = {method: remark(of_method) for method, of_method in (shares or {}).items()}
    said = [
        f"{display_name(row.method)} {row.before:.0f} → {row.after:.0f} ({row.attack}){marks.get(row.method, '')}"
        for row in found.itertuples()
    ]
    rows = of_primary(table)
    whole = rows[rows["probes"] == rows["asked"]]  # the base model's recall of answered probes alone would flatter it
    base = (whole if len(whole) else rows)["base_before"].mean()
    return (
        f"{PROBE_SETS[primary('forget')].label} recall before and behind the attack that brings back most, the method "
        f"that keeps most forgotten first: {'; '.join(said)}. The base model recalls {base:.0f}."
    )
