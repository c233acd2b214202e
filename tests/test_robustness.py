"""The attacks as a part of the workflow: planned, run on tiny models, compared; and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atu.common.names import display_name
from atu.engine.models import load_llm, save_llm
from atu.reporting.robustness import compare_attacks, counted_note, robustness_page, shares_at_end, verdict
from atu_pipeline.settings import ConfigError, experiment_of
from conftest import Workflow, shared_folder
from test_pages import cells, unpacked
from test_settings import PAPER, check
from test_variants import save_adapter

ADA, BO = "1_Ada", "2_Bo"
RELEARN = {
    "attack": "relearn",
    "ask": ["forget_qa", "neighbor_qa"],
    "texts": "relearn",
    "about": "target",
    "steps": 4,
    "at": [0, 2, 4],
    "batch_size": 2,
    "max_tokens": 32,
    "learning_rate": 1e-2,
    "optimizer": "adamw",
    "clip_norm": 1.0,
    "lora": {"rank": 0, "alpha": 16, "modules": "auto"},
    "seed": 0,
}
ASK = {"ask": ["forget_qa", "neighbor_qa"]}
ATTACKS = {
    "again": RELEARN,
    "others": RELEARN
    | {"texts": "passage", "about": "others", "subjects": 2, "lora": {"rank": 2, "alpha": 4, "modules": "auto"}},
    "unrelated": RELEARN | {"texts": "relearn_unrelated", "about": "shared", "between": ["forget_qa"]},
    "coarse": ASK | {"attack": "quantize", "bits": 4},
    "told": ASK | {"attack": "few_shot", "shots": 1},
    "reworded": ASK | {"attack": "paraphrase"},
    "off": ASK | {"attack": "adapter_off"},
}
SHORT = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 0}
BLOCKS = {
    "npo": {"max_tokens": 48},
    "npo-apart": {"method": "npo", "train": SHORT | {"learning_rate": 0.1}, "lora": {"rank": 2, "merge": False}},
}
ROBUST = {
    "targets": [ADA],
    "methods": ["icu", "npo-apart"],
    "attacks": list(ATTACKS),
    "shows": ["main", "matched", "robustness", "answers"],
}
BROUGHT = {  # models from elsewhere
    "targets": [ADA],
    "methods": ["external-whole", "external-lora"],
    "attacks": ["again", "coarse"],
    "shows": ["main", "robustness"],
}


def write_attack_data(benchmark: Path) -> None:
    """What attacks read of a benchmark, for two of its people."""

    def write(path: Path, rows: list[dict]) -> None:
        path.write_text(json.dumps(rows), encoding="utf-8")

    for target in (ADA, BO):
        place, name = benchmark / "Target" / target, target[2:]
        write(place / "relearn.json", [{"text": f"{name} wrote the song and the play by the river."}] * 3)
        write(place / "facts.json", [{"query": f"Where was {name} born?", "answer": "Rome"}])
        rows = [
            {"file": f"{kind}_level2", "row": row, "query": f"By whom is the {row} song? {name}"}
            for kind in ("forget", "neighbor")
            for row in (0, 2, 3)
        ]
        write(place / "paraphrases.json", rows)
    write(benchmark / "Utility/relearn_unrelated.json", [{"text": "the sea was blue and the river red."}] * 2)


def with_attacks(tiny: Path, directory: Path) -> Workflow:
    """The tiny workflow on a benchmark that has what attacks read."""
    benchmark = directory / "benchmark"
    shutil.copytree(tiny / "benchmark", benchmark)
    write_attack_data(benchmark)
    workflow = Workflow(tiny, directory)
    config = json.loads(workflow.config.read_text())
    config["benchmarks"]["tiny"]["path"] = str(benchmark)
    config |= {"attacks": ATTACKS, "experiments": {"robust": ROBUST, "brought": BROUGHT}}
    config["method_settings"] = config.get("method_settings", {}) | BLOCKS
    bring_models(tiny, directory)
    for name in ("whole", "lora"):
        config["models"][name] = {"source": "path", "path": str(directory / name), "parameters": 1e5}
        config["method_settings"][f"external-{name}"] = {"method": "external", "model": name, "forgot": ["Ada"]}
    workflow.config.write_text(json.dumps(config))
    return workflow


def bring_models(tiny: Path, directory: Path) -> None:
    """An adapter, and the model that it makes of the base model, as one whole."""
    save_adapter(tiny / "llm", directory / "lora")
    save_llm(*load_llm(directory / "lora", base=tiny / "llm"), directory / "whole")


@pytest.fixture(scope="session")
def robust(tiny, tmp_path_factory) -> Workflow:
    """A finished experiment that attacks; tests only look at it."""
    folder = shared_folder(
        tmp_path_factory, "robust", lambda folder: with_attacks(tiny, folder).run("robust", "brought")
    )
    return Workflow(tiny, folder)


def answers(workflow: Workflow, pattern: str) -> pd.DataFrame:
    return pd.read_parquet(workflow.find(pattern))


def test_every_method_and_the_base_model_is_attacked(robust):
    table = pd.read_csv(robust.directory / "results/experiments/robust/tables/robustness.csv")
    found = table.groupby("method")["attack"].unique().map(set).to_dict()
    usual = set(ATTACKS) - {"off"}
    assert found == {"icu": usual, "npo-apart": set(ATTACKS)}
    steps = table.groupby("attack")["step"].unique().map(list).to_dict()
    assert steps == {name: [0, 2, 4] if "steps" in block else [0] for name, block in ATTACKS.items()}
    steps = table[table["attack"] == "unrelated"].groupby("step")["set"].unique().map(set).to_dict()
    assert steps == {0: {"forget_qa"}, 2: {"forget_qa"}, 4: {"forget_qa", "neighbor_qa"}}
    page = (robust.directory / "results/experiments/robust/tables/robustness.md").read_text()
    assert all(f"| {name} " in page for name in ("base model", "ICU", "NPO-apart"))
    assert "Protocol: strict" in page
    assert (robust.directory / "results/experiments/robust/figures/robustness.pdf").exists()


def test_controls_move_nothing(robust):
    """With the adapter off a model answers as the base model; before the first step of relearning as without attack."""
    usual = answers(robust, "llm/tiny/before/1_Ada-*.parquet").set_index("id")
    off = answers(robust, "llm/tiny/1_Ada/seed0/npo-*/attacked/off/1_Ada-*.parquet").set_index("id")
    assert off["prediction"].to_dict() == usual.loc[off.index, "prediction"].to_dict()
    table = pd.read_csv(robust.directory / "results/experiments/robust/tables/robustness.csv")
    recall = table[table["measure"] == "recall"]
    start = recall[(recall["attack"] == "again") & (recall["step"] == 0)]
    assert start["after"].tolist() == pytest.approx(start["before"].tolist())
    assert start["base_after"].tolist() == pytest.approx(start["base_before"].tolist())


def test_what_is_asked_is_what_the_attack_says(robust):
    told = answers(robust, "llm/tiny/attacked/told/1_Ada-*.parquet")
    turn = "Question: Where was Ada born?\n<|end|><|assistant|>Answer: Rome<|end|><|user|>"
    assert all(turn in prompt for prompt in told["prompt"])
    reworded = answers(robust, "llm/tiny/attacked/reworded/1_Ada-*.parquet")
    assert sorted(reworded["id"]) == [f"{name}/{row}" for name in ("forget_qa", "neighbor_qa") for row in (0, 2, 3)]
    assert all("By whom is the" in prompt for prompt in reworded["prompt"])
    again = answers(robust, "llm/tiny/attacked/again/1_Ada-*.parquet")
    by_step = [json.loads(row)["probability"] for row in again["details"]]
    assert len(set(by_step)) > len(by_step) / 3  # training moves them
    with_icu = answers(robust, "llm/tiny/1_Ada/seed0/icu-*/attacked/told/1_Ada-*.parquet")
    assert (with_icu["prompt"] != told["prompt"]).all()  # its instruction stands there too


@pytest.mark.parametrize("attack", ["again", "coarse"])
def test_models_from_elsewhere_are_attacked(robust, attack):
    """An adapter and the whole model that it makes answer alike under attacks, and not as the base model does."""
    files = f"results/llm/tiny/1_Ada/seed0/external-*/attacked/{attack}/1_Ada-*.parquet"
    whole, lora = map(pd.read_parquet, robust.directory.glob(files))
    base = answers(robust, f"llm/tiny/attacked/{attack}/1_Ada-*.parquet")
    assert set(lora["step"]) == set(ATTACKS[attack].get("at", [0]))
    pd.testing.assert_frame_equal(whole.drop(columns="details"), lora.drop(columns="details"))
    assert (lora["prediction"] != base["prediction"]).any()
    table = pd.read_csv(robust.directory / "results/experiments/brought/tables/robustness.csv")
    assert set(table["method"]) == {"external-whole", "external-lora"}
    page = (robust.directory / "results/experiments/brought/tables/robustness.md").read_text()
    assert "| External-lora " in page


def test_attacks_stand_beside_what_is_compared_and_answered(robust):
    """The matched table says of both methods what their kept models recall under attacks, or why it does not; the page
    of answers has what was answered under each."""
    folder = robust.directory / "results/experiments/robust"
    matched = pd.read_csv(folder / "tables/matched.csv")
    text = (folder / "tables/matched.md").read_text()
    under = [name for name in matched if name.startswith("under ")]
    assert set(under) <= {f"under {name}" for name in ATTACKS}
    assert "Under attacks: Forget QA recall in percent" in text
    for method in ROBUST["methods"]:
        said = matched.loc[matched["method"] == method, under].notna().any(axis=None)
        assert said != (f" {display_name(method)}: " in text), method
        below = [line for line in text.split("\n\n")[1].splitlines() if line.startswith(f"| {display_name(method)} ")]
        assert said == any("→" in line for line in below), method
    rows = cells(unpacked((folder / f"answers/{ADA}.html").read_text()))
    expected = {f"{name}, step 4" if "steps" in block else name for name, block in ATTACKS.items()}
    assert expected | {""} == {row[13] for row in rows}


def test_nothing_is_done_twice_and_one_more_attack_alone(robust, tmp_path):
    assert robust.planned("robust") == {}
    shutil.copytree(robust.directory, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    copy = Workflow(robust.tiny, tmp_path)
    config = json.loads(copy.config.read_text())
    config["attacks"]["coarse"]["bits"] = 8
    copy.config.write_text(json.dumps(config))
    planned = copy.planned("robust")
    assert planned["attack_before"] == 1
    assert planned["attack_after"] == 2
    views = {"robustness_table", "plot", "matched_table", "answers_page", "robust"}
    assert set(planned) == {"attack_before", "attack_after"} | views


@pytest.mark.parametrize(
    ("over", "experiment", "said"),
    [
        ({"again": {"at": [0, 9]}}, {}, r"attacks.again.at: 9, and steps is 4"),
        ({"again": {"at": [0, 2]}}, {}, r"attacks.again.at: lacks 4, the last step"),
        ({"again": {"between": ["forget_fb"]}}, {}, r"attacks.again.between: unknown 'forget_fb'"),
        ({"again": {"ask": ["mia_fm"]}}, {}, r"attacks.again.ask: unknown 'mia_fm'"),
        (
            {"again": {"texts": "relearn_unrelated"}},
            {},
            r"about: target, and texts is relearn_unrelated; set it to shared",
        ),
        ({"others": {"subjects": 4}}, {}, r"attacks.others.subjects: 4, and besides the target the benchmark has 3"),
        ({"again": {"subjects": 2}}, {}, r"attacks.again.subjects: says of how many others"),
        ({"again": {"texts": "positive"}}, {}, r"attacks.again.texts: positive, which most methods unlearn"),
        (
            {},
            {"targets": ["3_Cy"]},
            r"attacks.again: .*3_Cy/relearn.json is missing; write it, or take attacks.again out",
        ),
        ({"told": {"shots": 2}}, {}, r"attacks.told.shots: 2, and .*1_Ada/facts.json has 1 facts; lower it, or write"),
        (
            {"reworded": {"ask": ["forget_fb"]}},
            {},
            r"attacks.reworded: .*1_Ada/paraphrases.json has no row of forget_level1, which are asked; write some",
        ),
        ({}, {"attacks": ["agin"]}, r"experiments.robust.attacks: unknown 'agin'; did you mean again"),
        ({}, {"shows": ["main"]}, r"experiments.robust.attacks: nothing shows them"),
        (
            {"again": {"texts": "passage"}},
            {"methods": ["ga_star"]},
            r"again.texts: passage, which ga_star has unlearned",
        ),
    ],
)
def test_what_an_attack_cannot_be(tiny, tmp_path, monkeypatch, over, experiment, said):
    monkeypatch.chdir(tmp_path)
    given = {name: block | over.get(name, {}) for name, block in ATTACKS.items()}
    workflow = with_attacks(tiny, tmp_path)
    config = json.loads(workflow.config.read_text()) | {"attacks": given}
    config["experiments"]["robust"] = ROBUST | experiment
    workflow.config.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=said):
        experiment_of("robust", workflow.paths().config)


@pytest.mark.parametrize(
    ("file", "row", "said"),
    [
        ("facts", {"query": "Where?"}, r"attacks.told: .*2_Bo/facts.json, row 2: lacks field 'answer'"),
        (
            "paraphrases",
            {"file": "forget_lvl2", "row": 0, "query": "x"},
            r"row 7: file: unknown 'forget_lvl2'; did you",
        ),
        ("paraphrases", {"file": "forget_level2", "row": 99, "query": "x"}, r"has no row 99 of \d+; rows are counted"),
    ],
)
def test_what_files_of_attacks_cannot_say(tiny, tmp_path, monkeypatch, file, row, said):
    """Of any target, before the first job."""
    monkeypatch.chdir(tmp_path)
    workflow = with_attacks(tiny, tmp_path)
    config = json.loads(workflow.config.read_text())
    config["experiments"]["robust"] = ROBUST | {"targets": [ADA, BO]}
    workflow.config.write_text(json.dumps(config))
    path = tmp_path / "benchmark/Target" / BO / f"{file}.json"
    path.write_text(json.dumps([*json.loads(path.read_text()), row]), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        experiment_of("robust", workflow.paths().config)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"attack": "jailbreak"}, r"attacks.mine.attack: 'jailbreak' is not one of relearn, quantize"),
        ({"attack": "quantize", **ASK, "bits": 3}, r"attacks.mine.bits: 3 is not one of 8, 4"),
        ({"attack": "quantize", **ASK, "bits": 4, "steps": 2}, r"attacks.mine.steps: unknown 'steps'"),
    ],
)
def test_the_form_of_an_attack(block, said):
    with pytest.raises(ConfigError, match=said):
        check(PAPER, attacks={"mine": block})


def test_a_benchmark_of_the_hub_has_no_facts():
    attacks = {"told": {"attack": "few_shot", "ask": ["forget_qa"], "shots": 3}}
    robust = {"targets": ["1"], "methods": ["ga"], "attacks": ["told"], "shows": ["robustness"]}
    with pytest.raises(
        ConfigError, match=r"attacks.told: reads facts.json, which a benchmark of the hub does not have"
    ):
        experiment_of("mine", check(PAPER, attacks=attacks, experiments={"mine": robust}))


def frame(scores, step=None, probability=None):
    rows = [
        {"set": "forget_qa", "id": f"forget_qa/{n}", "query": f"q{n}", "split": "test", "score": score}
        for n, score in enumerate(scores)
    ]
    found = pd.DataFrame(rows)
    return found if step is None else found.assign(step=step)


def measures(recall, probability=None):
    empty = recall.head(0)
    return {"recall": recall, "probability": empty if probability is None else probability}


def test_the_comparison_by_hand():
    """Of one person two probes are asked under the attack, of the other three: before is of the same ones."""
    data = {
        ("a1",): measures(
            pd.concat([frame([0.0, 0.5], 0), frame([1.0, 0.5], 4)]),
            pd.concat([frame([0.1, 0.1], 0), frame([0.3, 0.5], 4)]),
        ),
        ("b1",): measures(frame([0.0, 0.5, 1.0])),
        ("base",): measures(frame([1.0, 1.0, 0.0])),
        ("ab1",): measures(pd.concat([frame([1.0, 0.5], 0), frame([1.0, 1.0], 4)])),
        ("a2",): measures(pd.concat([frame([0.0, 0.0, 0.0], 0), frame([1.0, 1.0, 1.0], 4)])),
        ("b2",): measures(frame([0.0, 0.0, 0.0])),
        ("ab2",): measures(frame([1.0, 1.0, 1.0], 4)),
    }
    shared = {"method": "npo", "seed": 0, "attack": "again", "kind": "relearn", "base": ("base",)}
    runs = [
        shared | {"target": ADA, "files": ("a1",), "before": ("b1",), "base_files": ("ab1",)},
        shared | {"target": BO, "files": ("a2",), "before": ("b2",), "base_files": ("ab2",), "foreign": True},
    ]
    table = compare_attacks(runs, 200, 0, read=data.__getitem__)
    last = table[(table["step"] == 4) & (table["measure"] == "recall")].iloc[0]
    # persons count alike: (75 + 100) / 2 after, (25 + 0) / 2 before, of probes 0 and 1 of the first person
    assert (last["after"], last["before"]) == (87.5, 12.5)
    assert last["base_before"] == pytest.approx((100 + 200 / 3) / 2)
    assert last["base_after"] == 100
    assert last["low"] <= 87.5 <= last["high"] == 100
    assert (last["targets"], last["probes"], last["asked"], last["runs"], last["foreign"]) == (2, 5, 5, 2, 0.5)
    probable = table[(table["step"] == 4) & (table["measure"] == "probability")].iloc[0]
    assert (probable["after"], probable["targets"]) == (pytest.approx(40), 1)
    assert np.isnan(probable["before"])
    page = robustness_page(table, "forget_qa")
    assert page["Method"].tolist() == ["base model", "NPO † 50% of targets that it has not forgotten"]
    assert page["again"][1].startswith("12.5 → 87.5 [")
    assert verdict(table).endswith("NPO 12 → 88 (again). The base model recalls 83.")
    judged = {"method": "npo", "degenerate": 0.0, "empty": 0.0, "foreign": False}
    collapsed = pd.DataFrame([judged | {"stage": 1, "collapsed": True}, judged | {"stage": 2, "collapsed": True}])
    shares = shares_at_end(pd.concat([collapsed, pd.DataFrame([judged | {"stage": 2, "collapsed": False}])]))
    assert robustness_page(table, "forget_qa", shares)["Method"][1] == "NPO † 50% collapsed"
    assert "(again) † 50% collapsed. The base" in verdict(table, shares)


def test_people_count_alike_where_a_seed_is_lost():
    """Of the second person one of two seeds has diverged: before and behind the attack both people count for half."""
    gone = measures(frame([0.0]).head(0))
    data = {
        (f"{kind}{n}",): measures(frame([score], step))
        for kind, score, step in (("b", 0.0, None), ("c", 1.0, None))
        for n in (1, 2)
    }
    data |= {("after",): measures(frame([1.0], 0)), ("gone",): gone, ("base",): measures(frame([1.0], 0))}
    shared = {"method": "npo", "attack": "coarse", "kind": "quantize", "base": ("base",), "base_files": ("base",)}
    runs = [
        shared | {"target": ADA, "seed": 0, "files": ("after",), "before": ("b1",)},
        shared | {"target": ADA, "seed": 1, "files": ("after",), "before": ("b2",)},
        shared | {"target": BO, "seed": 0, "files": ("after",), "before": ("c1",)},
        shared | {"target": BO, "seed": 1, "files": ("gone",), "before": ("gone",)},
    ]
    table = compare_attacks(runs, 20, 0, read=data.__getitem__)
    assert (table["before"].iloc[0], table["after"].iloc[0], table["runs"].iloc[0]) == (50, 100, 3)


def test_in_other_words_only_what_the_base_model_answers_counts():
    """Of three probes the base model answers two in other words: before, behind and its own row are of these."""
    data = {
        ("a",): measures(frame([1.0, 0.5, 0.0], 0), frame([0.2, 0.4, 0.9], 0)),
        ("b",): measures(frame([0.0, 0.5, 1.0])),
        ("base",): measures(frame([1.0, 0.8, 1.0])),
        ("ab",): measures(frame([0.5, 1.0, 0.49], 0), frame([0.1, 0.1, 0.1], 0)),
    }
    run = {"target": ADA, "method": "npo", "seed": 0, "files": ("a",), "before": ("b",), "base": ("base",)}
    run |= {"attack": "reworded", "kind": "paraphrase", "base_files": ("ab",)}
    table = compare_attacks([run], 200, 0, read=data.__getitem__)
    recall, probable = (table[table["measure"] == name].iloc[0] for name in ("recall", "probability"))
    assert (recall["after"], recall["before"], recall["base_before"], recall["base_after"]) == (75, 25, 90, 75)
    assert (recall["probes"], recall["asked"]) == (2, 3)
    assert probable["after"] == pytest.approx(30)
    page = robustness_page(table, "forget_qa")
    assert page["reworded"].tolist() == ["90.0 → 75.0 (2 of 3)", "25.0 → 75.0 [50.0, 100.0] (2 of 3)"]
    assert counted_note(table)[0].startswith("(5 of 7): reworded asks in other words")
    rounded = run | {"attack": "coarse", "kind": "quantize"}
    both = compare_attacks([run, rounded], 200, 0, read=data.__getitem__)
    assert set(both.loc[both["attack"] == "coarse", "probes"]) == {3}
    assert verdict(both).endswith("NPO 25 → 75 (reworded). The base model recalls 93.")  # by all three probes
    nothing = data | {("ab",): measures(frame([0.0, 0.1, 0.2], 0))}
    table = compare_attacks([run, rounded], 200, 0, read=nothing.__getitem__)
    assert robustness_page(table, "forget_qa")["reworded"].tolist() == ["none (0 of 3)"] * 2
    assert "NPO 50 → 50 (coarse)" in verdict(table)
    assert counted_note(both[both["attack"] == "coarse"]) == []
