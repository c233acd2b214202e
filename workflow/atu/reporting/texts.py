"""Scores of groups of texts, beside the base model's: how much is memorised, and how large the damage is."""

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import pandas as pd

from atu.common.files import read_parquet
from atu.common.names import display_name, in_words
from atu.data.text_scores import SCORED, TEXT_SCORES, TextScore
from atu.reporting.published import bounds, resampled
from atu.reporting.robustness import BASE
from atu.reporting.tables import ScoreError, remark

COLUMNS = ["method", "group", "score", "value", "low", "high", "base", "targets", "texts", "foreign", "seen"]
TEXT = ["group", "subject", "text"]  # columns that identify a text
LARGE = 1e5  # numbers from here on are written with a power of ten


def read_scores(files: tuple[str, ...]) -> pd.DataFrame:
    """Scores of texts by one model for one person.

    Raises:
        DamagedError: if a file cannot be read.
        ScoreError: if a score is not finite, since a mean would hide it.
    """
    tables = []
    for file in files:
        table = read_parquet(file)
        for name in TEXT_SCORES:
            wrong = table[~np.isfinite(table[name].astype(float))]
            if len(wrong):
                first = wrong.iloc[0]
                raise ScoreError(
                    f"{file}: {name} of text {first['text']} about {first['subject']} is {first[name]}, as of "
                    f"{len(wrong)} texts in all; check the model, and lower its learning rate if it was trained"
                )
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def of_group(tables: list[pd.DataFrame], group: str, score: str) -> pd.DataFrame:
    """One score of each text in a group, the mean over the runs of one person.

    Args:
        tables: from :func:`read_scores`, one per seed.

    Returns:
        One row per text: query (which identifies the text), tokens, score.
    """
    scored = [table for table in tables if len(table)]  # tables of diverged runs are empty, with untyped columns
    rows = pd.concat([table[table["group"] == group] for table in scored], ignore_index=True)
    named = rows.assign(query=rows["subject"].astype(str) + "/" + rows["text"].astype(str))
    return named.groupby("query", as_index=False).agg(tokens=("tokens", "first"), score=(score, "mean"))


def mean_of_group(part: pd.DataFrame, by_token: bool) -> float:
    """The mean over one person's texts, from :func:`of_group`; ``by_token`` gives long texts more weight."""
    return float(np.average(part["score"], weights=part["tokens"] if by_token else None))


def drawn_means(parts: list[pd.DataFrame], chosen: np.ndarray, seed: int, by_token: bool) -> np.ndarray:
    """:func:`mean_of_group` for every person drawn, with the texts resampled each time.

    Args:
        parts: from :func:`of_group`, one per person.
        chosen: indices of people, [resamples, people].

    Returns:
        Shaped as ``chosen``.
    """
    if not by_token:
        return resampled(parts, chosen, np.random.default_rng(seed))
    tokens = [part.assign(score=part["tokens"].astype(float)) for part in parts]
    sums = [part.assign(score=part["score"] * part["tokens"]) for part in parts]
    above, below = (resampled(each, chosen, np.random.default_rng(seed)) for each in (sums, tokens))  # the same draws
    return above / below


def compare_texts(runs: list[dict], resamples: int, seed: int, read=read_scores) -> pd.DataFrame:
    """Scores of groups of texts by the kept models of each method, means over targets and seeds.

    Args:
        runs: one dict per run and person: target, method, seed, ``files`` and ``base`` (scores by the kept model and by
            the base model), ``foreign`` (whether a model from elsewhere has not forgotten the target), and ``seen``
            (for each group, the share of its texts that the run has read; NaN if unknown).

    Returns:
        COLUMNS, one row per method, group and score, in the units of ``TEXT_SCORES``. low, high: the 95 % interval by
        bootstrap over targets and their texts, NaN for a single text. Perplexity is exp of minus a mean over targets;
        each target's value is the mean over all tokens of its texts. A method has no row if no run has scores, because
        training diverged.
    """
    read = cache(read)  # all methods share the base model's files
    methods: dict[str, dict[str, list[dict]]] = {}
    for run in runs:
        methods.setdefault(run["method"], {}).setdefault(run["target"], []).append(run)
    rows: list[dict] = []
    for method, targets in methods.items():
        people = [
            {kind: [read(tuple(run[kind])) for run in of_target] for kind in SCORED} for of_target in targets.values()
        ]
        own = [run for of_target in targets.values() for run in of_target]
        foreign = float(np.mean([run["foreign"] for run in own]))
        for row in scored_rows(people, resamples, seed):
            seen = float(np.mean([run["seen"][row["group"]] for run in own]))
            rows.append({"method": method} | row | {"foreign": foreign, "seen": seen})
    return pd.DataFrame(rows, columns=COLUMNS)


def scored_rows(people: list[dict[str, list[pd.DataFrame]]], resamples: int, seed: int) -> Iterator[dict]:
    """Yield the rows of one method: one per group and score.

    Args:
        people: for each target, the tables of each seed, by SCORED.
    """
    scored = [found for found in people if any(len(table) for table in found["files"])]
    groups = dict.fromkeys(name for found in scored for table in found["files"] for name in table["group"])
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(scored), size=(resamples, len(scored))) if scored else np.empty((0, 0), int)
    for group in groups:
        for column, score in TEXT_SCORES.items():
            parts, base = ([of_group(found[kind], group, column) for found in scored] for kind in SCORED)
            texts = sum(map(len, parts))
            draws = drawn_means(parts, chosen, seed, score.by_token)
            low, high = sorted(map(score.shown, bounds(draws, texts)))
            means = (float(np.mean([mean_of_group(part, score.by_token) for part in each])) for each in (parts, base))
            value, of_base = map(score.shown, means)
            row = {"group": group, "score": score.name, "value": value, "low": low, "high": high, "base": of_base}
            yield row | {"targets": len(scored), "texts": texts}


def written(value: float, digits: int) -> str:
    """A number for readers."""
    return f"{value:.1e}" if abs(value) >= LARGE else f"{value:.{digits}f}"


def cell(row, score: TextScore) -> str:
    """A number with its interval, if it has one: "45.2 [30.1, 60.3]"."""
    low, high = (written(value, score.digits) for value in (row.low, row.high))
    return written(row.value, score.digits) + ("" if np.isnan(row.low) else f" [{low}, {high}]")


def text_scores_page(
    table: pd.DataFrame, group: str, shares: Mapping[str, Mapping[str, float]] | None = None
) -> pd.DataFrame:
    """The table for readers for one group of texts: one row per method, the base model first, one column per score.

    Args:
        table: from :func:`compare_texts`.
        shares: from :func:`atu.reporting.robustness.shares_at_end`, so that a model that had collapsed is marked.
    """
    rows = table[table["group"] == group]
    marks = {row.method: {"foreign": row.foreign} for row in rows.itertuples()} | dict(shares or {})
    methods = list(rows["method"].unique())
    page = pd.DataFrame({"Method": [BASE, *(display_name(name) + remark(marks[name]) for name in methods)]})
    for score in TEXT_SCORES.values():
        of_score = rows[rows["score"] == score.name].set_index("method")
        cells = {row.Index: cell(row, score) for row in of_score.itertuples()}
        page[score.label] = [written(of_score["base"].mean(), score.digits), *map(cells.__getitem__, methods)]
    return page


def explained(table: pd.DataFrame, group: str, block: Mapping) -> str:
    """Which texts a group has, and which methods have read them, since texts trained on are not held-out.

    Args:
        table: from :func:`compare_texts`.
        block: texts, about and subjects, as in the config.

    Raises:
        KeyError: if ``about`` is not one of the config's values.
    """
    whom = {"target": "the target", "others": f"{block.get('subjects')} other people", "shared": "nobody"}
    seen = table[table["group"] == group].drop_duplicates("method").set_index("method")["seen"]
    readers = [
        display_name(method) + (f" ({share:.0%} of them)" if share < 1 else "")
        for method, share in seen.items()
        if share > 0
    ]
    unknown = [display_name(method) for method, share in seen.items() if np.isnan(share)]
    said = f"Read by {in_words(readers) if readers else 'no method'}"
    doubt = f"; not known of {in_words(unknown)}" if unknown else ""
    return f"Texts: `{block['texts']}`, about {whom[block['about']]}. {said}{doubt}."
