"""Answers that the same model has given before: a further probe set is asked alone."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from atu import ROOT
from atu.common.earlier import earlier_files
from atu.common.files import read_parquet
from atu.common.recipe import read_record

ASKED = "asked"  # in the file's metadata: what answered, from asked_of
SCRIPT = ROOT / "workflow/scripts/evaluate_model.py"


@cache
def library() -> str:
    """A digest of all code that asks: the library, the script, and the packages that compute."""
    whole = hashlib.sha256()
    for path in (*sorted(ROOT.joinpath("workflow/atu").rglob("*.py")), SCRIPT):
        whole.update(path.read_bytes())
    whole.update("".join(version(name) for name in ("torch", "transformers")).encode())
    return whole.hexdigest()[:16]


def asked_of(model: Iterable[str | Path], device: str, deterministic: bool) -> str:
    """A digest of what answers: weights and whatever is applied to them as they are now, the code, the device and how
    it computes.

    Args:
        model: folders with records of what was written into them.
        device: of torch, such as "cpu".
        deterministic: as of :func:`atu.common.runtime.start`.
    """
    held = [read_record(path)["sha256"] for path in model]
    return hashlib.sha256(json.dumps([held, library(), device, deterministic], sort_keys=True).encode()).hexdigest()[
        :16
    ]


def earlier_predictions(path: str | Path, recipe: Mapping, asked: str) -> dict[str, pd.DataFrame]:
    """By probe set the predictions that the same model gave before, under the same settings and code.

    Args:
        path: of the predictions that are to be made; others of the same model are beside it.
        recipe: of these.
        asked: from :func:`asked_of`; a model that was made again is another, whatever its settings.
    """
    found: dict[str, pd.DataFrame] = {}
    for other, made in earlier_files(Path(path), recipe):
        predictions = read_parquet(other)
        if predictions.attrs.get(ASKED) != asked:
            continue
        for name, way in recipe["probe_sets"].items():
            if made["probe_sets"].get(name) == way:
                found.setdefault(name, predictions[predictions["set"] == name])
    return found
