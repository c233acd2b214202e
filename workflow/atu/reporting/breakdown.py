"""Scores by type of probe, with intervals: forgetting by kind of adversarial probe, membership inference by score."""

import json

import numpy as np
import pandas as pd

from atu.data.benchmark import of_test
from atu.data.metrics import PERCENT
from atu.data.probe_sets import PROBE_SETS, of_role, typed
from atu.reporting.published import bounds, evaluations, probe_scores, resampled
from atu.reporting.tables import REMARKED, check_scores, read_predictions, remark

SCORES = {"loss": "loss", "zlib": "zlib", "min_k": "Min-K%", "min_k_plus_plus": "Min-K%++"}
COLUMNS = ["run", "type", "value", "low", "high", "targets", "probes"]


def read_attacks(files: tuple[str, ...]) -> pd.DataFrame:
    """Predictions of the adversarial probes: the sets that declare types, RWKU's nine kinds."""
    predictions = read_predictions(files)
    return predictions[predictions["set"].isin(typed())]


def read_membership(files: tuple[str, ...]) -> pd.DataFrame:
    """One row per text and score, with a type such as "FM, loss" (FM: about the target, RM: about others).

    Signs are as in RWKU's tables: higher means less like training data.

    Raises:
        ScoreError: if a score is not finite.
    """
    predictions = read_predictions(files)
    rows = []
    for row in predictions[predictions["set"].isin(of_role("membership"))].itertuples():
        details = json.loads(row.details)
        for name, written in SCORES.items():
            kept = {"set": row.set, "id": row.id, "split": row.split, "query": row.query}
            rows.append(kept | {"type": f"{PROBE_SETS[row.set].short}, {written}", "score": -details[name]})
    scores = pd.DataFrame(rows, columns=["set", "id", "split", "query", "type", "score"])
    check_scores(scores, ", ".join(map(str, files)))
    return scores


MEMBERSHIP = "mia"  # the table of membership inference
READERS = {"adversarial_types": read_attacks, MEMBERSHIP: read_membership}


def by_type(runs: list[dict], resamples: int, seed: int, read=read_attacks) -> pd.DataFrame:
    """Scores by type of probe: means over targets and seeds, with 95 % intervals over targets and probes.

    Args:
        runs: dicts of target, run (the row's name) and files (Parquet predictions). Rows of the same name are averaged.
        read: returns the predictions in the files.

    Returns:
        COLUMNS; value and its interval in percent (no interval, NaN, for a single probe); types in alphabetical order.
    """
    rows = []
    for (name,), targets in evaluations(runs, "run").items():
        frames = [pd.concat([read(files) for files in found], ignore_index=True) for found in targets]
        rng = np.random.default_rng(seed)
        chosen = rng.integers(len(frames), size=(resamples, len(frames)))
        for kind in sorted({kind for frame in frames for kind in frame["type"]}):
            parts = [probe_scores([frame[frame["type"] == kind]]) for frame in frames]
            asked = [part["score"].mean() for part in parts if len(part)]
            if not asked:  # only dev probes
                continue
            probes = sum(map(len, parts))
            interval = bounds(resampled(parts, chosen, rng), probes)
            values = [PERCENT * value for value in (np.mean(asked), *interval)]
            rows.append((name, kind, *values, len(asked), probes))
    return pd.DataFrame(rows, columns=COLUMNS)


def looks_trained_on(files: tuple[str, ...]) -> dict[str, dict[str, pd.DataFrame]]:
    """Test texts of one evaluation, by score and set; in ``score``, higher means more like training data."""
    texts = read_membership(files)
    texts = of_test(texts)
    found: dict[str, dict[str, pd.DataFrame]] = {name: {} for name in SCORES}
    for (kind, probe_set), part in texts.groupby(["type", "set"]):
        name = next(key for key, written in SCORES.items() if kind == f"{PROBE_SETS[probe_set].short}, {written}")
        found[name][probe_set] = part.assign(score=-part["score"])
    return found


def auc(above: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """How often a text of the first kind scores above one of the second, 0 to 1; ties count half.

    Args:
        above: 1, 0.5 or 0 for each pair, [first, second].
        first, second: how often each text counts, [first] and [second].
    """
    return float(first @ above @ second / (first.sum() * second.sum()))


def separations(runs: list[dict], resamples: int, seed: int, read=looks_trained_on) -> pd.DataFrame:
    """The AUC of each score in membership inference, in percent, with 95 % intervals.

    The AUC says how often a text about the target looks more like training data than a text about others. It is 50 if
    nothing tells them apart, and less if only texts about the target have become unlikely. Values are means over
    targets and seeds; intervals are over targets and texts.

    Args:
        runs: as for :func:`by_type`.

    Returns:
        COLUMNS, one row per run and score, with a type such as "AUC, loss"; no row if one of the sets has no test text.
    """
    membership = of_role("membership")
    about = [name for name in membership if not PROBE_SETS[name].shared]
    others = [name for name in membership if PROBE_SETS[name].shared]
    rows = []
    for (name,), targets in evaluations(runs, "run").items():
        texts_of = [[read(files) for files in found] for found in targets]
        for key, written in SCORES.items():
            tables: list[list[np.ndarray]] = []
            for found in texts_of:
                sets = [by_score[key] for by_score in found]
                pairs = [(one.get(a), one.get(b)) for one in sets for a in about for b in others]
                tables.append([compare_all(a, b) for a, b in pairs if a is not None and b is not None])
            known = [table for table in tables if table]
            if not known:
                continue
            rng = np.random.default_rng(seed)
            values = [np.mean([above.mean() for above in table]) for table in known]
            draws = []
            for _ in range(resamples):
                chosen = rng.integers(len(known), size=len(known))
                draws.append(np.mean([drawn_auc(known[i], rng) for i in chosen]))
            texts = sum(table[0].shape[0] for table in known)
            low, high = np.percentile(draws, [2.5, 97.5]) if texts > 1 else (np.nan, np.nan)
            interval = (PERCENT * float(value) for value in (np.mean(values), low, high))
            rows.append((name, f"AUC, {written}", *interval, len(known), texts))
    return pd.DataFrame(rows, columns=COLUMNS)


def compare_all(first: pd.DataFrame, second: pd.DataFrame) -> np.ndarray:
    """Whether each first text scores above each second text, [first, second]; 0.5 if they are equal."""
    one, other = first["score"].to_numpy()[:, None], second["score"].to_numpy()[None]
    return (one > other) + 0.5 * (one == other)


def drawn_auc(tables: list[np.ndarray], rng: np.random.Generator) -> float:
    """The AUC of resampled texts; all seeds of a target use the same draw."""
    sizes = tables[0].shape
    first, second = (rng.multinomial(size, np.full(size, 1 / size)).astype(float) for size in sizes)
    return float(np.mean([auc(table, first, second) for table in tables]))


def remarked(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the remark of :func:`atu.reporting.tables.remark` after each run's name."""
    known = [name for name in REMARKED if name in table]
    said = [remark({name: row[name] for name in known}) for _, row in table.iterrows()]
    return table.assign(run=table["run"] + pd.Series(said, index=table.index, dtype=object))


def types_page(table: pd.DataFrame, heading: str) -> pd.DataFrame:
    """The table for readers: one row per type, one column per run, cells "51.2 [40.1, 60.3]" or without interval.

    Args:
        table: from :func:`by_type`, with or without shares (REMARKED).
        heading: the heading of the column of types.
    """
    table = remarked(table)
    cells = [
        f"{row.value:.1f}" + ("" if np.isnan(row.low) else f" [{row.low:.1f}, {row.high:.1f}]")
        for row in table.itertuples()
    ]
    wide = table.assign(cell=cells).pivot(index="type", columns="run", values="cell")
    wide = wide.reindex(columns=table["run"].unique()).rename_axis(heading, axis="index")
    wide.insert(0, "Probes", table.groupby("type")["probes"].max())
    return wide.reset_index()
