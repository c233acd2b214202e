"""Scores of probes by type, each with an interval: forgetting by kind of attack, membership inference by score."""

import json

import numpy as np
import pandas as pd

from atu.data.metrics import PERCENT
from atu.data.probe_sets import PROBE_SETS, of_role, typed
from atu.reporting.published import bounds, evaluations, probe_scores, resampled
from atu.reporting.tables import REMARKED, check_scores, read_predictions, remark

SCORES = {"loss": "loss", "zlib": "zlib", "min_k": "Min-K%", "min_k_plus_plus": "Min-K%++"}
COLUMNS = ["run", "type", "value", "low", "high", "targets", "probes"]


def read_attacks(files: tuple[str, ...]) -> pd.DataFrame:
    """Predictions of the adversarial probes: of the sets that declare types, RWKU's nine kinds of attack."""
    predictions = read_predictions(files)
    return predictions[predictions["set"].isin(typed())]


def read_membership(files: tuple[str, ...]) -> pd.DataFrame:
    """One row a text and score: its type is "FM, loss" and the like (FM: about the target, RM: about others).

    Signs are turned as in RWKU's tables: higher is less like training data.

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


READERS = {"adversarial_types": read_attacks, "mia": read_membership}


def by_type(runs: list[dict], resamples: int, seed: int, read=read_attacks) -> pd.DataFrame:
    """Scores by type of probe, means over targets and seeds, with 95 % intervals over targets and probes.

    Args:
        runs: target, run (the row's name) and files (Parquet predictions). Rows of the same name are averaged.
        read: what turns files into predictions, of which those of one set count.

    Returns:
        COLUMNS, value and its interval in percent (NaN if there is a single probe); types in alphabetical order.
    """
    rows = []
    for (name,), targets in evaluations(runs, "run").items():
        frames = [pd.concat([read(files) for files in found], ignore_index=True) for found in targets]
        rng = np.random.default_rng(seed)
        chosen = rng.integers(len(frames), size=(resamples, len(frames)))
        for kind in sorted({kind for frame in frames for kind in frame["type"]}):
            parts = [probe_scores([frame[frame["type"] == kind]]) for frame in frames]
            asked = [part["score"].mean() for part in parts if len(part)]
            if not asked:  # dev probes alone
                continue
            probes = sum(map(len, parts))
            interval = bounds(resampled(parts, chosen, rng), probes)
            values = [PERCENT * value for value in (np.mean(asked), *interval)]
            rows.append((name, kind, *values, len(asked), probes))
    return pd.DataFrame(rows, columns=COLUMNS)


def remarked(table: pd.DataFrame) -> pd.DataFrame:
    """The table with what :func:`atu.reporting.tables.remark` says of each run behind its name."""
    known = [name for name in REMARKED if name in table]
    said = [remark({name: row[name] for name in known}) for _, row in table.iterrows()]
    return table.assign(run=table["run"] + pd.Series(said, index=table.index, dtype=object))


def types_page(table: pd.DataFrame, heading: str) -> pd.DataFrame:
    """One row a type, one column a run, cells "51.2 [40.1, 60.3]"; without an interval where there is none.

    Args:
        table: from :func:`by_type`, with shares (REMARKED) or without.
        heading: of the types.
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
