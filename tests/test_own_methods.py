"""A method of one's own is two files: its own, and a config whose block of it may be empty."""

import json

import pandas as pd
import pytest

from conftest import options_of

TRAINED = """
from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch, token_log_probs
from atu.methods import Trained


class Softer(Trained):
    name = "Softer"
    reads = ("others", "reference")
    positive = ("weight",)

    def __init__(self, *, weight: float = 2.0):
        self.weight = weight

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        ratios = token_log_probs(llm, batch).sum(1) - batch.reference
        return self.weight * ratios.mean() - token_log_probs(llm, batch.others).mean()


METHOD = Softer
"""
APPLIED = """
from atu.engine.intervention import Intervention
from atu.methods import Applied


class Hint(Applied):
    texts = ("passage",)
    templates = ("words",)
    reads_model = False

    def __init__(self, words: str = "Never speak of {name}."):
        self.words = words

    def find(self, llm, tokenizer, name, texts):
        return Intervention(instruction=f"{self.words.format(name=name)} [{len(texts)} texts]")


METHOD: type[Applied] = Hint
"""


METHODS = ("softer", "hint")


@pytest.fixture
def own(workflow, checkout):
    """A run of a copy of the checkout with two more methods; each block of the config is empty."""
    folder = checkout / "workflow/atu/methods"
    (folder / "softer.py").write_text(TRAINED)
    (folder / "hint.py").write_text(APPLIED)
    config = json.loads(workflow.config.read_text())
    config["methods"] = ["softer", "hint"]
    config["method_settings"] |= {"softer": {}, "hint": {}}
    config["method_defaults"] = {
        "trained": {"other_subjects": 1, "max_tokens": 32, "train": {"epochs": 1, "warmup_steps": 0}}
    }
    config["corpus"] |= {"source": "benchmark"}
    config["evaluation"] |= {"before_and_after": ["forget_qa"], "between": []}
    workflow.config.write_text(json.dumps(config))
    return workflow, options_of(checkout)


def test_two_methods_of_ones_own_run_with_empty_blocks(own):
    workflow, options = own
    outputs = [line.split()[-1] for line in workflow.planned_outputs("forget", *options)]
    asked = [next(file for file in outputs if f"/{name}-" in file and "/evaluations/" in file) for name in METHODS]
    jobs = workflow.planned(*asked, *options)
    assert {name: jobs[name] for name in ("train", "reference_log_probs", "find_intervention", "evaluate_after")} == {
        **{"train": 1, "reference_log_probs": 1, "find_intervention": 1, "evaluate_after": 2}
    }
    workflow.run(*asked, *options)
    trained, applied = (pd.read_parquet(workflow.directory / file) for file in asked)
    assert set(trained["set"]) == set(applied["set"]) == {"forget_qa"}
    assert applied["prompt"].str.contains("Never speak of Ada. [6 texts]", regex=False).all()
    assert not trained["prompt"].str.contains("Never").any()
    steps = pd.read_csv(workflow.find("llm/tiny/1_Ada/seed0/stages/softer-*") / "steps.csv")
    assert steps["epoch"].max() == 1
    for file, expected in zip(asked, ({"weight": 2.0}, {"words": "Never speak of {name}."}), strict=True):
        recipe = json.loads((workflow.directory / f"{file}.recipe.json").read_text())["recipe"]
        assert recipe["settings"]["options"] == expected


def test_blocks_of_ones_own_methods_are_checked(own):
    workflow, options = own
    config = json.loads(workflow.config.read_text())
    for name, block, fault in (
        ("softer", {"options": {"wieght": 1}}, "softer.options.wieght: unknown 'wieght'; did you mean weight?"),
        ("softer", {"options": {"weight": 0}}, "softer.options.weight: 0 is not above 0"),
        ("hint", {"options": {"words": "Hush."}}, "hint.options.words: 'Hush.' needs {name} where the target's name"),
    ):
        blocks = config["method_settings"] | {name: block}
        workflow.config.write_text(json.dumps(config | {"method_settings": blocks}))
        done = workflow.run("--dry-run", *options, check=False)
        assert f"config: method_settings.{fault}" in done.stderr
        assert "Traceback" not in done.stdout + done.stderr
