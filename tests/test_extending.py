"""What docs/extending.md says to touch is enough: each is added to a copy of the checkout, planned and run."""

import json

import pandas as pd
import pytest
import yaml

from conftest import options_of

MAIN = "results/tables/main.csv"
# One method that trains nothing: what is added to tables is seen after one short evaluation.
APPLIED = {"methods": ["icu"], "corpus": {"source": "benchmark"}}


def configured(workflow, **keys):
    """The workflow with other keys in its config; blocks are laid over those that are there."""
    config = json.loads(workflow.config.read_text())
    for key, value in keys.items():
        config[key] = config.get(key, {}) | value if isinstance(value, dict) else value
    workflow.config.write_text(json.dumps(config))
    return workflow


def answers(workflow, when="evaluations"):
    """The answers of the one run that there is."""
    return pd.read_parquet(next(workflow.directory.glob(f"results/**/{when}/*.parquet")))


def touched(checkout):
    """Files of a copy that are not as in this checkout."""
    from conftest import ROOT

    copied = (path.relative_to(checkout) for path in checkout.rglob("*") if path.is_file())
    pairs = ((checkout / path, ROOT / path) for path in copied if "__pycache__" not in path.parts)
    changed = [ours for ours, theirs in pairs if not theirs.exists() or ours.read_bytes() != theirs.read_bytes()]
    return sorted(path.relative_to(checkout).as_posix() for path in changed)


METRIC = '''
def of_vowels(output: str, probe: dict) -> dict:
    """The share of an answer's characters that are vowels."""
    return {"prediction": output, "score": sum(map(output.lower().count, "aeiou")) / max(1, len(output))}


METRICS["vowels"] = Metric("generate", of_vowels, reads=())
'''


@pytest.fixture
def scored(workflow, checkout):
    """A checkout with a metric of one's own, and a set that is scored by it."""
    metrics = checkout / "workflow/atu/data/metrics.py"
    metrics.write_text(metrics.read_text(encoding="utf-8") + METRIC, encoding="utf-8")
    path = checkout / PROBE_SETS
    file = yaml.safe_load(path.read_text(encoding="utf-8"))
    qa = file["sets"]["forget_qa"]
    file["sets"]["forget_vowels"] = {key: value for key, value in qa.items() if key != "primary"}
    file["sets"]["forget_vowels"] |= {"label": "Forget Vowels", "metric": "vowels"}
    path.write_text(yaml.safe_dump(file, sort_keys=False, allow_unicode=True), encoding="utf-8")
    asked = {"before_and_after": ["forget_qa", "neighbor_qa", "forget_vowels"], "between": []}
    return configured(workflow, **APPLIED, evaluation=asked), options_of(checkout)


PROBE_SETS = "workflow/benchmarks/probe_sets.yaml"


def test_a_metric_is_its_function_and_the_set_that_names_it(scored, checkout):
    workflow, options = scored
    assert touched(checkout) == ["workflow/atu/data/metrics.py", PROBE_SETS]
    assert workflow.planned(MAIN, *options)["evaluate_after"] == 1
    workflow.run(MAIN, *options)
    table = pd.read_csv(workflow.directory / MAIN).query("metric == 'forget_vowels' and stage == 1")
    asked = answers(workflow).query("set == 'forget_vowels'")
    shares = [
        100 * len([letter for letter in said.lower() if letter in "aeiou"]) / len(said) for said in asked["prediction"]
    ]
    assert len(shares) == 4
    assert 0 < sum(shares) < 400
    value = table.set_index("split").loc["all", "value"]
    assert value == pytest.approx(sum(shares) / 4)
    assert "Forget Vowels ↓" in (workflow.directory / "results/tables/main.md").read_text(encoding="utf-8")


def test_an_unknown_metric_is_refused_with_those_that_are_known(scored, checkout):
    workflow, options = scored
    path = checkout / PROBE_SETS
    path.write_text(path.read_text(encoding="utf-8").replace("metric: vowels", "metric: vowel"), encoding="utf-8")
    done = workflow.run("--dry-run", *options, check=False)
    said = [line for line in done.stderr.splitlines() if "unknown 'vowel'" in line]
    assert len(said) == 1
    assert "sets.forget_vowels.metric: unknown 'vowel'; known: rouge_l_recall, reasoning_exact" in said[0]
    assert said[0].endswith("membership, vowels")
    assert "Traceback" not in done.stdout + done.stderr
