"""Experiments under settings of their own, and models from elsewhere: right, or refused before any job."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from atu_pipeline.demands import parameters
from atu_pipeline.paths import names_in
from atu_pipeline.runs import of_config
from atu_pipeline.settings import ConfigError, experiment_of
from atu_pipeline.variants import Variants
from conftest import ROOT, Workflow, build_llm, copy_of
from test_settings import PAPER, check, merge

ADA, BO = "1_Ada", "2_Bo"
ASKED = {"before_and_after": ["forget_qa", "neighbor_qa"], "between": []}
OTHER = {
    "targets": [ADA],
    "methods": ["icu"],
    "shows": ["main"],
    "overrides": {"llm": "other", "evaluation": ASKED | {"protocol": "strict"}},
}


@pytest.fixture(scope="session")
def other(tmp_path_factory) -> Path:
    """A second language model: of another depth."""
    folder = tmp_path_factory.mktemp("other") / "llm"
    build_llm(folder, layers=2)
    return folder


@pytest.fixture
def given(tiny, tmp_path, other, monkeypatch) -> dict:
    """The tiny config as it is written, with an experiment on another model."""
    monkeypatch.chdir(tmp_path)
    config = merge(copy_of(PAPER), json.loads(Workflow(tiny, tmp_path).config.read_text()))
    config["models"]["other"] = {"source": "path", "path": str(other), "parameters": 1e5}
    return merge(config, {"experiments": {"elsewhere": OTHER}, "evaluation": {"protocol": "rwku"}})


def variants(given: dict) -> Variants:
    return Variants(given, check(given), ROOT)


def test_an_experiment_sets_keys_otherwise(given):
    """Its model and its questions; all else is the config's, and the config itself is what it was."""
    found = variants(given)
    own, elsewhere = found.own, found.of("elsewhere")
    assert (own.config["llm"], elsewhere.config["llm"]) == ("llm", "other")
    assert elsewhere.config["evaluation"]["before_and_after"] == ["forget_qa", "neighbor_qa"]
    assert elsewhere.config["evaluation"]["batch_tokens"] == own.config["evaluation"]["batch_tokens"]
    assert elsewhere.config["methods"] == ["icu"]
    assert found.of("main_table") is own
    run = ADA, "icu", "0"
    path = elsewhere.paths.after(*run)
    assert path.startswith("results/other/tiny/1_Ada/seed0/icu-")
    kind, names = names_in(path)
    inputs, stage = found.find(kind, names)
    assert inputs is elsewhere
    assert stage[:3] == run
    assert found.of_kind("after").asking(Names(names))["protocol"] == "strict"
    assert found.of_kind("after").llm(Names(names)) == elsewhere.paths.llm != own.paths.llm
    found.check([path, own.paths.after(ADA, "atu", "0"), "paper"])
    with pytest.raises(ConfigError, match="made by other settings than those in force"):
        found.check([re.sub("icu-[0-9a-f]{8}", "icu-00000000", path)])


class Names(dict):
    """Names in a path, as a rule's wildcards have them."""


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"llm": "none"}, r"experiments.elsewhere.overrides.llm: unknown 'none'"),
        ({"precision": "bf16"}, r"experiments.elsewhere.overrides.precision: unknown 'precision'"),
        ({"corpus": {"source": "benchmark"}}, r"experiments.elsewhere.overrides.corpus.source: unknown 'source'"),
    ],
)
def test_what_cannot_be_set_otherwise_is_told_with_the_config(given, over, said):
    given["experiments"]["elsewhere"] = OTHER | {"overrides": over}
    with pytest.raises(ConfigError, match=said):
        check(given)


@pytest.mark.parametrize(
    ("over", "methods", "said"),
    [
        ({"evaluation": {"protocol": "rvku"}}, ["icu"], r"evaluation.protocol: 'rvku' is not one of"),
        (
            {"corpus": {"text_set": "positive"}},
            ["icu"],
            r"corpus.text_set: nothing reads it where corpus.source is gen",
        ),
        (
            {"llm": "other"},
            ["atu-deep"],
            r"method_settings.atu-deep.layer: 3 is no layer of the model, which has .* 1 to 2",
        ),
        (
            {"method_settings": {"atu": {"unlearn": {"stepz": 1}}}},
            ["atu"],
            r"method_settings.atu.unlearn.stepz: unknown 'stepz'",
        ),
    ],
)
def test_what_is_wrong_under_overrides_is_told_where_the_experiment_is_asked_for(given, over, methods, said):
    given["experiments"]["elsewhere"] = OTHER | {"overrides": over, "methods": methods}
    given["method_settings"]["atu-deep"] = {"method": "atu", "layer": 3}
    found = variants(given)
    with pytest.raises(ConfigError, match=f"experiments.elsewhere.overrides: {said}"):
        found.of("elsewhere")
    assert next(found.all()) is found.own  # others go on


@pytest.fixture(scope="session")
def elsewhere(finished, other, tmp_path_factory):
    """A finished run beside which an experiment on another model, a model from elsewhere and `before` have run."""
    directory = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(finished.directory, directory, dirs_exist_ok=True, copy_function=shutil.copy2)
    copy = Workflow(finished.tiny, directory)
    config = json.loads(copy.config.read_text())
    config["models"]["other"] = {"source": "path", "path": str(other), "parameters": 1e5}
    (weights,) = directory.glob("results/llm/tiny/1_Ada/seed0/atu-*/weights")
    shutil.copytree(weights, directory / "mine")
    for name in ("recipe.json", "provenance.json"):
        (directory / "mine" / name).unlink()
    config["models"]["mine"] = {"source": "path", "path": "mine", "parameters": 1e5}
    config["method_settings"]["external-mine"] = {"method": "external", "model": "mine", "forgot": ["Ada"]}
    save_adapter(finished.tiny / "llm", directory / "adapter")
    config["models"]["adapter"] = {"source": "path", "path": "adapter"}
    config["method_settings"]["external-lora"] = {"method": "external", "model": "adapter", "forgot": ["Ada"]}
    shown = {"targets": [ADA, BO], "methods": ["external-mine"], "shows": ["main", "answers", "matched", "mia"]}
    lora = {"targets": [ADA], "methods": ["external-lora"], "shows": ["main"]}
    config["experiments"] = {"elsewhere": OTHER, "mine": shown, "lora": lora}
    config["before"] = {"llms": ["llm", "other"], "protocols": ["rwku", "strict"]}
    config["published"] = {"file": "published.csv", "found_by_others": "others.csv", "benchmark": "tiny"}
    head = "model,method,metric,value,source\n"
    (directory / "published.csv").write_text(head + "other,Before,forget_qa,30.0,Table 1\n")
    (directory / "others.csv").write_text(head + "other,Before,forget_qa,20.0,issue 3\n")
    copy.config.write_text(json.dumps(config))
    copy.run("elsewhere", "mine", "lora", "before")
    return copy


def save_adapter(base: Path, directory: Path) -> None:
    """A LoRA adapter of a model, with weights that change what it says, as peft saves it: without a tokenizer."""
    from atu.engine.models import add_lora, load_llm

    llm, _ = load_llm(base)
    adapted = add_lora(llm, 2, 64, ["q_proj", "v_proj"])
    torch.manual_seed(1)
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=1.0)
    adapted.save_pretrained(directory)


def test_an_adapter_from_elsewhere_is_put_onto_the_base_model(elsewhere):
    table = pd.read_csv(elsewhere.directory / "results/experiments/lora/tables/main.csv")
    before, after = (table.query(f"stage == {stage} and metric == 'mia_fm'")["value"].iloc[0] for stage in (0, 1))
    assert abs(before - after) > 1
    (card,) = elsewhere.directory.glob("results/llm/tiny/1_Ada/seed0/external-*/model/adapter_config.json")
    assert card.exists()


def test_an_adapter_of_another_model_is_refused_before_any_question(elsewhere, other):
    copy = Workflow(elsewhere.tiny, elsewhere.directory)
    config = json.loads(copy.config.read_text())
    save_adapter(other, elsewhere.directory / "misfit")
    config["models"]["misfit"] = {"source": "path", "path": "misfit"}
    config["method_settings"]["external-misfit"] = {"method": "external", "model": "misfit", "forgot": ["Ada"]}
    config["experiments"] = {"misfit": {"targets": [ADA], "methods": ["external-misfit"], "shows": ["main"]}}
    copy.config = elsewhere.directory / "misfit.json"
    copy.config.write_text(json.dumps(config | {"paper": ["misfit"], "before": {"llms": []}}))
    done = copy.run("misfit", "--until", "check_model", check=False)
    assert done.returncode
    assert "is no adapter of" in done.stderr
    assert "name the base model that it was trained on" in done.stderr


def test_another_model_goes_the_same_way(elsewhere):
    table = pd.read_csv(elsewhere.directory / "results/experiments/elsewhere/tables/main.csv")
    assert set(table["model"]) == {"other"}
    assert set(table["metric"]) >= {"forget_qa", "neighbor_qa"}
    assert "utility_gen" not in set(table["metric"])
    made = json.loads((elsewhere.directory / "results/experiments/elsewhere/tables/provenance.json").read_text())
    assert made["settings"]["llm"] == "other"
    assert made["protocol"] == "strict"
    assert elsewhere.planned("elsewhere", "mine") == {}


def test_unmodified_models_by_both_protocols(elsewhere):
    table = pd.read_csv(elsewhere.directory / "results/tables/before.csv")
    asked = table.query("metric == 'forget_qa'")
    assert asked[["model", "protocol"]].values.tolist() == [
        ["llm", "rwku"],
        ["llm", "strict"],
        ["other", "rwku"],
        ["other", "strict"],
    ]
    assert asked["published"].fillna(0).tolist() == [0, 0, 30, 30]
    assert asked["others"].fillna(0).tolist() == [0, 0, 20, 20]
    page = (elsewhere.directory / "results/tables/before.md").read_text()
    assert all(heading in page for heading in ("Model", "Protocol", "Published by others", "Found by others"))


def test_a_model_from_elsewhere_is_asked_and_never_trained(elsewhere):
    """It scores what the run scores that made it; rows of whom it has not forgotten are marked; nothing is copied."""
    folder = elsewhere.directory / "results/experiments/mine/tables"
    table = pd.read_csv(folder / "main.csv").query("stage == 1 and split == 'test'")
    own = pd.read_csv(elsewhere.directory / "results/tables/main.csv").query("stage == 2 and split == 'test'")
    values = table[table["target"] == ADA].set_index("metric")["value"]
    assert values.to_dict() == pytest.approx(own.set_index("metric")["value"].to_dict())
    for name in ("main", "matched", "mia"):
        assert "50% of targets that it has not forgotten" in (folder / f"{name}.md").read_text()
    collapsed = pd.read_csv(folder / "collapsed.csv").set_index("target")["foreign"]
    assert collapsed.to_dict() == {ADA: False, BO: True}
    (weights,) = elsewhere.directory.glob("results/llm/tiny/1_Ada/seed0/external-*/model/model.safetensors")
    assert "made to forget **Ada**" in (weights.parent / "README.md").read_text()
    fetched = next(elsewhere.directory.glob("resources/models/mine-*/model.safetensors"))
    assert fetched.samefile(weights)
    assert (elsewhere.directory / "results/experiments/mine/answers/2_Bo.html").exists()


def test_a_model_from_elsewhere_is_needed_and_fetched(given, tiny, tmp_path):
    """`atu runs --delete` leaves it, `download` brings it, and it is planned as large as the model that it was."""
    given["models"]["mine"] = {"source": "path", "path": given["models"]["llm"]["path"]}
    given["method_settings"]["external-mine"] = {"method": "external", "model": "mine", "forgot": ["Ada"]}
    given["methods"] = ["external-mine"]
    found = variants(given)
    model = found.own.paths.model("mine")
    assert model in of_config(found)[0]
    assert parameters(found.config, "mine") == parameters(found.config, "llm") == 1e5
    workflow = Workflow(tiny, tmp_path)
    workflow.config.write_text(json.dumps(given))
    assert any(model in line for line in workflow.planned_outputs("download"))


def test_published_experiments_are_of_their_benchmark(given):
    said = r"experiments.rwku_llama3: runs what was published on the benchmark rwku, and this config has tiny; run it"
    with pytest.raises(ConfigError, match=said):
        variants(given).of("rwku_llama3")
    with pytest.raises(ConfigError, match=said.replace("llama3", "phi3")) as fault:
        experiment_of("rwku_phi3", check(given))
    assert len(str(fault.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"model": "mine"}, r"method_settings.external-mine.model: unknown 'mine'"),
        ({"model": "llm"}, r"method_settings.external-mine.model: llm is the llm itself, which has forgotten nobody"),
        ({"forgot": ["Adda"]}, r"method_settings.external-mine.forgot: unknown 'Adda'"),
        ({"model": "again"}, r"external-again.model: again is that of method_settings.external-mine too"),
        ({"train": {}}, r"method_settings.external-mine.train: unknown 'train'"),
    ],
)
def test_a_model_from_elsewhere_that_is_described_wrongly(given, block, said):
    block = {"method": "external", "model": "other", "forgot": ["Ada"]} | block
    given["method_settings"]["external-mine"] = block
    given["method_settings"]["external-again"] = {"method": "external", "model": "again", "forgot": ["Bo"]}
    given["methods"] = ["external-mine"]
    with pytest.raises(ConfigError, match=said):
        check(given)
