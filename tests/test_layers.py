"""Hidden states of every layer, classifiers of them, and both as a part of the workflow."""

import json
import shutil
from copy import deepcopy as copy_of

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from atu.common.errors import ExplainedError
from atu.data.protocol import PROTOCOL, RWKU, STRICT
from atu.engine.engine import Engine
from atu.engine.intervention import Intervention
from atu.evaluation import layers
from atu.evaluation.evaluate import build_prompt
from atu.evaluation.layers import last_states, read_layers
from atu.reporting.figures import FIGURES
from atu.reporting.layers import (
    BASE,
    CONTROL,
    LayerError,
    States,
    Told,
    assign_folds,
    compare_layers,
    fewest,
    fit,
    read_states,
    rows_of,
    tell,
)
from atu.reporting.tables import REMARKED
from atu_pipeline.demands import demand
from atu_pipeline.settings import ConfigError, experiment_of
from conftest import Workflow, shared_folder
from test_settings import PAPER, check

ADA = "1_Ada"
PROMPTS = [
    "Who wrote song? Ada",
    "Who wrote the red book by the sea? Bo ___",
    "Di",
    "Who wrote song? Cy was born in Rome",
]
ASK = ["forget_fb", "forget_qa", "neighbor_fb", "neighbor_qa"]


@pytest.fixture
def paths(tiny, tmp_path, monkeypatch):
    """The paths of the tiny config with some of it changed."""
    monkeypatch.chdir(tmp_path)
    return Workflow(tiny, tmp_path).paths


def own_states(model, tokenizer, prompt):
    """What transformers says of the last token of one prompt alone, [layers + 1, hidden]."""
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        found = model(**ids, output_hidden_states=True).hidden_states
    return torch.stack([layer[0, -1] for layer in found])


@pytest.mark.parametrize("batch_tokens", [1, 40, 1000])  # one by one, some together, all together
def test_states_are_those_of_the_model_itself(llm, batch_tokens):
    model, tokenizer = llm
    found = last_states(Engine(model, tokenizer, batch_tokens), PROMPTS, groups=["a", "b", "a", "a"])
    expected = torch.stack([own_states(model, tokenizer, prompt) for prompt in PROMPTS])
    assert found.shape == (4, 4, 32)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not any(layer._forward_pre_hooks for layer in model.get_decoder().layers)


def test_what_steers_a_model_is_in_its_states(llm):
    """A vector behind layer 1 is what layer 2 reads: there it stands whole, before it not at all."""
    engine, vector = Engine(*llm, 1000), torch.full((1, 32), 0.5)
    plain = last_states(engine, PROMPTS)
    with Intervention(vectors=vector, layers=[1], coefficient=2.0).applied(engine.llm):
        steered = last_states(engine, PROMPTS)
    assert torch.equal(steered[:, 0], plain[:, 0])
    torch.testing.assert_close(steered[:, 1], plain[:, 1] + 1.0)
    assert not torch.allclose(steered[:, 2:], plain[:, 2:], atol=1e-3)


def test_states_that_are_not_finite_are_refused(llm):
    damaged = copy_of(llm[0])
    damaged.get_decoder().layers[1].mlp.down_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(ExplainedError, match="hidden states are NaN or infinite"):
        last_states(Engine(damaged, llm[1], 1000), PROMPTS)


def test_probes_are_prompted_as_they_are_asked(llm, monkeypatch):
    blank = {"split": "test", "type": "", "context": "", "query": "Who wrote song? Ada"}
    probes = pd.DataFrame([blank | {"set": name, "id": f"{name}/0"} for name in ("neighbor_qa", "forget_fb")])
    found = read_layers(Engine(*llm, 1000), probes, ["forget_fb"], {}, "Forget Ada. ")
    assert found["layer"].tolist() == [0, 1, 2, 3]
    assert set(found["id"]) == {"forget_fb/0"}
    assert found.attrs[PROTOCOL] == "strict"
    prompt = build_prompt(llm[1], probes.iloc[1].to_dict(), {}, "Forget Ada. ")
    assert "Forget Ada. Please complete the blank" in prompt
    np.testing.assert_allclose(np.stack(found["states"]), own_states(*llm, prompt), rtol=1e-4, atol=1e-5)
    assert read_layers(Engine(*llm, 1000), probes, ["mia_fm"], {}).empty
    engines = []
    monkeypatch.setattr(layers, "last_states", lambda engine, *rest: engines.append(engine) or torch.zeros(1, 4, 32))
    for protocol in (STRICT, RWKU):
        read_layers(Engine(*llm, 1000), probes, ["forget_fb"], {}, protocol=protocol)
    assert [engine.special_tokens for engine in engines] == [False, True]
    long = probes.assign(query="Rome " * 600)
    with pytest.raises(ExplainedError, match="forget_fb/0 has a prompt of"):
        read_layers(Engine(*llm, 1000), long, ["forget_fb"], {})


def person(sizes=(8, 12), dev=2, ways=("a",)):
    """Probes of a person: of each side so many a way, the first of each dev."""
    rows = [
        {
            "set": f"{about}{way}",
            "id": f"{about}{way}/{n}",
            "split": "dev" if n < dev else "test",
            "about": about,
            "way": way,
        }
        for about, size in zip((1, 0), sizes, strict=True)
        for way in ways
        for n in range(size)
    ]
    return pd.DataFrame(rows)


def states(probes, seed=0, apart=30.0):
    """Layer 0: all the same; 1: noise, about as wide as probes are many; 2: half of it with the sides far apart."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(3, len(probes), 40))
    values[0] = 0.3
    values[2, :, :20] += apart * probes["about"].to_numpy()[:, None]
    return States(probes, values)


def test_folds_are_alike():
    probes = person((8, 13), ways=("a", "b"))
    folds = assign_folds(probes, 3, np.random.default_rng(0))
    assert set(folds[probes["split"] == "dev"]) == {-1}
    test = probes.assign(fold=folds)[probes["split"] == "test"]
    sizes = test.groupby(["about", "way", "fold"]).size()
    assert sizes.loc[1].tolist() == [2] * 6  # 6 of each way into 3
    assert sizes.loc[0].tolist() == [4, 4, 3] * 2
    assert fewest(probes) == 6
    assert fewest(probes[probes["set"] != "0b"]) == 0
    other = assign_folds(probes, 3, np.random.default_rng(1))
    assert (folds != other).any()


RUN = {"target": ADA, "seed": 0, "base": ("base",)}
HOW = {"folds": 3, "regularization": 1.0, "seed": 0, "bootstrap": {"resamples": 200, "seed": 0}}


def compared(data, *runs, **how):
    table, left_out = compare_layers([RUN | run for run in runs], **HOW | how, read=data.__getitem__)
    return table.set_index(["method", "measure", "layer"]).sort_index(), left_out


def test_the_same_model_is_told_as_the_base_model_and_a_moved_one_is_not():
    probes = person((26, 38))
    base = states(probes)
    moved, turned = states(probes, apart=0.0), states(probes, apart=-30.0)
    turned.values[2, :, :20] += 30
    data = {"base": base, "same": base, "moved": moved, "turned": turned, "gone": None}
    runs = [{"method": name, "files": (name,)} for name in data if name != "base"]
    table, left_out = compared(data, *runs)
    assert left_out == {}
    assert set(table.index.get_level_values("method")) == {BASE, CONTROL, "same", "moved", "turned"}
    values = table["value"]
    for measure in ("auc", "accuracy"):
        assert values[BASE, measure].tolist() == values["same", measure].tolist()
        assert values[BASE, measure, 0] == values[CONTROL, measure, 0] == 50  # nothing to tell them by
        assert values[BASE, measure, 2] == 100
        assert values["turned", measure, 2] == 0
        assert 20 < values[CONTROL, measure, 2] < 80
        assert (table.loc["moved", "base"].loc[measure] == values[BASE, measure]).all()
    assert values["moved", "accuracy", 2] == 50  # all on the neighbours' side
    sure = table.loc[BASE, "auc", 2]
    assert (sure["low"], sure["high"], sure["targets"], sure["probes"]) == (100, 100, 1, 60)
    noise = table.loc[BASE, "auc", 1]
    assert 5 < noise["low"] < noise["value"] < noise["high"] < 95
    # what else is compared changes nothing, another seed does
    alone, _ = compared(data, runs[0])
    assert all(alone["value"][name].equals(values[name]) for name in (BASE, CONTROL, "same"))
    again, _ = compared(data, runs[0], seed=1)
    assert not np.allclose(again["value"][CONTROL], values[CONTROL])


def test_labels_that_are_permuted_are_told_by_nothing():
    """Of many people: where one direction is strong, a permutation of one is told well or badly by chance."""
    probes = person((14, 14))
    data = {f"base{n}": states(probes, seed=n) for n in range(12)}
    runs = [{"method": "npo", "target": str(n), "files": (f"base{n}",), "base": (f"base{n}",)} for n in range(12)]
    table, _ = compared(data, *runs)
    assert 35 < table["value"][CONTROL, "auc", 2] < 65
    assert table["value"]["npo", "auc", 2] == 100
    assert table["targets"].unique().tolist() == [12]


def test_a_classifier_by_hand():
    """Two of the target at 1 and six neighbours at -1: as both sides weigh the same, 0 is between them."""
    values, about = np.array([[1.0]] * 2 + [[-1.0]] * 6), np.array([1] * 2 + [0] * 6)
    weak, strong = (fit(values, about, regularization) for regularization in (1.0, 10.0))
    assert weak(np.array([[0.0]])) == pytest.approx(0, abs=1e-3)
    assert weak(np.array([[1.0]])) > strong(np.array([[1.0]])) > 0 > strong(np.array([[-1.0]]))


def test_pairs_by_hand():
    """Pairs are of one fold and one way: target probe 0 with neighbour 2, 1 with 3; 4 is asked in another way."""
    probes = pd.DataFrame({"about": [1, 1, 0, 0, 0, 1], "way": [*"ababaa"]})
    folds = np.array([0, 1, 0, 1, 1, -1])
    told = tell(np.array([[2.0, -1.0, 1.0, -1.0, -2.0, np.nan]]), probes, folds)
    assert told.pairs.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert told.sizes == (2, 3)
    # 0 is above 2, 1 as high as 3; of the target 1 of 2 is right, of neighbours 2 of 3
    assert told.whole()["auc"].tolist() == [pytest.approx((1 + 0.5) / 2)]
    assert told.whole()["accuracy"].tolist() == [pytest.approx((1 / 2 + 2 / 3) / 2)]
    drawn = told.measured((np.array([[0.0, 2.0]]), np.array([[1.0, 2.0, 0.0]])))  # 1-3 alone, 4 times
    assert drawn["auc"].tolist() == [[0.5]]
    assert drawn["accuracy"].tolist() == [[pytest.approx((0 + 2 / 3) / 2)]]
    none = told.measured((np.array([[2.0, 0.0]]), np.array([[0.0, 2.0, 1.0]])))
    assert np.isnan(none["auc"]).all()
    rows = rows_of([[told]], 100, 0)
    assert [(row["measure"], row["layer"], row["probes"]) for row in rows] == [("auc", 0, 5), ("accuracy", 0, 5)]
    assert rows_of([], 100, 0) == []


def test_seeds_count_less_than_people():
    """(100 + (0 + 100) / 2) / 2, by accuracy too."""

    def sure(won):
        right = np.full((1, 2), won)
        return Told(np.full((1, 2, 2), won), np.ones((2, 2)), (right, right))

    rows = rows_of([[sure(1.0)], [sure(0.0), sure(1.0)]], 400, 0)
    assert [row["value"] for row in rows] == [75, 75]
    assert [(row["low"], row["high"]) for row in rows] == [(50, 100)] * 2  # of two people drawn anew


def test_who_has_too_few_probes_is_left_out_and_told():
    few, enough = states(person((4, 12))), states(person((6, 12)))
    data = {"base": few, "b2": enough, "b3": None}
    runs = [
        {"method": "npo", "files": ("base",)},
        {"method": "npo", "target": "2_Bo", "files": ("b2",), "base": ("b2",)},
        {"method": "npo", "target": "3_Cy", "files": ("b3",), "base": ("b3",)},
    ]
    table, left_out = compared(data, *runs)
    assert set(table["targets"]) == {1}
    said = "test probes of one side that are asked in one way, for 3 folds"
    assert left_out == {ADA: f"2 {said}", "3_Cy": f"0 {said}"}
    with pytest.raises(
        LayerError, match=rf"no target has probes enough \(1_Ada: 2 {said}\); set layer_probe.folds lower"
    ):
        compared(data, runs[0])


def test_states_of_other_probes_or_another_model_are_refused():
    base = states(person())
    for other, said in (
        (States(base.probes.iloc[::-1].reset_index(drop=True), base.values), "mine has states of other probes"),
        (
            States(base.probes, base.values[:2]),
            "mine is of a model with 1 layers of width 40, and the base model has 2 of 40",
        ),
    ):
        with pytest.raises(LayerError, match=said):
            compared({"base": base, "mine": other}, {"method": "npo", "files": ("mine",)})


def test_a_file_of_states_is_read_by_layer(tmp_path):
    rows = [
        {"set": name, "id": f"{name}/0", "split": "test", "layer": layer, "states": np.full(2, number + 10 * layer)}
        for layer in (1, 0)
        for number, name in enumerate(ASK)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "states.parquet")
    found = read_states(str(tmp_path / "states.parquet"))
    assert found.values[:, :, 0].tolist() == [[0, 1, 2, 3], [10, 11, 12, 13]]
    assert found.probes["about"].tolist() == [1, 1, 0, 0]
    assert found.probes["way"].nunique() == 2  # with a blank, and as questions
    pd.DataFrame(rows).head(0).to_parquet(tmp_path / "none.parquet")
    assert read_states(str(tmp_path / "none.parquet")) is None


def test_the_figure_has_a_line_for_each_method():
    base = states(person())
    table, _ = compare_layers([RUN | {"method": "npo", "files": ("base",)}], **HOW, read=lambda file: base)
    table = table.assign(**dict.fromkeys(REMARKED, 0.0))
    table.loc[table["method"] == "npo", "collapsed"] = 0.5
    (axis,) = FIGURES["layer_probe"](table, dev_targets=[]).axes
    lines = {line.get_label(): line.get_ydata().tolist() for line in axis.lines}
    assert list(lines) == [BASE, CONTROL, "NPO † 50% collapsed"]
    assert lines[BASE] == table[(table["method"] == BASE) & (table["measure"] == "auc")]["value"].tolist()
    plt.close("all")


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"ask": ["forget_qa", "utility_gen"]}, r"layer_probe.ask: unknown 'utility_gen'"),
        ({"ask": [*ASK, "forget_aa"]}, r"layer_probe.ask: forget_aa has probes of several types"),
        (
            {"ask": ["forget_qa", "neighbor_fb"]},
            r"no set of role neighbour is asked in the words in which forget_qa is",
        ),
        ({"ask": ["forget_fb", "neighbor_fb", "neighbor_qa"]}, r"no set of role forget .* neighbor_qa is, .*; add one"),
        ({"folds": 4}, r"layer_probe.folds: 4, and no target has more than 3 test probes .*; set it to 3 at most"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_before_any_job(paths, over, said):
    shown = {"mine": {"targets": [ADA], "methods": ["icu"], "shows": ["layer_probe"]}}
    config = paths(experiments=shown, layer_probe={"folds": 3} | over).config
    with pytest.raises(ConfigError, match=said):
        experiment_of("mine", config)
    shown["mine"]["shows"] = ["main"]
    experiment_of("mine", paths(experiments=shown, layer_probe=over).config)  # which fits none


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"folds": 1}, "layer_probe.folds: 1 is less than the minimum of 2"),
        ({"regularization": 0}, "layer_probe.regularization: 0 is not above 0"),
        ({"layers": 3}, "layer_probe.layers: unknown 'layers'"),
        ({"ask": []}, "layer_probe.ask: is empty"),
    ],
)
def test_the_form_of_its_settings(over, said):
    with pytest.raises(ConfigError, match=said):
        check(PAPER, layer_probe=over)


def test_the_papers_own_settings_can_be_told_apart():
    config = check(PAPER)
    chosen = experiment_of("layer_probe", config)
    assert set(chosen["methods"]) <= set(experiment_of("tradeoff", config)["methods"])
    assert chosen["targets"] == experiment_of("tradeoff", config)["targets"]  # nothing more is trained for it
    assert "layer_probe" not in experiment_of("", config)["shows"]


@pytest.mark.parametrize(
    ("over", "changed"),
    [
        ({"layer_probe": {"ask": ["forget_qa", "neighbor_qa"]}}, True),
        ({"evaluation": {"protocol": "rwku"}}, True),
        ({"split": {"seed": 1}}, True),
        ({"models": {"llm": {"template": "none"}}}, True),
        ({"layer_probe": {"folds": 2, "regularization": 3.0, "seed": 5}}, False),
        ({"evaluation": {"batch_tokens": 300}}, False),
    ],
)
def test_what_bears_on_states(paths, over, changed):
    def found(known):
        return known.layers_before(ADA), known.layers(ADA, "icu", "0", ADA)

    before, after = found(paths()), found(paths(**over))
    assert [one != other for one, other in zip(before, after, strict=True)] == [changed, changed]


def test_what_its_jobs_need():
    """Of RWKU 88 probes a person with 150 tokens each, one pass: 2 P n; kept is a float32 vector a probe and layer."""
    config = check(PAPER, models={"phi-3-mini-4k-instruct": {"parameters": 120e6}})  # 10 layers of width 1000
    probes = (3268 + 2879 + 5846 + 5533) / 200
    for rule in ("probe_layers_before", "probe_layers_after"):
        needed = demand(rule, config, subject=ADA)
        assert needed.flop == pytest.approx(2 * 120e6 * 150 * probes)
        assert needed.kept == pytest.approx(4 * probes * 10 * 1000)
        assert needed.device > 2 * 120e6  # bfloat16


SHORT = {"epochs": 1, "batch_size": 2, "learning_rate": 0.1, "warmup_steps": 0}
APART = {"npo-apart": {"method": "npo", "train": SHORT, "max_tokens": 48, "lora": {"rank": 2, "merge": False}}}


def with_layers(tiny, directory):
    """The tiny workflow with an experiment that tells layers apart."""
    workflow = Workflow(tiny, directory)
    config = json.loads(workflow.config.read_text())
    shown = {"targets": [ADA], "methods": ["icu", "npo-apart"], "shows": ["layer_probe"]}
    config |= {"layer_probe": {"folds": 3}, "experiments": {"told": shown}}
    config["evaluation"] = config["evaluation"] | {"before_and_after": ASK}
    config["method_settings"] = config["method_settings"] | APART
    workflow.config.write_text(json.dumps(config))
    return workflow


@pytest.fixture(scope="session")
def told(tiny, tmp_path_factory) -> Workflow:
    """A finished experiment; tests only look at it."""
    folder = shared_folder(tmp_path_factory, "told", lambda folder: with_layers(tiny, folder).run("told"))
    return Workflow(tiny, folder)


def test_layers_as_a_part_of_the_workflow(told, tiny):
    folder = told.directory / "results/experiments/told"
    assert (folder / "figures/layer_probe.pdf").exists()
    table = pd.read_csv(folder / "tables/layer_probe.csv")
    assert list(table["method"].unique()) == [BASE, CONTROL, "icu", "npo-apart"]
    assert table.groupby(["method", "measure"])["layer"].apply(list).tolist() == [[0, 1, 2, 3]] * 8
    assert (table["probes"] == 12).all()  # of 4 sets with 4 probes, a fourth of which is dev
    auc = table[table["measure"] == "auc"].set_index(["method", "layer"])["value"]
    assert [auc[name, 0] for name in (BASE, "icu", "npo-apart")] == [50, 50, 50]  # all prompts end in one token
    assert auc.between(0, 100).all()
    # states are of what is asked: ICU's instruction stands before the question, an adapter lies over the base model
    base = told.find("llm/tiny/layers/1_Ada-*.parquet")
    states = {"base": base, "icu": None, "npo": None}
    for name in ("icu", "npo"):
        states[name] = told.find(f"llm/tiny/1_Ada/seed0/{name}-*/layers/1_Ada-*.parquet")
    values = {name: read_states(str(path)).values for name, path in states.items()}
    prompts = pd.read_parquet(told.find("llm/tiny/before/1_Ada-*.parquet")).set_index("id")["prompt"]
    model = Engine.load(tiny / "llm", 400)
    ids = sorted(prompts.index)
    expected = last_states(model, prompts[ids].tolist()).numpy().transpose(1, 0, 2)
    np.testing.assert_allclose(values["base"], expected, rtol=1e-4, atol=1e-5)
    instructed = pd.read_parquet(told.find("llm/tiny/1_Ada/seed0/icu-*/evaluations/1_Ada-*.parquet"))
    expected = last_states(model, instructed.set_index("id")["prompt"][ids].tolist()).numpy().transpose(1, 0, 2)
    np.testing.assert_allclose(values["icu"], expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(values["npo"][2], values["base"][2], atol=1e-3)
    np.testing.assert_array_equal(values["npo"][0], values["base"][0])


def test_what_is_made_again(told, tmp_path):
    assert told.planned("told") == {}
    shutil.copytree(told.directory, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    copy = Workflow(told.tiny, tmp_path)
    config = json.loads(copy.config.read_text())
    config["layer_probe"] = {"folds": 2}
    copy.config.write_text(json.dumps(config))
    assert copy.planned("told") == {"layers_table": 1, "plot": 1, "told": 1}
    config["layer_probe"] = {"folds": 3, "ask": ["forget_qa", "neighbor_qa"]}
    copy.config.write_text(json.dumps(config))
    read = {"probe_layers_before": 1, "probe_layers_after": 2}
    assert copy.planned("told") == read | {"layers_table": 1, "plot": 1, "told": 1}
