"""Whether knowledge stays forgotten: recall under attacks, beside recall before them and that of the base model."""

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
    """Predictions with the first answer's probability as their score; those without a probability are left out."""
    found = measured(predictions, PROBABILITY)
    return predictions.assign(score=found)[found.notna()]


def read_measures(files: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """The predictions of one evaluation, by measure."""
    predictions = read_predictions(files)
    return {"recall": predictions, "probability": with_probability(predictions)}


def of_same(predictions: pd.DataFrame, ids: set[str]) -> float:
    """The mean score, in percent, of the test probes with these ids; NaN if there are none."""
    chosen = of_test(predictions[predictions["id"].isin(ids)])
    return PERCENT * chosen["score"].mean() if len(chosen) else float("nan")


def compare_attacks(runs: list[dict], resamples: int, seed: int, read=read_measures) -> pd.DataFrame:
    """Scores of each method under each attack on test probes, means over targets and seeds.

    Args:
        runs: one dict per run, attack and person: target, method, seed, attack, kind (of the attack), ``files``
            (predictions under the attack, with a column step), ``before`` (the run's predictions without the attack),
            ``base`` and ``base_files`` (the base model's predictions without the attack and under it), and ``foreign``
            if a model from elsewhere has not forgotten the target.

    Returns:
        COLUMNS, one row per method, attack, step, set and measure; numbers in percent. All numbers in a row are over
        the same ``probes``. These are all ``asked`` probes, unless the attack asks in other words: then they are those
        that the base model answers in these words (a recall of at least KNOWN_RECALL), and numbers are NaN if there are
        none. low, high: the 95 % interval of ``after`` by bootstrap over targets and their probes, NaN for a single
        probe. ``runs``: how many runs were asked. What no run was asked, because it had collapsed before, has no row.
    """
    read = cache(read)  # all methods share the base model's files
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
    """Yield the rows of one method, attack and measure: one per step and set.

    Args:
        people: for each target, the predictions of each seed, by COMPARED.
        known: for each target, the base model's predictions under the attack, whose recall decides which probes count;
            None if all count.
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
                ids = set(part["id"])  # people weigh the same, as in `after`, even if a seed of one has diverged
                others[column].append(mean_of([of_same(at(frame, step, probe_set), ids) for frame in found[kind]]))
        if not count:  # only dev probes
            continue
        row = {"step": int(step), "set": probe_set, "asked": count, "runs": runs, "targets": len(parts)}
        row |= {column: mean_of(values) for column, values in others.items()}
        yield row | mean_and_interval(parts, resamples, seed)


def mean_and_interval(parts: list[pd.DataFrame], resamples: int, seed: int) -> dict:
    """The mean score over targets, in percent, with its 95 % interval (after, low, high) and the number of probes.

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
    """The ids of answered probes: those with a recall of at least KNOWN_RECALL."""
    return set(predictions.loc[predictions["score"] >= KNOWN_RECALL, "id"])


def at(predictions: pd.DataFrame, step: int, probe_set: str) -> pd.DataFrame:
    """The predictions of one set, at one step if they were asked over steps."""
    chosen = predictions[predictions["set"] == probe_set]
    return chosen[chosen["step"] == step] if "step" in chosen else chosen


def mean_of(values: list[float]) -> float:
    """The mean of all values that are not NaN; NaN if there are none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def last_steps(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last step of each method and attack."""
    return table[table["step"] == table.groupby(["method", "attack"])["step"].transform("max")]


def shares_at_end(collapsed: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The shares that :func:`atu.reporting.tables.remark` takes, of each method's last stage, which is attacked.

    Args:
        collapsed: from :func:`atu.reporting.tables.find_collapsed`.
    """
    last = collapsed[collapsed["stage"] == collapsed.groupby("method")["stage"].transform("max")]
    return last.astype(dict.fromkeys(REMARKED, float)).groupby("method")[list(REMARKED)].mean().to_dict("index")


def robustness_page(
    table: pd.DataFrame, probe_set: str, shares: Mapping[str, Mapping[str, float]] | None = None
) -> pd.DataFrame:
    """The table for readers: one row per method, one column per attack; the first row is the base model's.

    A cell such as "11.9 → 45.2 [30.1, 60.3]" has the recall of one set before the attack and after its last step. If
    not all asked probes count, it also says how many do.

    Args:
        table: from :func:`compare_attacks`.
        shares: from :func:`shares_at_end`, so that a model that had collapsed before does not pass as robust.
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
    """Recall before → under an attack, with its interval; "none" if no probe counts."""
    return "none" if np.isnan(after) else f"{before:.1f} → {after:.1f}{spread}"


def counted(row) -> str:
    """How many probes of a row count; empty if all do."""
    return f" ({row.probes} of {row.asked})" if row.probes < row.asked else ""


def counted_note(table: pd.DataFrame) -> list[str]:
    """A sentence that says which probes count; empty if all do."""
    some = table[table["probes"] < table["asked"]]["attack"].unique()
    if not len(some):
        return []
    return [
        f"(5 of 7): {' and '.join(some)} asks in other words, and there those probes alone count that the base model "
        f"answers in these words, by a recall of {KNOWN_RECALL:.0%} at least, here 5 of the 7 that were asked."
    ]


def interval(row) -> str:
    """The interval of a row, in brackets; empty if there is none."""
    return "" if np.isnan(row.low) else f" [{row.low:.1f}, {row.high:.1f}]"


def of_primary(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with recall of the primary forget set after the last step of each attack, if any probe counts."""
    rows = last_steps(table)
    return rows[(rows["set"] == primary("forget")) & (rows["measure"] == "recall") & rows["after"].notna()]


def worst(table: pd.DataFrame) -> pd.DataFrame:
    """The attack that brings back most of the primary forget set, for each method: method, attack, before, after.

    The method that recalls least comes first.
    """
    rows = of_primary(table)
    most = rows.loc[rows.groupby("method")["after"].idxmax()]
    return most.sort_values("after", kind="stable")[["method", "attack", "before", "after"]]


def verdict(table: pd.DataFrame, shares: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """A sentence about whose forgetting survives; arguments as for :func:`robustness_page`."""
    found = worst(table)
    if found.empty:
        return f"No attack asked {PROBE_SETS[primary('forget')].label}, so none can be judged by it."
    marks = {method: remark(of_method) for method, of_method in (shares or {}).items()}
    said = [
        f"{display_name(row.method)} {row.before:.0f} → {row.after:.0f} ({row.attack}){marks.get(row.method, '')}"
        for row in found.itertuples()
    ]
    rows = of_primary(table)
    whole = rows[rows["probes"] == rows["asked"]]  # recall of only answered probes would flatter the base model
    base = (whole if len(whole) else rows)["base_before"].mean()
    return (
        f"{PROBE_SETS[primary('forget')].label} recall before and behind the attack that brings back most, the method "
        f"that keeps most forgotten first: {'; '.join(said)}. The base model recalls {base:.0f}."
    )
