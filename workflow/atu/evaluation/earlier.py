"""Answers that the same model has given before: a further probe set is asked alone."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from atu import ROOT
from atu.common.earlier import earlier_files
from atu.common.files import read_parquet

CODE = "code"  # in the file's metadata: what the library said that asked


@cache
def library() -> str:
    """A digest of all files of the library: other code may ask otherwise."""
    whole = hashlib.sha256()
    for path in sorted(ROOT.joinpath("workflow/atu").rglob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]


def earlier_predictions(path: str | Path, recipe: Mapping) -> dict[str, pd.DataFrame]:
    """By probe set the predictions that the same model gave before, under the same settings and code.

    Args:
        path: of the predictions that are to be made; others of the same model are beside it.
        recipe: of these.
    """
    found: dict[str, pd.DataFrame] = {}
    for other, made in earlier_files(Path(path), recipe):
        predictions = read_parquet(other)
        if predictions.attrs.get(CODE) != library():
            continue
        for name, asked in recipe["probe_sets"].items():
            if made["probe_sets"].get(name) == asked:
                found.setdefault(name, predictions[predictions["set"] == name])
    return found
