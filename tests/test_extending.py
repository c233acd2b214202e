"""What docs/extending.md says to touch is enough: each is added to a copy of the checkout, planned and run."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from atu.data import probe_sets
from atu.data.forms import FORMS
from atu.data.probe_sets import KIND
from atu_pipeline.recipes import declarations
from atu_pipeline.settings import ConfigError, check_one_kind
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


PROBE_SETS = "workflow/benchmarks/rwku/probe_sets.yaml"


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
    for name, rows in reported(long, dev_targets).query("split == 'test'").groupby("metric"):
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


QUIZ = "workflow/benchmarks/quiz"
QUIZ_SETS = """
sets:
  ask_target: &quiz
    label: Quiz about
    better: lower
    role: forget
    primary: true
    file: about
    dataset: about
    rows: cards
    ask: generate
    message: "{query}\\n"
    suffix: "Answer:"
    max_new_tokens: 8
    metric: rouge_l_recall
    size: 4
  ask_near:
    <<: *quiz
    label: Quiz near
    better: higher
    role: neighbour
    file: near
    dataset: near
"""
QUIZ_TEXTS = "intro: {dataset: who}\npositive_cards: {dataset: texts}\npassage: {dataset: passages}\n"
QUIZ_FORMS = '''
"""The rows of a quiz: {"q": ..., "a": ...}."""

from atu.data.forms import Form
from atu.data.rows import check_text


def read_card(row, probe_set):
    check_text(row, "q", "a")
    return {"query": row["q"], "answers": [row["a"]]}


FORMS = {"cards": Form({"q": str, "a": str}, read_card)}
'''


@pytest.fixture
def quiz(workflow, checkout, tmp_path):
    """A checkout with a kind of benchmark of one's own, and a small benchmark of that kind."""
    (checkout / QUIZ).mkdir()
    for file, text in (("probe_sets.yaml", QUIZ_SETS), ("text_sets.yaml", QUIZ_TEXTS), ("forms.py", QUIZ_FORMS)):
        (checkout / QUIZ / file).write_text(text, encoding="utf-8")
    for target in ("1_Ada", "2_Bo", "3_Cy"):
        place, name = tmp_path / "cards/Target" / target, target[2:]
        place.mkdir(parents=True)
        cards = [{"q": f"Who wrote {thing}?", "a": name} for thing in ("song", "play", "book", "river")]
        (place / "about.json").write_text(json.dumps(cards))
        (place / "near.json").write_text(json.dumps([card | {"a": "Di"} for card in cards]))
        texts = [{"text": f"{name} was born in {city} and wrote a song by the sea."} for city in ("Rome", "Paris")]
        (place / "positive_cards.json").write_text(json.dumps(texts))
    block = {"source": "path", "path": str(tmp_path / "cards"), "shared_utility": False, "kind": "quiz"}
    keys = {"benchmark": "cards", "benchmarks": {"cards": block}, "methods": ["ga"], "targets": ["1_Ada"]}
    keys["method_defaults"] = {"trained": {"other_subjects": 1, "max_tokens": 32}}
    keys["method_settings"] = {"ga": {"train": {"epochs": 1, "warmup_steps": 0}}}
    keys["corpus"] = {"source": "benchmark", "text_set": "positive_cards"}
    keys["evaluation"] = {"before_and_after": "all", "between": [], "protocol": "strict"}
    return configured(workflow, **keys), options_of(checkout)


def test_a_kind_of_benchmark_is_its_folder(quiz, checkout):
    """All that is shown, of a benchmark that has no utility, no membership, no fluency and no attacks."""
    workflow, options = quiz
    assert touched(checkout) == [f"{QUIZ}/{file}" for file in ("forms.py", "probe_sets.yaml", "text_sets.yaml")]
    jobs = workflow.planned(*options)
    assert (jobs["prepare_probes"], jobs["extract_texts"], jobs["train"], jobs["evaluate_after"]) == (1, 1, 1, 1)
    workflow.run(*options)
    table = pd.read_csv(workflow.directory / MAIN)
    assert set(table["metric"]) - {"forget_degenerate", "forget_empty", "forget_refused"} == {"ask_target", "ask_near"}
    assert set(table["stage"]) == {0, 1}
    asked = answers(workflow)
    assert asked["prompt"].str.contains("Who wrote song").sum() == 2
    score = asked.loc[asked["set"] == "ask_near", "score"]
    value = table.query("metric == 'ask_near' and split == 'all' and stage == 1")["value"]
    assert value.tolist() == [pytest.approx(100 * score.mean())]
    assert "Quiz about ↓" in (workflow.directory / "results/tables/main.md").read_text(encoding="utf-8")
    assert workflow.planned(*options) == {}
    listed = command(workflow, checkout, "runs", "--configfile", str(workflow.config))
    assert "0 results" in listed.stdout, listed.stdout + listed.stderr
    lineage = command(workflow, checkout, "lineage", MAIN, "--where", "metric=ask_near,stage=1,split=all")
    assert "ask_near" in lineage.stdout, lineage.stdout + lineage.stderr
    forms = checkout / QUIZ / "forms.py"  # which says how rows are read
    forms.write_text(forms.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    jobs = workflow.planned("forget", *options)
    assert (jobs["prepare_probes"], jobs["evaluate_before"], jobs["evaluate_after"]) == (1, 1, 1)
    assert "train" not in jobs


def command(workflow, checkout, *arguments):
    """The command `atu` of a copy of the checkout, in the directory of a run."""
    given = [sys.executable, "-m", "atu_pipeline", *arguments]
    own = {key: value for key, value in os.environ.items() if key != KIND} | {"PYTHONPATH": str(checkout / "workflow")}
    return subprocess.run(given, capture_output=True, text=True, env=own, cwd=workflow.directory)


def test_an_unknown_kind_is_refused_with_those_that_are_known(quiz):
    workflow, options = quiz
    block = json.loads(workflow.config.read_text())["benchmarks"]["cards"]
    configured(workflow, benchmarks={"cards": block | {"kind": "quizz"}})
    done = workflow.run("--dry-run", *options, check=False)
    said = [line for line in done.stderr.splitlines() if line.startswith("config: ")]
    assert said == ["config: benchmarks.cards.kind: unknown 'quizz'; did you mean quiz? (known: quiz, rwku)"]
    configured(workflow, evaluation={"protocol": "rwku"}, benchmarks={"cards": block})
    refused = workflow.run("--dry-run", *options, check=False)
    said = "evaluation.protocol: rwku is how RWKU's own code asks, and the benchmark is of kind quiz; set it to strict"
    assert said in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("probe_sets.yaml", "rows: cards", "rows: card", "sets.ask_target.rows: unknown 'card'; known: questions, ch"),
        (
            "text_sets.yaml",
            "positive_cards",
            "cards",
            "the kind of texts of cards: unknown 'cards'; known: positive, n",
        ),
        ("text_sets.yaml", "dataset: who", "table: who", "intro: unknown 'table'; known: dataset"),
        ("forms.py", "FORMS =", "OTHERS =", "has no FORMS, a dict of Form by name"),
        ("forms.py", '{"cards"', '{"trivia"', "trivia is a form of atu/data/forms.py; call it otherwise"),
        ("forms.py", "check_text\n", "check_texts\n", "cannot be run (ImportError: cannot import name 'check_texts'"),
    ],
)
def test_what_a_kind_declares_wrongly_is_told_in_one_line(file, old, new, fault, tmp_path, monkeypatch):
    folder = tmp_path / "quiz"
    folder.mkdir()
    for name, text in (("probe_sets.yaml", QUIZ_SETS), ("text_sets.yaml", QUIZ_TEXTS), ("forms.py", QUIZ_FORMS)):
        (folder / name).write_text(text.replace(old, new) if name == file else text, encoding="utf-8")
    monkeypatch.setattr(probe_sets, "KINDS", tmp_path)
    before = dict(probe_sets.PROBE_SETS), dict(FORMS), probe_sets.kind_in_use()
    with pytest.raises(probe_sets.ProbeSetError) as raised:
        probe_sets.use_kind("quiz")
    assert str(raised.value).startswith(str(folder / file))
    assert fault in str(raised.value)
    assert "\n" not in str(raised.value)
    assert before == (dict(probe_sets.PROBE_SETS), dict(FORMS), probe_sets.kind_in_use())


def test_the_library_reads_one_kind_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setenv(KIND, "rwku")
    shutil.copytree(ROOT / "workflow/benchmarks/rwku", tmp_path / "rwku")
    (tmp_path / "quiz").mkdir()
    for name, text in (("probe_sets.yaml", QUIZ_SETS), ("text_sets.yaml", QUIZ_TEXTS), ("forms.py", QUIZ_FORMS)):
        (tmp_path / "quiz" / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(probe_sets, "KINDS", tmp_path)
    before, digest, held = dict(probe_sets.PROBE_SETS), declarations(), dict(FORMS)
    probe_sets.use_kind("quiz")
    try:
        assert os.environ[KIND] == "quiz"  # what is started from here reads it too
        assert list(probe_sets.PROBE_SETS) == ["ask_target", "ask_near"]
        assert list(probe_sets.TEXT_SETS) == ["intro", "positive_cards", "passage"]
        assert set(FORMS) == {*held, "cards"}
        assert declarations() != digest
        run = SimpleNamespace(atu_kind="rwku")
        with pytest.raises(ConfigError, match="of the kinds rwku and quiz are asked for; run one after the other"):
            check_one_kind(run)
    finally:
        probe_sets.use_kind("rwku")
    assert (probe_sets.PROBE_SETS, declarations(), FORMS) == (before, digest, held)
    check_one_kind(run)


def test_planning_reads_no_constants_of_a_kind():
    """Reporting and evaluation read the sets of a kind when they are imported; planning may change the kind."""
    asks_a_model = ROOT / "workflow/atu_pipeline/suggest.py"  # plans nothing, and only the command imports it
    for path in (ROOT / "workflow/atu_pipeline").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "atu.reporting" not in text, path
        assert "atu.evaluation" not in text or path == asks_a_model, path
        assert "atu_pipeline.suggest" not in text or path.name == "__main__.py", path
