"""The base model's scores before unlearning, each with an interval and the published number, if there is one."""

import numpy as np
import pandas as pd

from atu.data.benchmark import of_test
from atu.data.metrics import PERCENT
from atu.data.probe_sets import recalled
from atu.data.protocol import PROTOCOL
from atu.evaluation.collapse import without_speech
from atu.evaluation.guessing import abilities
from atu.reporting.published import (
    DIGITS,
    compare,
    heading_of,
    intervals,
    probe_scores,
    reading_notes,
    with_readings,
)
from atu.reporting.tables import ABOUT_TARGET, KNOWN_RECALL, check_one_protocol

ROW = {"run": "Before", "published_row": "Before", "seeds": 1}  # columns for :func:`atu.reporting.published.compare`
UNABLE = "○"  # follows the score of a guess if the model does no better
COLUMNS = ["metric", "reading", "value", "low", "high", "n", "known", "targets", "published", "difference", "outside"]
COLUMNS += ["source", "others", "others_source", "guess", "able"]


def score_before(
    predictions: list[pd.DataFrame],
    published: pd.DataFrame,
    model: str,
    resamples: int,
    seed: int,
    others: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The base model's scores on test probes, means over targets.

    Args:
        predictions: one frame for each target.
        published: published numbers: model, method, metric, value, source; empty for another benchmark.
        others: numbers of others who repeated the measurement, with the same columns.

    Returns:
        One row per metric, or two if answers are read in two ways (COLUMNS), with units as in
        :func:`atu.reporting.tables.summarize`. n: probes of all targets.
        known: probes of forget and neighbour sets of whose answer at least half was recalled; missing for other sets.
        guess, able: for utility sets, the score of a guess, and whether the model is better
        (:func:`atu.evaluation.guessing.abilities`).
    """
    probes = [probe_scores([frame]) for frame in predictions]
    check_one_protocol({f"target {i}": frame.attrs.get(PROTOCOL) for i, frame in enumerate(predictions, start=1)})
    ours = with_readings(intervals(probes, resamples, seed), [[frame] for frame in predictions], resamples, seed)
    asked = pd.concat(probes)
    answered = asked[asked["set"].isin(recalled("forget", "neighbour"))]
    known = (answered["score"] >= KNOWN_RECALL).groupby(answered["set"]).sum()
    beside = compare(published[published["method"] == ROW["published_row"]], ours.assign(**ROW), model, {})
    table = ours.rename(columns={"ours": "value", "probes": "n"}).assign(known=ours["metric"].map(known))
    keys = ["metric", "reading"]
    table = table.merge(beside[[*keys, "published", "difference", "outside", "source"]], how="left", on=keys)
    again = published.head(0) if others is None else others
    again = again[(again["model"] == model) & (again["method"] == ROW["published_row"])]
    again = again.rename(columns={"value": "others", "source": "others_source"})
    table = table.merge(again[["metric", "others", "others_source"]], how="left", on="metric")
    able = abilities(of_test(pd.concat(predictions))).rename(columns={"set": "metric"})
    table = table.merge(able[["metric", "guess", "able"]].eval(f"guess = {PERCENT} * guess"), how="left", on="metric")
    return table.astype({"known": "Int64"})[COLUMNS]


def before_page(table: pd.DataFrame) -> pd.DataFrame:
    """The table for readers, as text, with published numbers if there are any."""
    several = [name for name in ("model", "protocol") if name in table and table[name].nunique() > 1]
    cells = {name.title(): table[name] for name in several} | {
        "Metric": [heading_of(row.metric, row.reading) for row in table.itertuples()],
        "Value": table["value"].map(f"{{:.{DIGITS}f}}".format),
        "95 % interval": [
            "none" if np.isnan(row.low) else f"[{row.low:.{DIGITS}f}, {row.high:.{DIGITS}f}]"
            for row in table.itertuples()
        ],
        "Probes": table["n"],
        "Known": table["known"].astype(object).where(table["known"].notna(), ""),
        "Targets": table["targets"],
    }
    if table["guess"].notna().any():
        guesses = table["guess"].map(f"{{:.{DIGITS}f}}".format).where(table["guess"].notna(), "")
        cells |= {"Guess": guesses + np.where(table["able"].eq(False), f" {UNABLE}", "")}
    if table["published"].notna().any():
        there = table["published"].notna()
        cells |= {
            "Published by others": table["published"].map(f"{{:.{DIGITS}f}}".format).where(there, ""),
            "Ours - published": table["difference"].map(f"{{:+.{DIGITS}f}}".format).where(there, ""),
            "Outside": np.where(table["outside"].eq(True), "✗", ""),
            "Source": table["source"].fillna(""),
        }
    if table["others"].notna().any():
        there = table["others"].notna()
        cells |= {
            "Found by others": table["others"].map(f"{{:.{DIGITS}f}}".format).where(there, ""),
            "Where": table["others_source"].fillna(""),
        }
    return pd.DataFrame(cells)


def notes(table: pd.DataFrame, predictions: list[pd.DataFrame], model: str, benchmark: str, protocol: str) -> list[str]:
    """Sentences that explain the table."""
    said = [
        f"The base model {model} on {benchmark}, asked by the protocol {protocol}: test probes, means over targets. "
        "Known: probes of whose answer at least half was recalled; what a model never knew it cannot forget."
    ]
    if table["published"].notna().any():
        said.append("✗: the published number lies outside our 95 % interval.")
    if table["able"].eq(False).any():
        said.append(f"{UNABLE}: no better than guessing, so that nothing can be seen to be lost.")
    said += reading_notes(table)
    answers = pd.concat(predictions)
    found = {
        name: share for name, share in without_speech(answers[answers["set"].isin(ABOUT_TARGET)]).items() if share > 0
    }
    if found:
        shares = " and ".join(f"{share:.1%} {name}" for name, share in found.items())
        said.append(
            f"Of its answers about the targets {shares} (degenerate: no language at all; empty: nothing, which is "
            "scored as the word NOANSWER)."
        )
    return said
