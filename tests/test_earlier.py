"""Answers that the same model has given before are taken, and no others."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest

from atu.common.recipe import record
from atu.evaluation import earlier
from atu.evaluation.earlier import ASKED, asked_of, earlier_predictions

RECIPE = {
    "layer": 2,
    "evaluation": {"max_new_tokens": 32, "before_and_after": ["forget_qa", "utility_flu"]},
    "probe_sets": {"forget_qa": "1", "utility_flu": "2"},
}
WIDER = deepcopy(RECIPE)
WIDER["evaluation"]["before_and_after"].append("forget_fb")
WIDER["probe_sets"]["forget_fb"] = "3"


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """Answers to two sets, in the folder in which a job is to write more."""
    monkeypatch.chdir(tmp_path)
    path = Path("before/6_a*b?[c]-01234567.parquet")
    path.parent.mkdir()
    predictions = pd.DataFrame({"set": ["forget_qa", "forget_qa", "utility_flu"], "prediction": ["Ada", "Bo", "la"]})
    predictions.attrs[ASKED] = "this model"
    predictions.to_parquet(path, index=False)
    record(path, RECIPE)
    return path


def found(path: Path, recipe: dict) -> dict[str, list[str]]:
    wider = path.with_name(path.name.replace("01234567", "89abcdef"))
    return {
        name: rows["prediction"].tolist() for name, rows in earlier_predictions(wider, recipe, "this model").items()
    }


def test_what_was_answered_is_taken_set_by_set(kept):
    both = {"forget_qa": ["Ada", "Bo"], "utility_flu": ["la"]}
    assert found(kept, WIDER) == both
    assert earlier_predictions(kept, RECIPE, "this model") == {}  # itself is no earlier one
    other = deepcopy(WIDER)
    other["probe_sets"]["forget_qa"] = "asked otherwise"
    assert found(kept, other) == {"utility_flu": ["la"]}
    assert found(kept.with_name("6_a-01234567.parquet"), WIDER) == {}  # of another subject


@pytest.mark.parametrize("changed", [{"layer": 3}, {"evaluation": {"max_new_tokens": 4}}, {"precision": "bf16"}])
def test_other_settings_are_asked_again(kept, changed):
    assert found(kept, WIDER | changed) == {}


def test_another_model_is_asked_again(kept, monkeypatch):
    """Weights that were made again under the same settings, another device, other code, operations of other kinds."""
    wider = kept.with_name(kept.name.replace("01234567", "89abcdef"))
    assert earlier_predictions(wider, WIDER, "another model") == {}
    weights = Path("weights")
    weights.mkdir()
    answering = []
    for content, device, code in (("a", "cpu", "x"), ("b", "cpu", "x"), ("b", "cuda", "x"), ("b", "cuda", "y")):
        (weights / "model.safetensors").write_text(content)
        record(weights, RECIPE)
        monkeypatch.setattr(earlier, "library", lambda code=code: code)
        answering.append(asked_of([weights], device, True))
        assert asked_of([weights], device, True) == answering[-1]
    answering.append(asked_of([weights], device, False))
    assert len(set(answering)) == 5


def test_damaged_and_copied_answers_are_asked_again(kept):
    whole = Path(f"{kept}.recipe.json")
    copied = kept.with_name(kept.name.replace("01234567", "00000000"))
    shutil.copy2(kept, copied)
    shutil.copy2(whole, f"{copied}.recipe.json")
    content = kept.read_bytes()
    for damage in (lambda: kept.write_bytes(content[:-9]), kept.unlink):
        damage()
        assert found(kept, WIDER) == {}  # of the copy neither, whose record names another file
        kept.write_bytes(content)
    for text in ("", "[]", json.dumps({"recipe": None})):
        whole.write_text(text)
        assert found(kept, WIDER) == {}
    whole.unlink()
    assert found(kept, WIDER) == {}
