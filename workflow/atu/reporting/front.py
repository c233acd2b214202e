"""The first page: the findings in sentences computed from the tables, with the main table and the trade-off."""

from collections.abc import Iterable
from html import escape

import pandas as pd

from atu.common.names import display_name, in_words, label
from atu.data.benchmark import TEST
from atu.data.metrics import PERCENT
from atu.data.probe_sets import PROBE_SETS, of_role, primary
from atu.reporting.pages import document, legend, paragraphs, plain
from atu.reporting.tables import KNOWN_RECALL, MARKED, reported, taus_of

EXACT = 9  # decimals: rounding makes sums of the same scores in another order equal
NAMED = 3  # a sentence names at most this many methods or stages, and otherwise gives their number
# By column of ends: its set, the verb for one method, the verb for several, and the verb before a share.
SETS = {
    "forget": (primary("forget"), "leaves least of", "leave least of", "leaving"),
    "kept": (primary("neighbour"), "keeps most of", "keep most of", "keeping"),
}


def findings(long: pd.DataFrame, dev_targets: list[str], collapsed: pd.DataFrame) -> list[str]:
    """What the tables show, in at most three sentences.

    They say what is left and kept, what has collapsed, and what the base model does not know. A sentence without data
    is left out.

    Args:
        long: from :func:`atu.reporting.tables.collect`; of a grid, only the chosen variant.
        collapsed: from :func:`atu.reporting.tables.find_collapsed`, for the same runs.
    """
    rows = reported(long, dev_targets)
    rows = rows[rows["split"] == TEST].astype({"tau": float})
    if rows.empty:
        return ["No test probe was asked."]
    fallen = reported(collapsed, dev_targets)
    said = [what_is_kept(ends(rows, fallen), rows), what_collapsed(rows, fallen), what_is_not_known(rows)]
    return [sentence for sentence in said if sentence]


def ends(rows: pd.DataFrame, collapsed: pd.DataFrame) -> pd.DataFrame:
    """The last stage of each method after which no run has collapsed.

    Args:
        rows: the rows of the long table that count.

    Returns:
        name, forget and kept (the shares left of the primary forget and neighbour set) and the numbers behind them
        (forget_before, forget_after, kept_before, kept_after). They are NaN if a run was not asked before or then, or
        if the value before is 0. A method has no row if it has no such stage, or if it is a model from elsewhere that
        has not forgotten its target.
    """
    found = []
    cells = rows.groupby(["method", "stage", "metric"])["value"].agg(["mean", "count"])
    marked = collapsed[collapsed[list(MARKED)].astype(bool).any(axis=1)]
    gone, taus = set(zip(marked["method"], marked["stage"], strict=True)), taus_of(rows)
    for method in rows["method"].unique():
        numbers = rows.loc[rows["method"] == method, "stage"].unique()
        standing = [number for number in numbers if number > 0 and (method, number) not in gone]
        if not standing:
            continue
        row = {"name": label(method, max(standing), taus[method])}
        for key, (metric, *_) in SETS.items():
            there = [(method, stage, metric) in cells.index for stage in (0, max(standing))]
            if not all(there):
                continue
            before, after = (cells.loc[(method, stage, metric)] for stage in (0, max(standing)))
            if before["count"] == after["count"] and before["mean"] > 0:
                row |= {key: round(after["mean"] / before["mean"], EXACT)}
                row |= {f"{key}_before": before["mean"], f"{key}_after": after["mean"]}
        found.append(row)
    columns = [f"{key}{part}" for key in SETS for part in ("", "_before", "_after")]
    return pd.DataFrame(found, columns=["name", *columns]).astype(dict.fromkeys(columns, float))


def what_is_kept(found: pd.DataFrame, rows: pd.DataFrame) -> str:
    """How much one method leaves and keeps; for several methods, which leaves least and which keeps most.

    Args:
        found: from :func:`ends`.
    """
    if rows["method"].nunique() == 1:
        return alone(found.iloc[0]) if len(found) else ""
    people = rows.groupby("method")["target"].agg(lambda targets: tuple(sorted(set(targets))))
    told = found.dropna()
    if len(told) < 2 or people.nunique() > 1:  # methods with different targets are not compared
        return ""
    return (
        f"Of {len(told)} methods that can be compared, each after its last stage without a collapse, "
        f"{best(told, told['forget'] == told['forget'].min(), 'forget', 'kept')}, and "
        f"{best(told, told['kept'] == told['kept'].max(), 'kept', 'forget')}."
    )


def best(found: pd.DataFrame, chosen: pd.Series, key: str, other: str) -> str:
    """Which methods are best on one set, with their shares of the other set; if they are many, only their number."""
    rows = found[chosen]
    name, one, several, _ = SETS[key]
    beside, _, _, doing = SETS[other]
    names = [f"{row['name']} ({doing} {share(row[other])} of {PROBE_SETS[beside].label})" for _, row in rows.iterrows()]
    who = in_words(names) if len(names) <= NAMED else f"{len(names)} methods"
    return f"{who} {one if len(names) == 1 else several} {PROBE_SETS[name].label} ({share(rows[key].iloc[0])})"


def alone(end: pd.Series) -> str:
    """What the only method leaves and keeps; a set without a share is left out."""
    said = [
        f"{share(end[key])} of {PROBE_SETS[SETS[key][0]].label} is {verb} ({end[f'{key}_after']:.1f} of "
        f"{end[f'{key}_before']:.1f})"
        for key, verb in (("forget", "left"), ("kept", "kept"))
        if pd.notna(end[key])
    ]
    return f"After {end['name']}, {in_words(said)}." if said else ""


def share(value: float) -> str:
    """A share in percent; a small share above 0 is "<1%" and not "0%"."""
    return "<1%" if 0 < value < 0.005 else f"{value:.0%}"


def what_collapsed(rows: pd.DataFrame, collapsed: pd.DataFrame) -> str:
    """After which stages runs have collapsed, and which share of them; empty if there is no stage."""
    if collapsed.empty:
        return ""
    taus = taus_of(rows)
    shares = collapsed.assign(collapsed=collapsed["collapsed"].astype(bool)).groupby(["method", "stage"], sort=False)
    shares = shares["collapsed"].mean()
    fallen = shares[shares > 0]
    if fallen.empty:
        return f"No collapse was found after any stage (of {len(shares)})."
    names = [
        f"{stage_name(row.method, row.stage, taus)} ({share(row.collapsed)})"
        for row in fallen.reset_index().itertuples()
    ]
    which = in_words(names) if len(names) <= NAMED else f"runs of {len(names)} of {len(shares)} stages (†)"
    if (shares == 1).all():
        which = "every run, after every stage"
    return f"Collapsed: {which}. A model that has collapsed only looks like one that has forgotten."


def stage_name(method: str, stage: int, taus: dict[str, dict[int, float]]) -> str:
    """The name of a stage in tables; if it was not asked and has no row there, its number."""
    known = taus.get(method, {})
    return label(method, stage, known) if stage in known else f"{display_name(method)} stage {stage}"


def what_is_not_known(rows: pd.DataFrame) -> str:
    """Which sets about people the base model answers less than half of, and which other sets not at all."""
    before = rows[rows["stage"] == 0].drop_duplicates(["target", "metric"]).groupby("metric")["value"].mean()
    asked = [name for name in PROBE_SETS if name in before and PROBE_SETS[name].scoring.percent]
    people, half = [name for name in asked if name in of_role("forget", "neighbour")], PERCENT * KNOWN_RECALL
    low = [name for name in asked if before[name] == 0 or (name in people and before[name] < half)]
    if low:
        scores = in_words(f"{before[name]:.1f} % on {PROBE_SETS[name].label}" for name in low)
        return f"The base model itself scores {scores}: what it does not know it can neither forget nor lose."
    sets = in_words(PROBE_SETS[name].label for name in people) if people else ""
    return f"The base model scores at least {half:g} % on {sets}." if people else ""


def front_page(title: str, said: Iterable[str], table: pd.DataFrame, notes: Iterable[str], figure: str) -> str:
    """A page that opens from disk without JavaScript: sentences, the main table with its notes, and the trade-off.

    Args:
        said, notes: sentences above and below the table.
        figure: an SVG, whose titles browsers show when the mouse hovers.
    """
    image = f'<figure role="img" aria-label="What is kept while each method forgets">{figure}</figure>'
    body = f"<h1>{escape(title)}</h1>{paragraphs(said)}"
    body += plain(table) + paragraphs([*notes, *legend(table)]) if len(table) else paragraphs(notes)
    return document(title, body + image)
