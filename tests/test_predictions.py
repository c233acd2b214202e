"""What models answered is kept apart from them: tables are made of it elsewhere, and a run goes on from it."""

import json
import shutil
import subprocess
import sys
from filecmp import cmpfiles

import pytest

from atu.common.recipe import RecipeError
from atu_pipeline import predictions
from conftest import ROOT

ALONE = ("--config", "with_models=false")
MODEL_RULES = {"check_model", "write_texts", "embed_windows", "hidden_states", "align", "unlearn", "unlearn_last"}
MODEL_RULES |= {"attack_before", "attack_after", "score_texts_before", "score_texts_after", "download_model"}
MODEL_RULES |= {"evaluate_before", "evaluate_between", "evaluate_after", "train", "keep_weights", "keep_model"}


@pytest.fixture
def stored(finished, tmp_path_factory):
    """A folder with the predictions of a finished run."""
    folder = tmp_path_factory.mktemp("stored")
    predictions.save(folder, finished.directory)
    return folder


def test_tables_and_figures_without_a_model(finished, workflow, stored):
    assert not [path for path in stored.rglob("*") if path.suffix == ".safetensors"]
    said = predictions.load(stored, workflow.directory)
    assert "results added, 0 were there" in said
    assert len({(workflow.directory / path).stat().st_mtime_ns for path in predictions.kept(workflow.directory)}) == 1
    jobs = workflow.planned(*ALONE)
    assert {"overall_table", "plot"} <= set(jobs)
    assert not MODEL_RULES & set(jobs)
    workflow.run(*ALONE)
    made, again = (place / "results" for place in (finished.directory, workflow.directory))
    names = [path.relative_to(made) for path in made.rglob("*") if path.suffix in (".csv", ".md", ".html", ".png")]
    names = [path.as_posix() for path in names if path.parts[0] in ("tables", "figures", "answers")]
    assert len(names) > 12
    assert cmpfiles(made, again, names, shallow=False) == (names, [], [])
    (row,) = json.loads((stored / predictions.MADE_BY).read_text())
    assert row["first"] < row["last"]
    assert row["versions"]["torch"]


COMMITTED = ROOT / "predictions/demo"
ATTACKED = json.dumps({"robustness": {"targets": ["3_Leonardo_da_Vinci"]}})


@pytest.mark.full
def test_committed_predictions_make_the_tables_of_the_results_page(tmp_path):
    """They fit the settings in force: nothing but tables is left to make."""
    predictions.load(COMMITTED, tmp_path)
    profile = ROOT / "workflow/profiles/demo"
    command = [sys.executable, "-m", "snakemake", "robustness", "--profile", str(profile), "--directory", str(tmp_path)]
    command += ["--dry-run", "--quiet", "rules", "--config", "with_models=false", f"experiments={ATTACKED}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    pairs = [line.split() for line in done.stdout.splitlines()]
    jobs = {pair[0] for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
    assert {"robustness_table", "text_scores_table", "matched_table"} <= jobs
    assert not MODEL_RULES & jobs


def test_a_run_goes_on_with_what_is_lacking(workflow, stored):
    """A further method is computed, and nothing of the first again: the models were there before the answers."""
    workflow.run("download")
    predictions.load(stored, workflow.directory)
    jobs = workflow.planned("--config", "with_models=false", "methods=[atu,icu]")
    assert (jobs["find_intervention"], jobs["evaluate_after"]) == (1, 1)
    assert not (MODEL_RULES - {"evaluate_after"}) & set(jobs)


def test_weights_stay_only_where_models_are_asked_for(workflow):
    """Elsewhere until they have been asked: of many settings they fill a disk."""
    config = json.loads(workflow.config.read_text())
    config |= {"methods": ["ga"], "corpus": config["corpus"] | {"source": "benchmark"}}
    config["method_settings"]["ga"] = {"train": {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3}}
    config["evaluation"] |= {"before_and_after": ["forget_qa", "neighbor_qa"], "between": []}
    workflow.config.write_text(json.dumps(config))
    table, run = "results/tables/main.csv", workflow.directory / workflow.paths().run("1_Ada", "ga", "0")
    workflow.run(table, *ALONE)
    assert [path.name for path in run.iterdir()] == ["evaluations"]
    assert workflow.planned(table, *ALONE) == {}


def test_what_is_there_stays(copy, stored):
    before = {path: path.read_bytes() for path in copy.directory.glob("results/**/*.parquet")}
    dates = {path: path.stat().st_mtime_ns for path in before}
    said = predictions.load(stored, copy.directory)
    assert " 0 results added" in said
    assert {path: path.stat().st_mtime_ns for path in before} == dates  # an answer older than its model stays older
    assert {path: path.read_bytes() for path in before} == before
    assert " 0 results added" in predictions.save(stored, copy.directory)
    assert len(json.loads((stored / predictions.MADE_BY).read_text())) == 1


def test_what_was_changed_is_refused(workflow, stored, capsys):
    path = next(stored.rglob("evaluations/*.parquet"))
    path.write_bytes(path.read_bytes() + b" ")
    assert predictions.main(["load", str(stored), "--directory", str(workflow.directory)]) == 1
    assert "is no longer the file that was written" in capsys.readouterr().err
    shutil.rmtree(stored / "results")
    with pytest.raises(RecipeError, match="holds no results; name a folder"):
        predictions.load(stored, workflow.directory)
