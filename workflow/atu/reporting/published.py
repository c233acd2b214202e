"""Published numbers beside ours, with bootstrap intervals; a published number is never in a column of ours."""

import json
from itertools import chain

import numpy as np
import pandas as pd

from atu.data.benchmark import of_test
from atu.data.probe_sets import AVERAGES, PROBE_SETS
from atu.data.protocol import PROTOCOL, READINGS, protocol_of
from atu.reporting.tables import HEADINGS, REMARKED, check_one_protocol, read_predictions, remark

NOTES = "paper-notes"  # the source of numbers that were not read in the publication itself
DIGITS = 1  # decimals that published numbers have
MEASURED = ["metric", "reading", "ours", "low", "high", "targets", "probes"]
COLUMNS = ["run", "seeds", "published_row", "metric", "reading", "targets", "probes", "ours", "low", "high"]
COLUMNS += [*REMARKED, "published", "difference", "outside", "status", "source", "second_hand"]


def probe_scores(predictions: list[pd.DataFrame]) -> pd.DataFrame:
    """Each test probe's mean score over the runs of one target.

    Args:
        predictions: one evaluation for each seed.

    Returns:
        One row per test probe: set, id, query, score.
    """
    asked = pd.concat(map(of_test, predictions), ignore_index=True)
    return asked.groupby(["set", "id"], as_index=False).agg(query=("query", "first"), score=("score", "mean"))


def resampled(parts: list[pd.DataFrame], chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean score on one probe set for every target drawn, with the target's probes resampled each time.

    Args:
        parts: rows id, query, score of each target.
        chosen: indices of targets, [resamples, targets].

    Returns:
        Shaped as ``chosen``; NaN for targets that were not asked the set. If all targets have the same probes
        (utility), they are not independent, so a resample draws the probes once for all targets.
    """
    scores = [part["score"].to_numpy() for part in parts]
    means = np.full(chosen.shape, np.nan)
    asked = [list(part["query"]) for part in parts if len(part)]
    if len(parts) > 1 and len(asked) == len(parts) and all(queries == asked[0] for queries in asked):
        size = len(asked[0])
        counts = rng.multinomial(size, np.full(size, 1 / size), size=len(chosen))
        return np.take_along_axis(counts @ np.array(scores).T / size, chosen, axis=1)
    for i, values in enumerate(scores):
        drawn, size = chosen == i, len(values)
        if size:
            means[drawn] = rng.multinomial(size, np.full(size, 1 / size), size=drawn.sum()) @ values / size
    return means


def bounds(draws: np.ndarray, probes: int) -> tuple[float, float]:
    """The 95 % interval of a mean over targets; NaN if there is only one probe.

    Args:
        draws: from :func:`resampled`; resamples without any target that was asked are left out.
    """
    if probes < 2:
        return float("nan"), float("nan")
    asked = draws[~np.isnan(draws).all(axis=1)]
    low, high = np.percentile(np.nanmean(asked, axis=1), [2.5, 97.5])
    return float(low), float(high)


def intervals(targets: list[pd.DataFrame], resamples: int, seed: int) -> pd.DataFrame:
    """Means over targets, as in the paper's table, with 95 % intervals by bootstrap over targets and probes.

    Args:
        targets: probes of each target, from :func:`probe_scores`.
        resamples: the number of resamples; each draws as many targets, and as many probes of each target, as there are.

    Returns:
        One row per metric: metric, reading (empty), ours, low, high, targets, probes; units as in
        :func:`atu.reporting.tables.summarize`.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(targets), size=(resamples, len(targets)))
    values, draws, sizes = {}, {}, {}
    for name in (name for name in PROBE_SETS if any((part["set"] == name).any() for part in targets)):
        parts = [part[part["set"] == name] for part in targets]
        scale = PROBE_SETS[name].scoring.scale
        values[name] = scale * np.array([part["score"].mean() for part in parts])
        draws[name] = scale * resampled(parts, chosen, rng)
        sizes[name] = sum(map(len, parts))
    for name, average in AVERAGES.items():
        if set(average.weights) <= set(values):
            whole = sum(average.weights.values())
            for table in (values, draws):
                shares = [weight / whole * table[member] for member, weight in average.weights.items()]
                table[name] = np.sum(shares, axis=0)
            sizes[name] = sum(sizes[member] for member in average.weights)
    rows = []
    for name in (name for name in HEADINGS if name in values and not np.isnan(values[name]).all()):
        low, high = bounds(draws[name], sizes[name])
        row = {"metric": name, "reading": "", "ours": np.nanmean(values[name]), "low": low, "high": high}
        rows.append(row | {"targets": int((~np.isnan(values[name])).sum()), "probes": sizes[name]})
    return pd.DataFrame(rows, columns=MEASURED)


def evaluations(runs: list[dict], *keys: str) -> dict[tuple, list[list[tuple[str, ...]]]]:
    """Files of evaluations, grouped by the values of the keys, with one list per target.

    Each evaluation counts once, since all methods and seeds share the base model's predictions.
    """
    groups: dict[tuple, dict[str, dict]] = {}
    for run in runs:
        targets = groups.setdefault(tuple(run[key] for key in keys), {})
        targets.setdefault(run["target"], {})[tuple(run["files"])] = None
    return {key: list(map(list, targets.values())) for key, targets in groups.items()}


def reread(predictions: pd.DataFrame, reading: str) -> pd.DataFrame:
    """The predictions on sets whose answers are read in two ways, with the scores of one of READINGS."""
    details = predictions["details"].map(json.loads) if "details" in predictions else pd.Series(dtype=object)
    named = details[details.map(lambda found: reading in found).astype(bool)].index
    rows = predictions[predictions["set"].isin(predictions.loc[named, "set"])]
    return rows.assign(score=[details[i].get(reading, score) for i, score in rows["score"].items()])


def with_readings(table: pd.DataFrame, targets: list[list[pd.DataFrame]], resamples: int, seed: int) -> pd.DataFrame:
    """A table of :func:`intervals` with two rows for each set whose answers are read in two ways.

    The first row is the score, labelled with the protocol's reading; the second is the other reading.

    Args:
        targets: predictions of each target, one frame per evaluation.
        resamples, seed: as for :func:`intervals`.
    """
    asked = [frame for frames in targets for frame in frames]
    names = {frame.attrs[PROTOCOL] for frame in asked if len(reread(frame, "whole"))}
    if not names:
        return table
    (own,) = (protocol_of(name).reading for name in names)
    (other,) = READINGS.keys() - {own}
    again = [probe_scores([reread(frame, other) for frame in frames]) for frames in targets]
    others = intervals(again, resamples, seed).assign(reading=other)
    both = table.assign(reading=np.where(table["metric"].isin(others["metric"]), own, table["reading"]))
    both = pd.concat([both, others], ignore_index=True)
    return both.sort_values("metric", key=lambda metrics: metrics.map(list(HEADINGS).index), kind="stable")


def heading_of(metric: str, reading: str) -> str:
    """The heading of a metric, with the reading of its number if there are two."""
    return HEADINGS[metric] + (f" ({READINGS[reading]})" if reading else "")


def measure(runs: list[dict], resamples: int, seed: int, read=read_predictions) -> pd.DataFrame:
    """:func:`intervals` for every row of the paper's table that has a published counterpart.

    Args:
        runs: dicts of target, seed, stage, files (Parquet predictions), run (the row's name) and published_row (its
            name in the published tables). Rows of the same name are averaged over targets and seeds.

    Returns:
        The rows of :func:`with_readings` with run, seeds and published_row.

    Raises:
        ProtocolError: if the runs were asked by two protocols.
    """
    asked: dict[str, str | None] = {}
    tables = [pd.DataFrame(columns=[*MEASURED, "run", "published_row", "seeds"])]
    for (name, row), targets in evaluations(runs, "run", "published_row").items():
        predictions = [[read(files) for files in found] for found in targets]
        for files, frame in zip(chain(*targets), chain(*predictions), strict=True):
            asked[", ".join(map(str, files))] = frame.attrs.get(PROTOCOL)
        check_one_protocol(asked)
        table = intervals([probe_scores(frames) for frames in predictions], resamples, seed)
        table = with_readings(table, predictions, resamples, seed)
        tables.append(table.assign(run=name, published_row=row, seeds=max(map(len, targets))))
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def shares_of_rows(runs: list[dict], collapsed: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The shares that :func:`atu.reporting.tables.remark` takes, by name of the row; unknown shares are NaN.

    Args:
        runs: as for :func:`measure`, with method and stage.
        collapsed: from :func:`atu.reporting.tables.find_collapsed`.
    """
    shares = collapsed.reindex(columns=["method", "stage", *REMARKED]).astype(dict.fromkeys(REMARKED, float))
    means = shares.groupby(["method", "stage"]).mean()
    none = dict.fromkeys(REMARKED, 0.0)
    return {
        run["run"]: dict(means.loc[key]) if (key := (run["method"], run["stage"])) in means.index else none
        for run in runs
    }


def compare(
    published: pd.DataFrame, ours: pd.DataFrame, model: str, shares: dict[str, dict[str, float]]
) -> pd.DataFrame:
    """The published numbers of a model, each with ours if there is one.

    Args:
        published: model, method, metric, value, source.
        ours: from :func:`measure`.
        shares: from :func:`shares_of_rows`.

    Returns:
        One row per published number and run of ours, or two if answers are read in two ways (COLUMNS). ``outside``:
        whether the published value lies outside our interval, after rounding to the published precision. ``status``:
        compared; not run; or not asked, if there is such a run but without this metric.
    """
    theirs = published[published["model"] == model].rename(columns={"method": "published_row", "value": "published"})
    names = ours[["run", "seeds", "published_row"]].drop_duplicates()
    table = theirs.merge(names, how="left", on="published_row")
    table = table.merge(ours, how="left", on=["run", "seeds", "published_row", "metric"]).fillna({"reading": ""})
    for name in REMARKED:
        table[name] = table["run"].map({run: found[name] for run, found in shares.items()}).astype(float)
    table["status"] = np.where(table["run"].isna(), "not run", np.where(table["ours"].isna(), "not asked", "compared"))
    table["difference"] = table["ours"] - table["published"]
    low, high = table["low"].round(DIGITS), table["high"].round(DIGITS)
    outside = (table["published"] < low) | (table["published"] > high)
    table["outside"] = outside.astype(object).where(low.notna(), None)  # without an interval there is no answer
    table["second_hand"] = table["source"] == NOTES
    for column in ("seeds", "targets", "probes"):
        table[column] = table[column].astype("Int64")
    return table[COLUMNS]


def sentences(table: pd.DataFrame, published: pd.DataFrame, model: str, benchmark: str, measured_on: str) -> list[str]:
    """Sentences that say what the comparison covers, even if there is nothing to compare."""
    done = table[table["status"] == "compared"]
    said = []
    if table.empty:
        models = ", ".join(published["model"].unique())
        said.append(
            f"No published number is of {model} on {benchmark}; those in the file are of {models} on {measured_on}."
        )
    elif done.empty:
        said.append("No published number has a number of ours to stand beside.")
    else:
        scores = done.drop_duplicates(["run", "published_row", "metric"])  # the first of two readings
        outside = scores["outside"].eq(True).sum()
        said.append(f"{outside} of {len(scores)} published numbers lie outside our 95 % interval (marked ✗).")
        if done["second_hand"].any():
            said.append("Those marked ‡ are second-hand: read in notes about the publication, not in it.")
    said += reading_notes(table)
    for status in ("not run", "not asked"):
        rows = table[table["status"] == status]
        if status == "not asked":
            names = [f"{row.run} {HEADINGS.get(row.metric, row.metric)}" for row in rows.itertuples()]
        else:
            names = list(rows["published_row"].unique())
        if names:
            said.append(f"Published, {status} here: {', '.join(names)}.")
    return said


def unlike_notes(runs: list[dict]) -> list[str]:
    """A sentence about runs that are not compared with their published row; empty if there are none.

    Args:
        runs: dicts of run (the row's name) and unlike (the published row, and each setting that differs from it).
    """
    found = {run["run"]: run["unlike"] for run in runs}
    if not found:
        return []
    said = [f"{name} not beside {row} ({', '.join(settings)})" for name, (row, *settings) in found.items()]
    return [f"Run with other settings than those published, so not compared: {'; '.join(said)}."]


def reading_notes(table: pd.DataFrame) -> list[str]:
    """A sentence about rows whose answers are read in two ways; empty if there are none."""
    own = table.loc[table["reading"] != "", "reading"].unique()
    if not len(own):
        return []
    return [
        "Answers that are one text in the data are read in two ways, each in a row of its own: whole, and by "
        f"characters, as RWKU's code does, to which such a text is a list of answers. Scores are of the reading "
        f"{READINGS[own[0]]}, which stands first."
    ]


def published_page(table: pd.DataFrame) -> pd.DataFrame:
    """The compared rows for readers, as text."""
    done = table[table["status"] == "compared"]
    seeds = len(done) > 0 and done["seeds"].max() > 1
    rows = [
        {
            "Run": row.run + remark({name: getattr(row, name) for name in REMARKED}),
            "Metric": heading_of(row.metric, row.reading),
            "Targets": row.targets,
            **({"Seeds": row.seeds} if seeds else {}),
            "Probes": row.probes,
            "Ours": f"{row.ours:.{DIGITS}f}",
            "95 % interval": "none" if np.isnan(row.low) else f"[{row.low:.{DIGITS}f}, {row.high:.{DIGITS}f}]",
            "Published by others": f"{row.published:.{DIGITS}f}" + " ‡" * row.second_hand,
            "Ours - published": f"{row.difference:+.{DIGITS}f}",
            "Outside": "✗" if row.outside else "",
            "Source": row.source + (" (second-hand)" if row.second_hand else ""),
        }
        for row in done.itertuples()
    ]
    return pd.DataFrame(rows)
