"""What is done again when a part is asked for or changed: the lists of jobs."""

import json
import os
import shutil
from pathlib import Path

import pytest

from conftest import ROOT, Workflow

RUN = "results/llm/tiny/1_Ada/atu/seed0"
TRAINING = {"align", "unlearn", "train", "keep_model"}
TABLES = {"overall_table", "matched_table", "known"}
FIGURES = {"plot_tradeoff", "plot_stages", "plot_targets"}


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the workflow whose files a test may change."""
    place = tmp_path / "checkout"
    for name in ("Snakefile", "config.yaml"):
        place.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, place / name)
    for name in ("workflow", "envs"):
        shutil.copytree(ROOT / name, place / name, copy_function=shutil.copy2)
    return place


def of(checkout: Path) -> tuple[str, ...]:
    """Options that run a copy of the workflow on the same file of published numbers, whose path is an input."""
    published = {"file": str(ROOT / "workflow/benchmarks/published.csv")}
    return ("--snakefile", str(checkout / "Snakefile"), "--config", "published=" + json.dumps(published))


def test_one_file_of_another_target(finished):
    """Its first stage's outcomes: no second stage, no table, nothing of the other target."""
    path = "results/llm/tiny/2_Bo/atu/seed0/stage1/probes.parquet"
    jobs = finished.planned(path, "--config", "targets=[2_Bo]")
    assert (jobs["align"], jobs["unlearn"], jobs["evaluate_stage"]) == (1, 1, 1)
    assert not (TABLES | FIGURES | {"keep_model"}) & set(jobs)
    assert not [line for line in finished.planned_outputs(path, "--config", "targets=[2_Bo]") if "1_Ada/atu" in line]


def test_a_target_without_tables(finished):
    jobs = finished.planned("forget", "--config", "targets=[2_Bo]")
    assert (jobs["align"], jobs["unlearn"], jobs["keep_model"]) == (1, 2, 1)
    assert not (TABLES | FIGURES) & set(jobs)


def test_one_method(finished):
    jobs = finished.planned("forget", "--config", "methods=[ga]")
    assert jobs == {"train": 1, "evaluate_stage": 3, "keep_model": 1, "model_card": 1, "forget": 1}


def test_one_figure(finished):
    jobs = finished.planned("results/figures/tradeoff.png", "--forcerun", "plot_tradeoff")
    assert jobs == {"plot_tradeoff": 1}


def test_a_changed_caption_draws_its_figure_anew(finished, checkout):
    snakefile = of(checkout)
    assert finished.planned(*snakefile) == {}
    with (checkout / "workflow/report/stages.rst").open("a") as caption:
        caption.write("More.\n")
    assert finished.planned(*snakefile) == {"plot_stages": 1, "all": 1}


def test_a_methods_learning_rate_touches_no_other_method(finished):
    over = {"ga": {"train": {"learning_rate": 1e-3}}}
    assert finished.planned("--config", "method_settings=" + json.dumps(over)) == {}


def test_other_questions_train_nothing(finished):
    """Before and after are asked anew together, on the models that are kept."""
    sets = ["forget_qa", "neighbor_qa", "utility_flu"]
    jobs = finished.planned("--config", "evaluation=" + json.dumps({"before_and_after": sets}))
    assert (jobs["evaluate_before"], jobs["evaluate_stage"]) == (2, 1)
    assert not TRAINING & set(jobs)


def test_changed_code_of_the_evaluation_trains_nothing_if_checkpoints_are_kept(tiny, finished, checkout, tmp_path):
    """With --notemp. Without it the checkpoint that is asked is gone, and has to be trained again."""
    shutil.copytree(finished.directory, tmp_path / "run", copy_function=shutil.copy2)
    workflow = Workflow(tiny, tmp_path / "run")
    snakefile = of(checkout)
    workflow.run(f"{RUN}/stage1/llm", "--notemp", *snakefile)
    stage = workflow.directory / RUN / "stage1"
    before = (stage / "probes.parquet").stat().st_mtime - 1
    for path in [*stage.glob("*/*"), stage / "llm", stage / "predictor", stage / "steps.csv"]:
        os.utime(path, (before, before))  # as if it had been kept from the start
    assert workflow.planned(*snakefile) == {}
    with (checkout / "workflow/scripts/evaluate_model.py").open("a") as script:
        script.write("# changed\n")
    jobs = workflow.planned(*snakefile)
    assert (jobs["evaluate_before"], jobs["evaluate_stage"]) == (2, 2)
    assert not TRAINING & set(jobs)
