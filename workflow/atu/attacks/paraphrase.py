"""Paraphrase: each question in other words, with the same answer."""

from dataclasses import replace

import pandas as pd

from atu.attacks import Ask, Asked
from atu.common.errors import ExplainedError
from atu.data.probe_sets import PROBE_SETS


def reworded(probes: pd.DataFrame, paraphrases: list[dict]) -> pd.DataFrame:
    """The probes that have a paraphrase, with the paraphrase as their query.

    Args:
        probes: rows with set, id ("<set>/<row>", rows counted from 0) and query.
        paraphrases: rows of file, row (counted from 0) and query.

    Raises:
        ExplainedError: if a row has two paraphrases, or a paraphrase has no probe.
    """
    words: dict[tuple[str, int], str] = {}
    for one in paraphrases:
        key = one["file"], int(one["row"])
        if words.setdefault(key, one["query"]) != one["query"]:
            raise ExplainedError(f"{key[0]}.json, row {key[1] + 1} has two paraphrases; keep one")
    keys = [(PROBE_SETS[name].file, int(row)) for name, row in (probe.split("/") for probe in probes["id"])]
    files = {file for file, _ in keys}
    if strangers := [key for key in words if key[0] in files and key not in keys]:
        file, row = strangers[0]
        raise ExplainedError(f"paraphrases: {file}.json has no probe in row {row + 1}; rows are counted from 0")
    found = probes.assign(query=[words.get(key) for key in keys])
    return found[found["query"].notna()]


def attack(asked: Asked, ask: Ask, *, paraphrases: list[dict]) -> None:
    """Ask the paraphrases; probes without one are left out."""
    ask(0, replace(asked, probes=reworded(asked.probes, paraphrases)))
