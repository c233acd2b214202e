"""Forgetting by type of attack: RWKU's nine kinds of adversarial probes, each with an interval."""

import numpy as np
import pandas as pd

from atu.published import bounds, probe_scores, resampled
from atu.tables import PERCENT, read_outcomes

SET = "forget_aa"
COLUMNS = ["run", "type", "recall", "low", "high", "targets", "probes"]


def by_type(runs: list[dict], resamples: int, seed: int, read=read_outcomes) -> pd.DataFrame:
    """Recall by type of attack, means over targets and seeds, with 95 % intervals over targets and probes.

    Args:
        runs: target, run (the row's name) and files (Parquet outcomes). Rows of the same name are averaged.

    Returns:
        COLUMNS, recall and its interval in percent (NaN if there is a single probe); types in alphabetical order.
    """
    groups: dict[str, dict[str, dict]] = {}
    for run in runs:
        groups.setdefault(run["run"], {}).setdefault(run["target"], {})[tuple(run["files"])] = None
    rows = []
    for name, targets in groups.items():
        frames = [pd.concat([read(files) for files in found], ignore_index=True) for found in targets.values()]
        frames = [frame[frame["set"] == SET] for frame in frames]
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


def layout(table: pd.DataFrame) -> pd.DataFrame:
    """One row a type, one column a run, cells "51.2 [40.1, 60.3]"; without an interval where there is none."""
    cells = [
        f"{row.recall:.1f}" + ("" if np.isnan(row.low) else f" [{row.low:.1f}, {row.high:.1f}]")
        for row in table.itertuples()
    ]
    wide = table.assign(cell=cells).pivot(index="type", columns="run", values="cell")
    return wide.reindex(columns=table["run"].unique()).rename_axis("Attack", axis="index").reset_index()
