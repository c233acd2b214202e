"""What is there is gone on from: by a longer schedule, by one more probe set, and by settings that come back."""

import json
import shutil

import pandas as pd
import pytest

from atu.data.protocol import protocol_of
from atu.engine.engine import Engine
from atu.evaluation.surprise import add_surprises
from conftest import Workflow

ADA = ("1_Ada", "atu", "0")
VIEWS = {"overall_table", "published_table", "matched_table", "attack_table", "membership_table", "known"}
VIEWS |= {"selected_table", "plot", "answers_page", "front_page", "all"}
TRAINING = {"align", "realign", "unlearn", "unlearn_last", "keep_model"}
BEHIND = {"download_model", "write_texts", "embed_windows", "hidden_states", "embed_target", "prepare_probes"}


def numbers(workflow: Workflow) -> pd.DataFrame:
    table = pd.read_csv(workflow.directory / "results/tables/main.csv")
    return table.set_index(["target", "method", "seed", "stage", "tau", "split", "metric"]).sort_index()


def set_tau(workflow: Workflow, *taus: float) -> None:
    config = json.loads(workflow.config.read_text())
    config["method_settings"]["atu"]["unlearn"]["tau"] = taus
    workflow.config.write_text(json.dumps(config))


@pytest.mark.release
def test_a_longer_schedule_and_back(finished, copy):
    """One more stage: the predictor is aligned on the kept model, which is the stage before; nothing is trained again.

    A folder of an earlier version's layout is told of, and left alone.
    """
    old = copy.directory / "results/llm/tiny/1_Ada/atu/seed0"
    old.mkdir(parents=True)
    short = copy.paths().run(*ADA)
    set_tau(copy, 0.0, -0.5, -0.8)
    jobs = copy.planned()
    added = ("realign", "evaluate_between", "unlearn_last", "evaluate_after", "keep_model")
    assert {rule: count for rule, count in jobs.items() if rule not in VIEWS} == dict.fromkeys(added, 1)
    done = copy.run()
    assert "results/ holds 1 runs of an earlier version, such as results/llm/tiny/1_Ada/atu/seed0; they" in done.stderr
    assert old.is_dir()

    before, after = numbers(finished), numbers(copy)
    kept = before.index.intersection(after.index)
    kept = kept[
        ~kept.get_level_values("metric").isin(["forget_degenerate", "forget_empty", "forget_refused"])
    ]  # of all that was asked
    pd.testing.assert_frame_equal(after.loc[kept], before.loc[kept])
    assert set(kept.get_level_values("stage")) == {0, 1, 2}
    assert set(after.query("stage == 3").reset_index()["tau"]) == {-0.8}
    long = copy.paths().run(*ADA)
    assert long != short
    assert {path.name for path in (copy.directory / short).iterdir()} >= {"model", "weights", "evaluations"}
    steps = pd.read_csv(copy.find("llm/tiny/1_Ada/seed0/realignments/atu-*") / "steps.csv")
    assert steps["phase"].tolist() == ["align"] * 3
    assert len(pd.read_csv(copy.directory / long / "steps.csv")) == 3
    assert copy.planned() == {}

    set_tau(copy, 0.0, -0.5)
    assert set(copy.planned()) <= VIEWS
    copy.run()
    table = "results/tables/main.csv"
    assert (copy.directory / table).read_text() == (finished.directory / table).read_text()
    assert copy.planned() == {}
    set_tau(copy, 0.0, -0.5, -0.8)
    assert set(copy.planned()) <= VIEWS


def answers(workflow: Workflow) -> dict[str, pd.DataFrame]:
    """Of the base model and of the kept one."""
    paths = workflow.paths()
    files = {"before": paths.before("1_Ada"), "after": paths.after(*ADA)}
    return {when: pd.read_parquet(workflow.directory / file) for when, file in files.items()}


def of_set(predictions: pd.DataFrame, *names: str) -> pd.DataFrame:
    return predictions[predictions["set"].isin(names)].reset_index(drop=True)


def told(when: str, *predictions: pd.DataFrame) -> list[pd.DataFrame]:
    """What does not depend on which other sets are asked: of the base model all but what is made of its answers."""
    return [frame.drop(columns="details") if when == "before" else frame for frame in predictions]


def check_pool(workflow: Workflow, predictions: pd.DataFrame) -> None:
    """What the guard judges by is made of all answers of the base model together, whenever they were given."""
    engine = Engine.load(workflow.tiny / "llm", 1000)
    protocol = protocol_of(workflow.paths().config["evaluation"]["protocol"])
    whole = add_surprises(predictions, engine, protocol, own=True)
    for made, expected in zip(predictions["details"], whole["details"], strict=True):
        assert json.loads(made) == pytest.approx(json.loads(expected), abs=1e-4)


@pytest.mark.release
def test_one_more_probe_set_is_asked_alone(finished, copy):
    """Fewer sets are taken from the answers to all; then one more is asked, and the others' answers stay."""

    def ask(*sets: str) -> tuple[dict[str, int], dict[str, str]]:
        config = json.loads(copy.config.read_text())
        config["evaluation"]["before_and_after"] = sets
        copy.config.write_text(json.dumps(config))
        jobs = copy.planned("forget")
        copy.run("forget")
        paths = copy.paths()
        files = {"before": paths.before("1_Ada"), "after": paths.after(*ADA)}
        logs = {when: f"logs/evaluate_{when}/{file.removeprefix('results/')}" for when, file in files.items()}
        return jobs, {when: (copy.directory / log).with_suffix(".log").read_text() for when, log in logs.items()}

    everything, few = answers(finished), ["forget_qa", "neighbor_qa"]
    jobs, logs = ask(*few)
    assert jobs == {"evaluate_before": 2, "evaluate_after": 1, "keep_model": 1, "forget": 1}
    assert all("answered before, and not asked again: forget_qa, neighbor_qa" in log for log in logs.values())
    taken = answers(copy)
    for when, predictions in taken.items():
        pd.testing.assert_frame_equal(*told(when, predictions, of_set(everything[when], *few)))
    check_pool(copy, taken["before"])
    paths = finished.paths()
    for file in (paths.before("1_Ada"), paths.before("utility"), paths.after(*ADA)):
        (copy.directory / file).unlink()
    jobs, logs = ask(*few, "forget_fb")
    assert not (TRAINING - {"keep_model"} | BEHIND) & set(jobs)
    assert jobs["evaluate_after"] == 1
    assert all("answered before, and not asked again: forget_qa, neighbor_qa\n" in log for log in logs.values())
    for when, predictions in answers(copy).items():
        pd.testing.assert_frame_equal(*told(when, of_set(predictions, *few), taken[when]))
        asked, same = of_set(predictions, "forget_fb"), of_set(everything[when], "forget_fb")
        assert asked["prediction"].tolist() == same["prediction"].tolist()
        assert asked["score"].tolist() == pytest.approx(same["score"].tolist())
    check_pool(copy, answers(copy)["before"])


@pytest.mark.release
def test_a_model_with_dropout_goes_on_as_in_one_piece(workflow):
    """The alignment behind a stage draws alike, in the stage's own job and in a job that goes on from a kept model."""
    model = workflow.directory / "llm"
    shutil.copytree(workflow.tiny / "llm", model)
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(settings | {"attention_dropout": 0.5}))
    config = json.loads(workflow.config.read_text())
    config["models"]["llm"]["path"] = str(model)
    config["evaluation"]["between"] = []
    workflow.config.write_text(json.dumps(config))

    def weights(*taus: float) -> bytes:
        set_tau(workflow, *taus)
        folder = f"{workflow.paths().run(*ADA)}/weights"
        workflow.run(folder)
        return (workflow.directory / folder / "model.safetensors").read_bytes()

    whole = weights(0.0, -0.5)
    workflow.find("llm/tiny/1_Ada/seed0/stages/atu-*")
    shutil.rmtree(workflow.directory / "results/llm/tiny/1_Ada")
    weights(0.0)
    assert weights(0.0, -0.5) == whole
    workflow.find("llm/tiny/1_Ada/seed0/realignments/atu-*")
