"""What is done when a part is asked for or changed: the lists of jobs."""

import json

from conftest import options_of

TRAINING = {"align", "realign", "unlearn", "unlearn_last", "train", "keep_weights"}
VIEWS = {"overall_table", "matched_table", "known", "plot"}


def test_one_file_of_another_target(finished):
    """Its first stage's predictions: no second stage, no table, nothing of the other target."""
    path = finished.paths().between("2_Bo", "atu", "0", 1)
    jobs = finished.planned(path, "--config", "targets=[2_Bo]")
    assert (jobs["align"], jobs["unlearn"], jobs["evaluate_between"]) == (1, 1, 1)
    assert not (VIEWS | {"unlearn_last", "keep_model"}) & set(jobs)
    assert not [line for line in finished.planned_outputs(path, "--config", "targets=[2_Bo]") if "1_Ada/seed" in line]


def test_a_target_without_tables(finished):
    jobs = finished.planned("forget", "--config", "targets=[2_Bo]")
    assert (jobs["align"], jobs["unlearn"], jobs["unlearn_last"], jobs["keep_model"]) == (1, 1, 1, 1)
    assert not VIEWS & set(jobs)


def test_one_method(finished):
    jobs = finished.planned("forget", "--config", "methods=[ga]")
    assert jobs.pop("evaluate_between") == 2
    assert jobs == {"train": 1, "evaluate_after": 1, "keep_weights": 1, "keep_model": 1, "forget": 1}


def test_one_figure(finished):
    jobs = finished.planned("results/figures/tradeoff.png", "--forcerun", "plot")
    assert jobs == {"plot": 1}


def test_a_changed_caption_draws_its_figure_anew(finished, checkout):
    snakefile = options_of(checkout)
    assert finished.planned(*snakefile) == {}
    with (checkout / "workflow/report/stages.rst").open("a") as caption:
        caption.write("More.\n")
    assert finished.planned(*snakefile) == {"plot": 1, "all": 1}
    assert any("figures/stages.png" in line for line in finished.planned_outputs(*snakefile))


def test_a_methods_learning_rate_touches_no_other_method(finished):
    """What reaches the method itself does nothing anew where another one was run: both are said in the same way."""

    def planned(**settings) -> dict[str, int]:
        return finished.planned("--config", "method_settings=" + json.dumps(settings))

    own = planned(atu={"unlearn": {"learning_rate": 2e-3}})
    assert (own["unlearn"], own["unlearn_last"], own["keep_model"]) == (1, 1, 1)
    assert "align" not in own
    assert planned(ga={"train": {"learning_rate": 2e-3}}) == {}


def test_other_questions_train_nothing(finished):
    """Before and after are asked anew together, on the models that are kept."""
    sets = ["forget_qa", "neighbor_qa", "utility_flu"]
    jobs = finished.planned("--config", "evaluation=" + json.dumps({"before_and_after": sets}))
    assert (jobs["evaluate_before"], jobs["evaluate_after"]) == (2, 1)
    assert not TRAINING & set(jobs)


def test_changed_code_of_the_evaluation_trains_nothing(finished, checkout):
    """It asks the base model and the kept one anew; the checkpoint of the stage between is gone."""
    snakefile = options_of(checkout)
    with (checkout / "workflow/scripts/evaluate_model.py").open("a") as script:
        script.write("# changed\n")
    jobs = finished.planned(*snakefile)
    assert (jobs["evaluate_before"], jobs["evaluate_after"]) == (2, 1)
    assert not (TRAINING | {"evaluate_between"}) & set(jobs)


def test_forced_to_be_asked_anew(finished):
    """What the library's changed code calls for: kept models are asked; the stage between is trained for it."""
    jobs = finished.planned("--forcerun", "evaluate_before", "evaluate_after")
    assert (jobs["evaluate_before"], jobs["evaluate_after"]) == (2, 1)
    assert not TRAINING & set(jobs)
    jobs = finished.planned("--forcerun", "evaluate_between")
    assert (jobs["evaluate_between"], jobs["unlearn"], jobs["unlearn_last"]) == (1, 1, 1)
