"""Answers that the same model has given before: a further probe set is asked alone."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from atu import ROOT
from atu.common.errors import ExplainedError
from atu.common.files import read_parquet
from atu.common.recipe import check, record_path

CODE = "code"  # in the file's metadata: what the library said that asked


@cache
def library() -> str:
    """A digest of all files of the library: other code may ask otherwise."""
    whole = hashlib.sha256()
    for path in sorted(ROOT.joinpath("workflow/atu").rglob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]


def besides_sets(recipe: Mapping) -> dict:
    """A recipe of answers, less which sets were asked and how."""
    rest = {key: value for key, value in recipe.items() if key != "probe_sets"}
    evaluation = {key: value for key, value in recipe["evaluation"].items() if not isinstance(value, list)}
    return json.loads(json.dumps(rest | {"evaluation": evaluation}))


def earlier_files(path: Path, recipe: Mapping) -> Iterator[tuple[Path, Mapping]]:
    """Files of answers beside ``path`` that this model gave under the same settings, each with its recipe."""
    head = path.stem.rpartition("-")[0]
    for other in sorted(path.parent.glob(f"{head}-*.parquet" if head else "*.parquet")):
        try:
            made = json.loads(record_path(other).read_text(encoding="utf-8"))["recipe"]
            check(other, made)
            alike = other != path and besides_sets(made) == besides_sets(recipe)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ExplainedError):
            continue  # damaged, or copied: asked again
        if alike:
            yield other, made


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
