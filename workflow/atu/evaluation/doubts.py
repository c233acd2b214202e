"""Oddities in a benchmark's probes that are not errors; a job logs how many there are."""

import pandas as pd

from atu.data.metrics import normalize
from atu.data.probe_sets import PROBE_SETS
from atu.data.rows import is_blank


def shown(ids: pd.Series) -> str:
    """The number of probes, and the rows of the first few."""
    rows = [str(int(name.split("/")[1]) + 1) for name in ids]
    return f"{len(rows)} (row {', '.join(rows[:5])}{', ...' if len(rows) > 5 else ''})"


def doubts(probes: pd.DataFrame) -> list[str]:
    """One line for each set and kind of oddity.

    Args:
        probes: from :func:`atu.data.benchmark.build_probes`.
    """
    lines = []
    for name, group in probes.groupby("set", sort=False):
        again = group.duplicated(["query", "context"])
        found = {"ask what an earlier row asks": again}
        declared = PROBE_SETS[name]
        if declared.rows == "choices":
            found["have one choice twice"] = group["choices"].map(lambda choices: len(set(choices)) < len(choices))
        if declared.stop_at_answer:
            stop = group["answers"].map(lambda answers: all("." in answer.strip().rstrip(".") for answer in answers))
            found["have a period inside the answer, where what is scored ends: nothing matches it"] = stop
        if declared.scoring.words:
            bare = group["answers"].map(lambda answers: not any(map(normalize, answers)))
            found["have an answer without words, compared as it stands"] = bare
            blank = group["answers"].map(lambda answers: any(map(is_blank, answers)))
            found["have a blank answer among others, which nothing matches"] = blank
        lines += [f"{name}: {shown(group.loc[mask, 'id'])} {what}" for what, mask in found.items() if mask.any()]
    return lines
