"""Answers that the same model gave before, so that only added probe sets are asked."""

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

ASKED = "asked"  # key in a file's metadata: the digest of what answered, from asked_of
SCRIPT = ROOT / "workflow/scripts/evaluate_model.py"


@cache
def library() -> str:
    """A digest of all code that affects answers: the library, the script, the versions of torch and transformers."""
    whole = hashlib.sha256()
    for path in (*sorted(ROOT.joinpath("workflow/atu").rglob("*.py")), SCRIPT):
        whole.update(path.read_bytes())
    whole.update("".join(version(name) for name in ("torch", "transformers")).encode())
    return whole.hexdigest()[:16]


def asked_of(model: Iterable[str | Path], device: str, deterministic: bool) -> str:
    """A digest of everything that determines answers: the model's current files, the code, the device, determinism.

    Args:
        model: folders of weights and of what is applied to them, each with a record of its files.
        device: a torch device, such as "cpu".
        deterministic: as in :func:`atu.common.runtime.start`.
    """
    held = [read_record(path)["sha256"] for path in model]
    return hashlib.sha256(json.dumps([held, library(), device, deterministic], sort_keys=True).encode()).hexdigest()[
        :16
    ]


def earlier_predictions(path: str | Path, recipe: Mapping, asked: str) -> dict[str, pd.DataFrame]:
    """Earlier predictions of the same model, with the same settings and code, by probe set.

    Args:
        path: the file of predictions to be made; others of the same model are beside it.
        recipe: the recipe of that file.
        asked: from :func:`asked_of`; a model that was made again differs, even with the same settings.
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
