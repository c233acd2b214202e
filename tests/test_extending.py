"""What docs/extending.md says to touch is enough: each is added to a copy of the checkout, planned and run."""

import json

import pandas as pd
import pytest
import yaml

from atu_pipeline.settings import ConfigError
from atu_pipeline.settings.figures import drawn_from
from conftest import ROOT, options_of

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


FIGURE = '''
def kept(long: pd.DataFrame, dev_targets: list[str], collapsed: pd.DataFrame | None = None) -> Figure:
    """Each metric before and after, one line a metric."""
    figure, axis = plt.subplots(figsize=(COLUMN, 2), layout="constrained")
    for name, rows in long[long["split"] == "test"].groupby("metric"):
        axis.plot(rows["stage"], rows["value"], label=PROBE_SETS[name].heading if name in PROBE_SETS else name)
    return figure


FIGURES = {
    "kept": kept,
'''
FIGURES_FILE, CAPTION = "workflow/atu/reporting/figures.py", "workflow/report/kept.rst"


@pytest.fixture
def drawn(workflow, checkout):
    """A checkout with a figure of one's own, behind a run that was made without it."""
    asked = {"before_and_after": ["forget_qa", "neighbor_qa"], "between": []}
    configured(workflow, **APPLIED, evaluation=asked, experiments={"own": {"shows": ["main"]}})
    options = options_of(checkout)
    workflow.run(MAIN, *options)
    path = checkout / FIGURES_FILE
    path.write_text(path.read_text(encoding="utf-8").replace("\nFIGURES = {\n", FIGURE), encoding="utf-8")
    (checkout / CAPTION).write_text("What each metric was before and after.\n")
    return workflow, options


def test_a_figure_is_its_function_and_its_caption(drawn, checkout):
    workflow, options = drawn
    assert touched(checkout) == [FIGURES_FILE, CAPTION]
    planned = workflow.planned_outputs("all", *options)
    assert sum("results/figures/kept.pdf" in line for line in planned) == 1
    assert not [line for line in workflow.planned_outputs("own", *options) if "kept" in line]
    configured(workflow, experiments={"own": {"shows": ["kept"]}})
    assert [line for line in workflow.planned_outputs("own", *options) if "own/figures/kept.pdf" in line]
    assert sum(workflow.planned("results/figures/kept.pdf", *options).values()) == 1
    workflow.run("results/figures/kept.pdf", *options)
    assert (workflow.directory / "results/figures/kept.pdf").read_bytes().startswith(b"%PDF")
    assert (workflow.directory / "results/figures/kept.png").stat().st_size > 1000


FAULTY = [
    ('"kept": kept,', '"kept": lambda long: kept(long, []),', "lambda long: kept(long, []) in FIGURES is no function"),
    ("def kept(long:", "def kept(rows:", "kept is drawn from 'rows', its first argument; known are long, steps, types"),
    (
        "def kept(long: pd.DataFrame, dev_targets: list[str],",
        "def kept(long,",
        "kept takes no dev_targets, which it is",
    ),
    ("FIGURES = {", "SHOWN = {", "figures.py has no FIGURES, a dict of functions by name"),
    ("import", "import import", "figures.py cannot be read (invalid syntax"),
]


@pytest.mark.parametrize(("old", "new", "fault"), FAULTY)
def test_a_faulty_figure_is_told_in_one_line(old, new, fault, tmp_path):
    text = (ROOT / FIGURES_FILE).read_text(encoding="utf-8").replace("\nFIGURES = {\n", FIGURE)
    for file in (FIGURES_FILE, CAPTION):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as raised:
        drawn_from(tmp_path)
    assert fault in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_figure_without_a_caption_is_refused(tmp_path):
    (tmp_path / FIGURES_FILE).parent.mkdir(parents=True)
    (tmp_path / FIGURES_FILE).write_text((ROOT / FIGURES_FILE).read_text(encoding="utf-8"))
    with pytest.raises(ConfigError, match="tradeoff has no caption; write workflow"):
        drawn_from(tmp_path)


def test_what_is_planned_is_what_the_library_draws():
    from atu.reporting.figures import FIGURES

    assert list(FIGURES) == list(drawn_from(ROOT))
