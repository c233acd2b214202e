"""The real small LLM and encoder, downloaded once: what the demo benchmark asks, and the DAG end to end."""

import copy
import json
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from accelerate import Accelerator

from atu.data.benchmark import build_probes, list_targets, read_primers
from atu.data.protocol import STRICT
from atu.engine.engine import Engine
from atu.engine.examples import Example
from atu.evaluation.collapse import broken, why_collapsed
from atu.evaluation.evaluate import evaluate
from atu.evaluation.surprise import add_surprises
from atu.methods import load
from atu.training.epochs import train_epochs
from atu_pipeline.paths import Paths
from atu_pipeline.recipes import Recipes
from conftest import ROOT
from test_settings import DEMO as DEMO_CONFIG
from test_settings import check

DEMO = ROOT / "workflow/benchmarks/demo"
LLM, ENCODER = "smollm2-135m-instruct", "all-minilm-l6-v2"


def snakemake(directory: Path, *arguments: str, over: tuple[Path, ...] = ()) -> subprocess.CompletedProcess:
    """Run the demo's config, with more of it laid over, in a directory."""
    base = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    demo = str(ROOT / "workflow/configs/demo.yaml")
    command = [*base, "--directory", str(directory), "--configfile", demo, *map(str, over), "--show-failed-logs"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def models():
    """Both models by name, fetched by the demo's own rule; kept in the checkout's resources/ between runs."""
    paths = Paths(Recipes(check(DEMO_CONFIG)))
    fetched = {name: paths.model(name) for name in (LLM, ENCODER)}
    done = snakemake(ROOT, "--nolock", *fetched.values())
    assert done.returncode == 0, done.stderr[-5000:]
    return {name: ROOT / path for name, path in fetched.items()}


@pytest.fixture(scope="module")
def real_engine(models):
    torch.set_num_threads(2)
    yield Engine.load(models[LLM], batch_tokens=8192)
    torch.set_num_threads(1)


@pytest.mark.slow
def test_the_model_knows_what_it_is_to_forget(real_engine):
    """Like RWKU, the benchmark keeps only what the base model can answer."""
    primers = read_primers(DEMO / "Utility/primers.json")
    recall = {}
    for target in list_targets(DEMO):
        probes, _ = build_probes(DEMO, target, dev_share=0.5, seed=0)
        predictions = evaluate(real_engine, probes, ["forget_qa", "neighbor_qa"], primers)
        for name, scores in predictions.groupby("set")["score"]:
            recall[target, name] = scores.mean()
    assert len(recall) == 16
    assert min(recall.values()) >= 0.5, recall


def test_the_engines_answer_as_plain_calls_do(real_engine, monkeypatch):
    """All sets, two or three probes each: one by one through generate and whole forward passes, and by the engines."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    plain = pytest.importorskip("evaluation")
    monkeypatch.setattr(plain, "BATCH_SIZES", {})
    monkeypatch.setattr(plain, "OTHERS", 1)
    llm, tokenizer = real_engine.llm, real_engine.tokenizer
    primers = read_primers(DEMO / "Utility/primers.json")
    parts = [build_probes(DEMO, target, dev_share=0.5, seed=0)[0] for target in ("7_Aristotle", None)]
    probes = pd.concat(parts).groupby("set").head(3)
    assert probes["set"].nunique() == 12
    for name, asked in probes.groupby("set"):
        expected = plain.ask_plainly(llm, tokenizer, name, asked.to_dict("records"), primers)
        predictions = evaluate(real_engine, probes, [name], primers)
        ours = (
            [f"{score:.3f}" for score in predictions["score"]] if name.startswith("mia") else predictions["prediction"]
        )
        assert [plain.scored(name, answer) for answer in ours] == [plain.scored(name, a) for a in expected], name


WITHOUT_FLUENCY = ["forget_qa", "neighbor_qa"]  # as between stages that are not asked for it


@pytest.fixture(scope="module")
def spoken(real_engine):
    """Probes of Newton, and what the base model answers, with what others are judged by."""
    probes = build_probes(DEMO, "4_Isaac_Newton", dev_share=0.5, seed=0)[0]
    answers = evaluate(real_engine, probes, WITHOUT_FLUENCY, {})
    return probes, add_surprises(answers, real_engine, STRICT, own=True)


def like(text, pieces, rng, joined):
    """Pieces at random, as many as a text has."""
    return joined.join(rng.choice(pieces) for _ in (text if joined == "" else text.split()))


FORMS = {
    "letters": lambda row, words, rng: like(row.prediction, "abcdefghijklmnopqrstuvwxyz ", rng, ""),
    "words": lambda row, words, rng: like(row.prediction, words, rng, " "),
    "one word": lambda row, words, rng: "the " * 12,
    "a phrase": lambda row, words, rng: "the old man and " * 6,
    "another language": lambda row, words, rng: "Il aimait beaucoup ses voisins, qui venaient souvent le voir",
    "another script": lambda row, words, rng: "Художник родился в маленьком городе и любил свою работу",
    "nothing": lambda row, words, rng: "",
    "the prompt": lambda row, words, rng: row.query,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_real_model_tells_every_form_of_collapse(form, real_engine, spoken):
    rng, (_, before) = random.Random(0), spoken
    words = [word for answer in before["prediction"] for word in answer.split()]
    said = [FORMS[form](row, words, rng) for row in before.itertuples()]
    answers = add_surprises(before.assign(prediction=said, details="{}"), real_engine, STRICT, own=False)
    why = why_collapsed(answers, before, 0.5)
    assert all(any(f" of {name} " in line for line in why) for name in WITHOUT_FLUENCY), why


def test_the_real_model_takes_language_for_language(real_engine, spoken):
    """Its own answers, wrong ones and refusals are no collapse."""
    _, before = spoken
    assert why_collapsed(before, before, 0.5) == []
    for said in (
        "I do not know the answer to that question.",
        "He was a famous painter who lived in Brazil.",
        "No.",
        "London",
    ):
        answers = add_surprises(before.assign(prediction=said, details="{}"), real_engine, STRICT, own=False)
        assert why_collapsed(answers, before, 0.5) == []
        shares = {name: broken(*(each[each["set"] == name] for each in (answers, before))) for name in WITHOUT_FLUENCY}
        assert max(kinds.any(axis=1).mean() for kinds in shares.values()) <= 0.25, said


@pytest.mark.parametrize(("method", "rate"), [("ga", 1e-3), ("simnpo", 3e-3), ("rmu", 0.1)])
def test_a_real_model_broken_by_a_method_is_seen(method, rate, real_engine, spoken):
    """Without a word of fluency: by its answers, seen by the model that it was."""
    probes, before = spoken
    block = check(DEMO_CONFIG)["method_settings"][method]
    torch.manual_seed(0)
    llm = copy.deepcopy(real_engine.llm).requires_grad_(True)
    file = DEMO / "Target/4_Isaac_Newton/relearn.json"
    texts = [row["text"] for row in json.loads(file.read_text(encoding="utf-8"))]
    items = [[Example(tuple(ids[:64]), 1)] for ids in real_engine.tokenizer(texts)["input_ids"]]
    train = block["train"] | {"learning_rate": rate, "epochs": 3, "batch_size": 4, "accumulate": 1, "warmup_steps": 0}
    train_epochs(
        Accelerator(cpu=True),
        llm,
        load(method, **block["options"]),
        items,
        texts="positive",
        reference=None,
        retain_set=items,
        retain=block["retain"],
        seed=0,
        after_epoch=lambda epoch: None,
        title=method,
        **train,
    )
    answers = evaluate(Engine(llm, real_engine.tokenizer, 8192), probes, WITHOUT_FLUENCY, {})
    assert why_collapsed(add_surprises(answers, real_engine, STRICT, own=False), before, 0.5)


@pytest.mark.slow
def test_end_to_end(models, tmp_path):
    """Every rule on the real models, with few texts and steps: similarity falls and the model still speaks."""
    small = {
        "targets": ["7_Aristotle"],
        "llm": "llm",
        "encoder": "encoder",
        "models": {
            "llm": {"source": "path", "path": str(models[LLM])},
            "encoder": {"source": "path", "path": str(models[ENCODER])},
        },
        "corpus": {"texts": 6, "max_new_tokens": 48, "batch_tokens": 2048},
        "method_settings": {
            "atu": {
                "other_subjects": 1,
                "align": {"steps": 40, "steps_between": 10, "batch_size": 4},
                "unlearn": {"tau": [0.0], "steps": 6, "batch_size": 2, "retain_weight": 1.0},
            }
        },
        "evaluation": {"before_and_after": ["forget_qa", "neighbor_qa"], "between": []},
    }
    file = tmp_path / "small.json"
    file.write_text(json.dumps(small))
    done = snakemake(tmp_path, over=(file,))
    assert done.returncode == 0, done.stderr[-5000:]
    runs = tmp_path / "results/llm/demo/7_Aristotle/seed0"
    (run,), (alignment,) = runs.glob("atu-*"), runs.glob("alignments/atu-*")
    steps = pd.read_csv(run / "steps.csv")
    assert steps["similarity"].iloc[-1] < steps["similarity"].iloc[0]
    align = pd.read_csv(alignment / "steps.csv")
    assert align["loss"].tail(5).mean() < 0.7 * align["loss"].iloc[0]
    engine = Engine.load(run / "model", batch_tokens=64)
    assert len(engine.generate(["The sea is"], max_new_tokens=8)[0].split()) > 3
