"""The config: every fault is one line that names the key and what is allowed."""

import copy
import datetime
import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from atu.common.declared import declared
from atu_pipeline.settings import (
    ConfigError,
    check_config,
    check_keys,
    check_options,
    experiment_of,
    notes,
    read_method,
    reference,
)
from atu_pipeline.settings.models import Config

ROOT = Path(__file__).parents[1]


def merge(base, over):
    """How Snakemake lays one config over another."""
    for key, value in over.items():
        base[key] = merge(base.get(key, {}), value) if isinstance(value, dict) else value
    return base


def load(*files):
    config = {}
    for file in files:
        merge(config, yaml.safe_load((ROOT / file).read_text()))
    return config


PAPER = load("config.yaml")
DEMO = load("config.yaml", "workflow/configs/demo.yaml")


def refused(base, **over):
    """What is said of a wrong config; each line names a key."""
    with pytest.raises(ConfigError) as fault:
        check(base, **over)
    assert all(re.match(r"\S.*?: \S", line) for line in str(fault.value).splitlines())
    return str(fault.value)


def check(base, **over):
    return check_config(merge(copy.deepcopy(base), over), ROOT)


def test_both_configs_are_valid():
    paper, demo = check(PAPER), check(DEMO)
    assert len(paper["targets"]) == 15
    assert len(paper["all_targets"]) == 200
    assert paper["evaluation"]["between"][0] == "forget_fb"
    assert demo["llm"] == "smollm2-135m-instruct"
    assert set(demo["dev_targets"]) <= set(demo["all_targets"])
    assert not set(demo["targets"]) & set(demo["dev_targets"])


def test_the_baselines_are_judged_where_nothing_was_chosen():
    baselines, rates = ["workflow/configs/demo.yaml", "workflow/configs/baselines.yaml"], "workflow/configs/rates.yaml"
    shown, grids = check(load("config.yaml", *baselines)), check(load("config.yaml", *baselines, rates))
    assert not set(shown["targets"]) & set(shown["dev_targets"])
    assert set(grids["targets"]) <= set(shown["dev_targets"])
    trained = {name for name in shown["methods"] if "train" in shown["method_settings"][name]}
    assert set(grids["grids"]) >= trained  # some are still to be searched
    for name, variants in grids["grids"].items():  # what is shown is one of the rates that are tried
        tried = [variant["learning_rate"] for variant in variants.values()]
        assert shown["method_settings"][name]["train"]["learning_rate"] in tried


def test_the_search_is_fair():
    """As many trials of each method, on dev targets alone; each value of a list with both halves of each range."""
    written = load("config.yaml", "workflow/configs/demo.yaml", "workflow/configs/search.yaml")
    config = check(written)
    assert set(config["targets"]) == set(config["dev_targets"]) == set(config["experiments"]["search"]["targets"])
    assert config["split"]["by"] == "target"
    assert config["experiments"]["search"]["methods"] == written["methods"] == list(config["grids"])
    for method, variants in config["grids"].items():
        assert len(variants) == config["search"]["trials"]
        trials = [variant["settings"] for variant in variants.values()]
        grid = written["method_settings"][method]["grid"]
        ranges = {
            key: (values["low"] * values["high"]) ** 0.5 for key, values in grid.items() if isinstance(values, dict)
        }
        for key, values in grid.items():
            for value in [] if key in ranges else values:
                tried = [trial for trial in trials if trial[key] == value]
                for rate, middle in ranges.items():
                    assert {trial[rate] < middle for trial in tried} == {True, False}, (method, key, value, rate)


def test_what_a_variant_inherits_is_said_once():
    faulty = {"atu": {"layers": 3}, "atu-layer10": {"k": "many"}}
    with pytest.raises(ConfigError) as raised:
        check(PAPER, method_settings=faulty)
    first, second = str(raised.value).splitlines()
    assert first.startswith("method_settings.atu.layers: unknown 'layers'; did you mean layer?")
    assert second == "method_settings.atu-layer10.k: 'many' is not a whole number"


def test_experiments_are_checked():
    with pytest.raises(
        ConfigError, match=r"experiments\.hook_layer\.methods: unknown 'atu-layer11'; did you mean atu-lay"
    ):
        check(PAPER, experiments={"hook_layer": {"methods": ["atu-layer11"]}})
    with pytest.raises(ConfigError, match=r"experiments\.mia\.shows: unknown 'trade'; did you mean tradeoff"):
        check(PAPER, experiments={"mia": {"shows": ["trade"]}})
    grid = {"atu-layer10": {"unlearn": {"learning_rate": [1e-4, 1e-3]}}}
    with pytest.raises(ConfigError, match="atu-layer10 has a list of learning rates"):
        experiment_of("hook_layer", check(PAPER, method_settings=grid))
    assert experiment_of("hook_layer", check(PAPER))["targets"] == check(PAPER)["all_targets"][:5]
    assert len(experiment_of("main_table", check(PAPER))["targets"]) == 15
    assert experiment_of("", check(PAPER, seeds=[3]))["seeds"] == [3]
    given = {"mia": {"seeds": [1, 2], "methods": ["icu"]}}
    assert experiment_of("mia", check(PAPER, experiments=given))["seeds"] == [1, 2]
    for everyone in ("all", ["all"]):  # as the config's own
        given = {"mia": {"targets": everyone, "methods": "icu", "seeds": 1}}
        shown = experiment_of("mia", check(PAPER, experiments=given))
        assert (len(shown["targets"]), shown["methods"], shown["seeds"]) == (200, ["icu"], [1])
    layers = {
        name: check(PAPER)["method_settings"][name]["layer"] for name in PAPER["experiments"]["hook_layer"]["methods"]
    }
    assert layers == {"atu-layer10": 10, "atu-layer20": 20, "atu-layer30": 30}
    amounts = [check(PAPER)["method_settings"][name] for name in PAPER["experiments"]["alignment_amount"]["methods"]]
    assert [block["align"]["steps"] for block in amounts] == [5000, 15000, 30000]


def test_every_key_is_explained():
    """Each key of config.yaml stands under a comment of its own or of its block."""
    explained = False
    for line in (ROOT / "config.yaml").read_text().splitlines():
        if not line.strip():
            explained = False
        elif line.lstrip().startswith("#"):
            explained = True
        elif re.match(r"[a-z_]+:", line):
            assert explained, line


def keys_of(value, known, path=()):
    """Paths of the keys of a config as the models name them: * for a name of the user's."""
    for key, inner in value.items():
        place = (*path, key) if (*path, key) in known else (*path, "*")
        if place in known:
            yield place
        deeper = any(other[: len(place)] == place and other != place for other in known)
        assert place in known or deeper, ".".join((*path, key))
        if isinstance(inner, dict) and deeper:
            yield from keys_of(inner, known, place)


def test_config_yaml_and_the_models_have_the_same_keys():
    found = reference.schema()
    rows = list(reference.rows_of("Config", found, found["$defs"]))
    known, optional = {row.path for row in rows}, reference.optional_keys(Config.model_json_schema())
    written = set(keys_of(PAPER, known))
    for file in ROOT.glob("workflow/configs/*.yaml"):
        assert set(keys_of(load(file), known)) <= known
    needed = {row.path for row in rows if "*" not in row.path and (row.model, row.path[-1]) not in optional}
    assert needed <= written
    aligned = {row.path for row in reference.rows_of("Aligned", found["$defs"]["Aligned"], found["$defs"])}
    aligned = {path for path in aligned if path[0] not in ("method", "grid")}
    assert aligned == set(keys_of(PAPER["method_settings"]["atu"], aligned))
    assert not [row.path for row in rows if not re.fullmatch(r"[A-Za-z].*\.", row.part.get("description", ""))]


def test_what_is_written_from_the_models_is_up_to_date():
    for path, text in reference.written(ROOT).items():
        assert (ROOT / path).read_text() == text, "run make reference"


def test_editors_know_the_shipped_configs():
    """The schema takes each file alone, parts and short forms too, and refuses what is misspelt."""
    schema = Draft202012Validator(reference.schema())
    Draft202012Validator.check_schema(reference.schema())
    for file in [ROOT / "config.yaml", *ROOT.glob("workflow/configs/*.yaml")]:
        first = file.read_text().splitlines()[0]
        assert (file.parent / first.partition("$schema=")[2]).resolve() == ROOT / reference.SCHEMA
        assert not list(schema.iter_errors(load(file)))
    assert not list(schema.iter_errors({"targets": "all", "seeds": 3, "experiments": {"mia": {"targets": 1}}}))
    wrong = [{"target": []}, {"threads": 0}, {"models": {"a/b": {}}}, {"split": {"dev_share": 1}}, {"device": "gpu"}]
    assert all(list(schema.iter_errors(part)) for part in wrong)


def test_all_faults_are_told_at_once():
    """Of form and of meaning; what depends on a faulty key alone is not told, nor what a fault brings with it."""
    over = {"seeds": [-1], "threads": "two", "methods": ["atu", "ga", "icuu", "rmu"], "targets": ["1", "99", "Nobdy"]}
    over |= {"models": {"all-minilm-l6-v2": {"template_options": {"x": 1}}}, "published": {"file": "nowhere.csv"}}
    over |= {"corpus": {"text_set": "passage", "top_p": 2}, "evaluation": {"between": ["forget_qq"]}}
    blocks = {"atu": {"predictor": {"heads": 7}, "unlearn": {"warmup_steps": 30}}, "ga": {"train": {"epochs": 0}}}
    blocks |= {"rmu": {"options": {"layer": 0, "alhpa": 1}, "texts": "pair"}}
    lines = refused(DEMO, **over, method_settings=blocks).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        *("seeds.0", "corpus.top_p", "method_settings.ga.train.epochs", "threads", "methods"),
        *("models.all-minilm-l6-v2.template_options", "published.file", "targets", "targets"),
        *("method_settings.atu.predictor.heads", "method_settings.atu.unlearn.warmup_steps"),
        *("method_settings.rmu.options.layer", "method_settings.rmu.options.alhpa", "method_settings.rmu.texts"),
        "evaluation.between",
    ]


@pytest.mark.parametrize(
    ("over", "lines"),
    [
        ({"models": 5}, ["models: 5 is not a block of settings"]),
        ({"method_settings": 5}, ["method_settings: 5 is not a block of settings"]),
        ({"method_settings": {"atu": 5}}, ["method_settings.atu: 5 is not a block of settings"]),
        ({"method_settings": {"ga": {"train": 5}}}, ["method_settings.ga.train: 5 is not a block of settings"]),
        ({"method_defaults": {"trained": {"lora": 5}}}, ["method_defaults.trained.lora: 5 is not a block of settings"]),
        ({"method_defaults": 5}, ["method_defaults: 5 is not a block of settings"]),
        (
            {"models": {"x": {"source": "pypi", "wheels": []}}},
            ["models.x.wheels: is empty", "models.x.file: is missing"],
        ),
        ({"models": {"x": {"source": "hub"}}}, ["models.x: lacks repo, revision"]),
        ({"benchmark": "dem"}, ["benchmark: unknown 'dem'; did you mean demo? (known: demo, rwku)"]),
        ({"targets": [True]}, ["targets.0: True is not text"]),
        (
            {"evaluation": {"between": ["a", "b"]}},
            ["evaluation.between: unknown 'a'", "evaluation.between: unknown 'b'"],
        ),
        ({"device": None, "llm": ""}, ["llm: is empty; name one at least", "device: None is not one of auto, cpu"]),
    ],
)
def test_a_fault_is_told_once(over, lines):
    """What follows from it is not told: each line here is one that its mend needs."""
    said = refused(DEMO, **over).splitlines()
    assert len(said) == len(lines), said
    assert all(line.startswith(start) for line, start in zip(said, lines, strict=True))


def test_faults_of_an_experiment_are_told_at_once():
    blocks = {"npo": {"texts": "pair"}, "ga": {"options": {"x": 1}}}
    config = check(PAPER, method_settings=blocks, methods=["icu"], experiments={"mia": {"targets": ["300", "400"]}})
    with pytest.raises(ConfigError) as fault:
        experiment_of("mia", config)
    keys = [line.split(": ")[0] for line in str(fault.value).splitlines()]
    assert keys == ["method_settings.ga.options.x", "method_settings.npo.texts", *["experiments.mia.targets"] * 2]
    assert fault.value.code.splitlines() == [f"config: {line}" for line in str(fault.value).splitlines()]


def test_what_may_be_written_short():
    assert check(DEMO, targets="all")["targets"] == check(DEMO)["all_targets"]
    assert check(DEMO, targets="7_Aristotle")["targets"] == ["7_Aristotle"]
    assert check(DEMO, seeds=["0", "1"])["seeds"] == [0, 1]  # as --config hands them over
    assert check(DEMO, seeds=2)["seeds"] == [2]
    over = {"atu": {"unlearn": {"learning_rate": "5e-4", "steps": "7", "tau": ["0.1"], "released_padding": "true"}}}
    unlearn = check(DEMO, method_settings=over)["method_settings"]["atu"]["unlearn"]
    assert [unlearn[key] for key in over["atu"]["unlearn"]] == [5e-4, 7, [0.1], True]


def test_targets_by_id_name_rank_range_and_group():
    def ids(*names):
        return check(PAPER, targets=list(names))["targets"]

    king, confucius, lee = "1_Stephen_King", "2_Confucius", "3_Bruce_Lee"
    assert ids(king) == ids("Stephen King") == ids("1") == ids(1) == ids("1-1") == [king]
    assert ids("1-3") == [king, confucius, lee]
    assert ids("3", "1-2", "Confucius") == [lee, king, confucius]  # as asked for, each once
    assert len(ids("1-100")) == 100
    assert len(ids("1-200")) == len(check(PAPER, targets="all")["targets"]) == 200
    assert ids("2", "all")[:3] == [confucius, king, lee]
    groups = {name: len(ids(name)) for name in PAPER["benchmarks"]["rwku"]["groups"]}
    assert groups == {"ablations": 5, "group2": 8, "group3": 7, "group4": 10}
    assert ids("group3", "Miley Cyrus")[-2:] == ["81_Vincent_van_Gogh", "11_Miley_Cyrus"]


def test_a_variant_sets_only_what_differs():
    settings = check(DEMO, method_settings={"atu-layer10": {"method": "atu", "layer": 10, "align": {"steps": 3}}})
    variant, atu = settings["method_settings"]["atu-layer10"], settings["method_settings"]["atu"]
    assert variant == atu | {"layer": 10, "align": atu["align"] | {"steps": 3}}


def test_a_list_of_learning_rates_is_a_grid():
    grid = {"ga": {"train": {"learning_rate": [1e-6, "1e-5"]}}, "atu": {"unlearn": {"learning_rate": [1e-4]}}}
    config = check(DEMO, methods=["ga", "icu", "atu"], method_settings=grid)
    assert config["methods"] == ["ga@1e-06", "ga@1e-05", "icu", "atu@0.0001"]
    ga, atu = config["grids"]["ga"], config["grids"]["atu"]
    assert {name: tried["learning_rate"] for name, tried in ga.items()} == {"ga@1e-06": 1e-6, "ga@1e-05": 1e-5}
    assert atu == {"atu@0.0001": {"learning_rate": 1e-4, "settings": {"unlearn.learning_rate": 1e-4}}}
    assert config["method_settings"]["ga@1e-05"]["train"]["learning_rate"] == 1e-5
    written = {
        name: {"grid": {f"{part}.learning_rate": rates}}
        for name, part, rates in (("ga", "train", [1e-6, "1e-5"]), ("atu", "unlearn", [1e-4]))
    }
    same = check(DEMO, methods=["ga", "icu", "atu"], method_settings=written)
    assert same["grids"] == config["grids"]
    for name in config["methods"]:  # so that their digests are the same
        assert same["method_settings"][name] == config["method_settings"][name]
    with pytest.raises(ConfigError, match=r"ga\.train\.learning_rate: a list is chosen from on dev probes"):
        check(PAPER, methods=["ga"], method_settings=grid)


def test_conda_and_pip_agree():
    pins = (ROOT / "envs/requirements.txt").read_text().split()
    *_, pip = yaml.safe_load((ROOT / "envs/workflow.yaml").read_text())["dependencies"]
    assert pip["pip"] == pins
    assert "torch==2.13.0" in pins


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"target": ["7_Aristotle"]}, "target: unknown 'target'; did you mean targets?"),
        ({"targets": ["7_Aristotel"]}, "targets: unknown '7_Aristotel'; did you mean 7_Aristotle? (known: 1_William"),
        ({"targets": []}, "targets: is empty; name one at least"),
        ({"targets": "7_Aristotle,8_Confuzius"}, "targets: unknown '8_Confuzius'; did you mean 8_Confucius?"),
        ({"targets": "7_Aristotle,"}, "targets: unknown ''"),
        ({"targets": "7-9"}, "targets: 7-9 names ranks that do not exist (known: 1-8)"),
        ({"targets": ["3-1"]}, "targets: 3-1 is empty; write 1-3"),
        ({"methods": ["ATU"]}, "methods: unknown 'ATU'; did you mean atu?"),
        ({"corpus": {"text_set": "positve"}}, "corpus.text_set: unknown 'positve'; did you mean positive?"),
        ({"dev_targets": ["9_Nobody"]}, "dev_targets: unknown '9_Nobody'"),
        ({"methods": ["ata"]}, "methods: unknown 'ata'; did you mean atu?"),
        ({"llm": "smollm2-135m"}, "llm: unknown 'smollm2-135m'; did you mean smollm2-135m-instruct?"),
        ({"threads": "two"}, "threads: 'two' is not a whole number"),
        ({"device": "gpu"}, "device: 'gpu' is not one of auto, cpu, cuda"),
        ({"gpus_per_job": 0}, "gpus_per_job: 0 is less than the minimum of 1"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing: is a key of the block memory now"),
        (
            {"gpus_per_job": 4, "precision": "bf16", "memory": {"weights": "bf16"}},
            "memory: with gpus_per_job: 4 only weights and optimizer_state of fp32 can be sharded; set both to fp32",
        ),
        (
            {"gpus_per_job": 2, "memory": {"optimizer_state": "8bit"}},
            "memory: with gpus_per_job: 2 only weights and optimizer_state of fp32 can be sharded",
        ),
        (
            {"method_settings": {"atu": {"layers": 3}}},
            "method_settings.atu.layers: unknown 'layers'; did you mean layer?",
        ),
        (
            {"method_settings": {"atu": {"unlearn": {"optimizer": "sdg"}}}},
            "optimizer: 'sdg' is not one of sgd, adam, adamw",
        ),
        (
            {"method_settings": {"atu": {"other_subjects": 8}}},
            "method_settings.atu.other_subjects: 8 others, but the benchmark has only 8 targets; set it to at most 7",
        ),
        ({"method_settings": {"atu": 5}}, "method_settings.atu: 5 is not a block of settings"),
        (
            {"method_settings": {"foo": {"layer": 3}}},
            "method_settings.foo: lacks method, one of altpo, atu, ce_u, dpo,",
        ),
        (
            {"method_settings": {"a/b": {"method": "atu"}}},
            "method_settings: 'a/b' does not match ^[A-Za-z0-9][A-Za-z0-9._+-]*$, as it names files; call it b",
        ),
        ({"models": {"org/name": {"source": "path", "path": "."}}}, "models: 'org/name' does not match"),
        ({"models": {"..": {"source": "path", "path": "."}}}, "models: '..' does not match"),
        ({"benchmarks": {"a b": {"source": "path", "path": "."}}}, "benchmarks: 'a b' does not match"),
        ({"experiments": {"../x": {"shows": ["main"]}}}, "experiments: '../x' does not match"),
        ({"experiments": {"mia": {"methods": ["atu", "atu"]}}}, "experiments.mia.methods: names 'atu' twice"),
        ({"experiments": {"mia": {"targets": [1, "1"]}}}, "experiments.mia.targets: names '1' twice"),
        ({"experiments": {"mia": {"seeds": [3, "3"]}}}, "experiments.mia.seeds: names 3 twice"),
        ({"experiments": {"mia": {"shows": ["main", "main"]}}}, "experiments.mia.shows: names 'main' twice"),
        ({"methods": ["ga", "ga"]}, "methods: names 'ga' twice; each counts once"),
        ({"experiments": {"mia": {"targets": []}}}, "experiments.mia.targets: is empty; name one at least"),
        ({"experiments": {"mia": {"methods": []}}}, "experiments.mia.methods: is empty"),
        ({"experiments": {"mia": {"shows": []}}}, "experiments.mia.shows: is empty"),
        ({"seeds": []}, "seeds: is empty; name one at least"),
        (
            {"evaluation": {"before_and_after": []}},
            "before_and_after: [] is not all, or a list of one probe set or more",
        ),
        (
            {"evaluation": {"before_and_after": ["forget_qa"], "between": ["forget_fb"]}},
            "evaluation.between: forget_fb is not in evaluation.before_and_after",
        ),
        ({"published": {"file": "nowhere.csv"}}, "published.file: there is no file nowhere.csv"),
        ({"published": {"benchmark": "rwk"}}, "published.benchmark: unknown 'rwk'; did you mean rwku?"),
        ({"model_cards": {"phi": {"license": "mit"}}}, "model_cards: unknown 'phi'"),
        ({"split": {"dev_share": float("nan")}}, "split.dev_share: nan is no number that can be computed with"),
        ({"hardware": {"gpu_tflops": {"bf16": float("inf")}}}, "hardware.gpu_tflops.bf16: inf is no number"),
        ({"hardware": {"margin": 0}}, "hardware.margin: 0 is less than the minimum of 1"),
        ({"bootstrap": {"resamples": 1}}, "bootstrap.resamples: 1 is less than the minimum of 100"),
        ({"collapse": {"fluency_share": 50}}, "collapse.fluency_share: 50 is greater than the maximum of 1"),
        ({"corpus": {"temperature": 0}}, "corpus.temperature: at 0 the model writes one text 48 times"),
        ({"corpus": {"temperature": 1e-9}}, "corpus.temperature: at 1e-09 the model writes one text 48 times"),
        ({"corpus": {"top_p": 0}}, "corpus.top_p: 0 is not above 0"),
        ({"corpus": {"seed": 2**32}}, "corpus.seed: 4294967296 is greater than the maximum of 4294967295"),
        ({"corpus": {"max_tokens": 1}}, "corpus.max_tokens: 1 is less than the minimum of 2"),
        ({"corpus": {"text_set": "passage"}}, "corpus.text_set: passage holds no biographies; choose one of positive"),
        (
            {"method_settings": {"ga": {"train": {"learning_rate": "abc"}}}},
            "'abc' is not a number above 0, or a list of",
        ),
        (
            {"methods": ["dpo"], "method_settings": {"dpo": {"options": {"bta": 0.1}}}},
            "method_settings.dpo.options.bta: unknown 'bta'; did you mean beta? (known: beta)",
        ),
        (
            {"methods": ["mine"], "method_settings": {"mine": {"method": "rmu", "options": {"layer": 3, "x": 1}}}},
            "method_settings.mine.options.x: unknown 'x' (known: layer, coefficient, alpha, sink_tokens)",
        ),
        (
            {"methods": ["ga"], "method_settings": {"ga": {"train": {"learning_rate": [1e-6]}}}}
            | {"evaluation": {"before_and_after": ["forget_qa"]}},
            "a list is chosen from by forget_qa and neighbor_qa; ask both in evaluation.before_and_after",
        ),
        (
            {"evaluation": {"between": "forget_qa"}},
            "evaluation.between: 'forget_qa' is not all, or a list of probe sets",
        ),
        *(
            ({"methods": [name], "method_settings": {name: over}}, f"method_settings.{name}.{message}")
            for name, over, message in [
                ("rmu", {"options": {"layer": 1.5}}, "options.layer: 1.5 is not a whole number"),
                ("rmu", {"options": {"layer": "1.5"}}, "options.layer: 1.5 is not a whole number"),
                ("rmu", {"options": {"layer": True}}, "options.layer: True is not a whole number"),
                ("rmu", {"options": {"layer": 0}}, "options.layer: 0 is not above 0"),
                ("rmu", {"options": {"coefficient": [20]}}, "options.coefficient: [20] is not a number"),
                ("rmu", {"options": {"coefficient": 0}}, "options.coefficient: 0 is not above 0"),
                ("rmu", {"options": {"coefficient": "1e999"}}, "options.coefficient: inf is no number"),
                ("rmu", {"options": {"coefficient": 10**400}}, "options.coefficient: 100000000000... is larger than"),
                ("rmu", {"options": {"alpha": -1}}, "options.alpha: -1 is below 0"),
                ("rmu", {"options": {"sink_tokens": -1}}, "options.sink_tokens: -1 is below 0"),
                ("rmu", {"options": {"alpha": "many"}}, "options.alpha: 'many' is not a number"),
                ("rmu", {"reads": []}, "reads: workflow/atu/methods/rmu.py says what its loss reads; delete this"),
                (
                    "rmu",
                    {"other_subjects": 0},
                    "other_subjects: 0, but by the loss of workflow/atu/methods/rmu.py texts of others are read; set",
                ),
                ("rmu", {"texts": "pair"}, "texts: pair is nothing that workflow/atu/methods/rmu.py reads; choose pos"),
                ("npo", {"options": {"beta": 0}}, "options.beta: 0 is not above 0"),
                ("npo", {"options": {"beta": True}}, "options.beta: True is not a number"),
                ("npo", {"options": {"beta": "nan"}}, "options.beta: nan is no number that can be computed with"),
                ("npo", {"options": {"beta": float("-inf")}}, "options.beta: -inf is no number"),
                ("npo", {"options": {"beta": [0.1]}}, "options.beta: [0.1] is not a number"),
                ("simnpo", {"options": {"beta": -2.5}}, "options.beta: -2.5 is not above 0"),
                (
                    "simnpo",
                    {"texts": "pair"},
                    "texts: pair is nothing that workflow/atu/methods/simnpo.py reads; c",
                ),
                ("dpo", {"options": {"beta": 0.0}}, "options.beta: 0.0 is not above 0"),
                ("dpo", {"texts": "positive"}, "texts: positive is nothing that workflow/atu/methods/dpo.py reads"),
                ("wga", {"options": {"beta": -1}}, "options.beta: -1 is below 0"),
                ("satimp", {"options": {"beta1": -1.0}}, "options.beta1: -1.0 is below 0"),
                ("satimp", {"options": {"beta2": -0.5}}, "options.beta2: -0.5 is below 0"),
                ("undial", {"options": {"strength": 0}}, "options.strength: 0 is not above 0"),
                ("ce_u", {"options": {"beta": 1}}, "options.beta: unknown 'beta'"),
                ("altpo", {"options": {"beta": 0}}, "options.beta: 0 is not above 0"),
                ("altpo", {"texts": "positive"}, "texts: positive is nothing that workflow/atu/methods/altpo.py reads"),
                ("rt", {"texts": "positive"}, "texts: positive is nothing that workflow/atu/methods/rt.py reads"),
                ("ga", {"texts": "reject"}, "texts: reject is nothing that workflow/atu/methods/ga.py reads"),
                ("ga", {"train": 5}, "train: 5 is not a block of settings"),
                ("ga", {"options": 5}, "options: 5 is not a block of settings"),
                ("icu", {"texts": "reject"}, "texts: workflow/atu/methods/icu.py reads no texts; take it out"),
                ("icu", {"options": {"instruction": 5}}, "options.instruction: 5 is not text"),
                ("icu", {"train": {"epochs": 1}}, "train: unknown 'train'; did you mean options? (known: method,"),
                ("repe", {"texts": "pair"}, "texts: pair is nothing that workflow/atu/methods/repe.py reads; choose r"),
                ("repe", {"options": {"layers": []}}, "options.layers: is empty; name one at least"),
                ("repe", {"options": {"layers": [0]}}, "options.layers: 0 is not above 0"),
                ("ga", {"options": {"beta": 1}}, "options.beta: unknown 'beta' (known: )"),
                (
                    "ga",
                    {"retain": {"loss": "kl"}, "other_subjects": 0},
                    "other_subjects: 0, but by method_settings.ga.",
                ),
                ("ga", {"retain": {"loss": "descent", "weight": 0}}, "retain.weight: 0, so retain.loss descent would"),
                ("ga", {"train": {"epochs": 2.5}}, "train.epochs: 2.5 is not a whole number"),
                ("ga", {"train": {"epochs": "x"}}, "train.epochs: 'x' is not a whole number"),
                ("ga", {"train": {"clip_norm": float("nan")}}, "train.clip_norm: nan is no number"),
                ("ga", {"train": {"learning_rate": "nan"}}, "train.learning_rate: nan is no number"),
                ("ga", {"train": {"learning_rate": ["inf", 1e-3]}}, "train.learning_rate.0: inf is no number"),
                ("ga", {"lora": {"rank": 2, "modules": ["q_proj", "q_proj"]}}, "lora.modules: names 'q_proj' twice"),
                ("ga", {"lora": {"modules": "q_proj"}}, "lora.modules: 'q_proj' is not auto, or a list of one name"),
                ("ga", {"lora": {"modules": []}}, "lora.modules: [] is not auto, or a list of one name or more"),
                ("ga", {"layers": 4}, "layers: 4 is not none, or the first and the last of some layers such as 0-4"),
                ("ga", {"layers": "0-"}, "layers: '0-' is not none, or the first and the last of some layers"),
                ("ga", {"layers": "4-0"}, "layers: 4-0 names no layer; write 0-4"),
                (
                    "rmu",
                    {"layers": "0-4"},
                    "layers: 0-4, but workflow/atu/methods/rmu.py chooses the layers that train itself; set it to none",
                ),
                (
                    "ga",
                    {"train": {"learning_rate": [1e-4, 1.0000001e-4]}},
                    "train.learning_rate: 0.0001 and 0.00010000001",
                ),
                (
                    "ga",
                    {"train": {"learning_rate": [1e-4, 3e-4, "1e-4"]}},
                    "train.learning_rate: 0.0001 and 0.0001 would",
                ),
                (
                    "atu",
                    {"unlearn": {"learning_rate": [1e-4, "0.0001"]}},
                    "unlearn.learning_rate: 0.0001 and 0.0001 would",
                ),
                ("atu", {"other_subjects": 0}, "other_subjects: 0, but by method_settings.atu.unlearn.retain_weight"),
                (
                    "atu",
                    {"predictor": {"dropout": 1.0}},
                    "predictor.dropout: 1.0 is not below 1",
                ),
                ("atu", {"unlearn": {"tau": [0.2, 1.5]}}, "unlearn.tau.1: 1.5 is greater than the maximum of 1"),
                ("atu", {"unlearn": {"tau": [".nan"]}}, "unlearn.tau.0: '.nan' is not a number"),
                ("atu", {"unlearn": {"warmup_steps": 30}}, "unlearn.warmup_steps: 30, and unlearn.steps is 30: the"),
                (
                    "atu",
                    {"align": {"warmup_steps": 100}},
                    "align.warmup_steps: 100, and align.steps_between is 100: the",
                ),
                ("repe", {"options": {"coefficient": 1e38}}, "options.coefficient: 1e+38 is further from 0 than 10000"),
                ("repe", {"options": {"coefficient": -1e5}}, "options.coefficient: -100000.0 is further from 0 than"),
                ("repe", {"options": {"coefficient": float("nan")}}, "options.coefficient: nan is no number"),
                (
                    "rmu",
                    {"options": {"sink_tokens": 512}, "max_tokens": 512},
                    "options.sink_tokens: 512 leaves out all of texts of at most 512 tokens",
                ),
                ("repe", {"options": {"layers": [3, 4, 3]}}, "options.layers: names 3 twice; each counts once"),
                ("repe", {"options": {"layers": [3.5]}}, "options.layers: 3.5 is not a whole number"),
                *(
                    ("icu", {"options": {"instruction": text}}, f"options.instruction: {text!r} needs {{name}} where")
                    for text in (
                        *(
                            "Forget {target}.",
                            "{}",
                            "{0} {name}",
                            "{name",
                            "{name}}",
                            "Forget.",
                            "{{name}}",
                            "{name.x}",
                        ),
                        *("{name!z}", "{name:5d}", "{name[x]}"),
                    )
                ),
            ]
        ),
        (
            {"method_settings": {"x": {"method": "atu-layer10"}}},
            "x.method: atu-layer10 is a variant itself; name one of",
        ),
        ({"method_settings": {"x": {"method": 3}}}, "method_settings.x.method: 3 is not text"),
        ({"method_settings": {"ga@0.1": {"method": "ga"}}}, "'ga@0.1' does not match"),
        ({"seeds": [2**32]}, "seeds.0: 4294967296 is greater than the maximum of 4294967295"),
        ({"seeds": [1.5]}, "seeds.0: 1.5 is not a whole number"),
        ({"seeds": [-1]}, "seeds.0: -1 is less than the minimum of 0"),
        ({"seeds": [datetime.date(2026, 11, 25)]}, "seeds.0: '2026-11-25' is not a whole number"),
        ({"experiments": {"mia": {"seeds": [2**32]}}}, "experiments.mia.seeds.0: 4294967296 is greater"),
        ({"split": {"seed": 2**32}}, "split.seed: 4294967296 is greater than the maximum of 4294967295"),
        ({"bootstrap": {"seed": 2**32}}, "bootstrap.seed: 4294967296 is greater than the maximum of 4294967295"),
        ({"threads": "inf"}, "threads: 'inf' is not a whole number"),
        ({"hardware": {"margin": "nan"}}, "hardware.margin: nan is no number that can be computed with"),
        (
            {"llm": "mine", "models": {"mine": {"source": "path", "path": "/nowhere"}}},
            "models.mine.path: /nowhere is not a directory",
        ),
        (
            {"method_settings": {"atu": {"predictor": {"heads": 7}}}},
            "method_settings.atu.predictor.heads: 7 heads cannot share a width of 256",
        ),
        (
            {"methods": ["mine"], "method_settings": {"mine": {"method": "gaa", "texts": "passage"}}},
            "method_settings.mine.method: unknown 'gaa'; did you mean ga? (known: altpo, atu, ce_u, dpo, external, ga,",
        ),
        (
            {"evaluation": {"between": ["forget_qq"]}},
            "evaluation.between: unknown 'forget_qq'; did you mean forget_qa?",
        ),
        (
            {"method_settings": {"atu": {"unlearn": {"tau": [0.0, 0.0, 0.5]}}}},
            "atu.unlearn.tau: rises from 0 to 0.5, and",
        ),
        (
            {"method_settings": {"atu": {"unlearn": {"optimizer": "adamw", "weight_decay": 1e5}}}},
            "atu.unlearn.weight_decay: 100000 at a learning rate of ",
        ),
        (
            {"models": {"all-minilm-l6-v2": {"template": "none"}}},
            "l6-v2.template: an encoder is asked",
        ),
        (
            {"models": {"smollm2-135m-instruct": {"template": "chat"}}},
            "template: 'chat' is not one of none",
        ),
        (
            {"models": {"smollm2-135m-instruct": {"template": "none", "template_options": {"x": 1}}}},
            "template_options: with template: none no template reads them; take one of the two out",
        ),
        (
            {"models": {"all-minilm-l6-v2": {"template_options": {"x": 1}}}},
            "l6-v2.template_options: an encoder is asked",
        ),
        (
            {"corpus": {"source": "generate", "max_new_tokens": 24}, "method_settings": {"atu": {"k": 24}}},
            "atu.k: behind no token of a text of 24 (corpus.max_new_tokens) do 24 follow; set it lower",
        ),
        ({"encoder": "smollm2-135m-instruct"}, "encoder: smollm2-135m-instruct is the llm too; name a"),
        *(
            (
                {"llm": "x", "models": {"x": {"source": "hub", "repo": "a/b", "revision": revision}}},
                f"models.x.revision: {revision!r} is no commit (40 digits of 0-9a-f), and what it names may change",
            )
            for revision in ("main", "v1.0", "d269012")
        ),
        (
            {"llm": "tables", "models": {"tables": {"source": "path", "path": "workflow"}}},
            "models.tables: results/tables is the folder of other files; call it otherwise",
        ),
        (
            {"benchmark": "answers", "benchmarks": {"answers": DEMO["benchmarks"]["demo"]}},
            "benchmarks.answers: results/answers is the folder of other files",
        ),
        (
            {"benchmark": "checks", "benchmarks": {"checks": DEMO["benchmarks"]["demo"]}},
            "benchmarks.checks: results/checks is the folder of other files",
        ),
        ({"models": {"x": {"source": "ftp"}}}, "models.x.source: 'ftp' is not one of hub, pypi, path"),
        ({"models": {"x": {"source": "hub", "repo": "a/b"}}}, "models.x.revision: is missing"),
        ({"benchmarks": {"demo": {"path": "/nowhere"}}}, "benchmarks.demo.path: /nowhere has no folder Target/"),
        (
            {"benchmarks": {"demo": {"shared_utility": False}}},
            "benchmarks.demo.shared_utility: false, so retain_mia.json, retain_mmlu.json, retain_bbh.json, "
            "truthful.json, triviaqa.json, fluency.json in workflow/benchmarks/demo/Utility would not be asked; set it",
        ),
    ],
)
def test_faults(over, message):
    assert any(message in line for line in refused(DEMO, **over).splitlines())


def test_options_are_read_from_a_method_that_is_not_run():
    rmu = declared(ROOT, "rmu").options
    assert list(rmu) == ["layer", "coefficient", "alpha", "sink_tokens"]
    assert [option.default for option in rmu.values()] == [7, 20, 100, 0]
    assert [option.kind for option in rmu.values()] == ["a whole number", "a number", "a number", "a whole number"]
    assert declared(ROOT, "ga").options == {}


def test_a_mean_is_declared_beside_its_own_loss_alone(tmp_path):
    """Several GPUs share a batch where the loss in force says what it is a mean over; planning reads the same."""
    text = (
        "class Items(Trained):\n    mean_over = 'items'\n    def loss(self, llm, batch): ...\n"
        "class Same(Items):\n    name = 'Same'\n"
        "class Other(Items):\n    def loss(self, llm, batch): ...\nMETHOD = "
    )
    root = method_folder(tmp_path, **{name.lower(): f"{text}{name}" for name in ("Items", "Same", "Other")})
    assert [declared(root, name).mean_over for name in ("items", "same", "other")] == ["items", "items", ""]


def test_whole_numbers_are_whole():
    """As YAML and --config hand them over; and what is no whole number stays what it was."""
    over = {
        "rmu": {"options": {"layer": "2", "coefficient": "20", "alpha": "1e2", "sink_tokens": 1.0}},
        "ga": {"train": {"epochs": 2.0, "batch_size": "4.0", "learning_rate": "1", "weight_decay": "0.5"}},
        "repe": {"options": {"layers": ["3", 4.0], "coefficient": "2"}},
        "atu": {"align": {"steps": 200.0}, "unlearn": {"tau": ["0.5", 0.0]}},
    }
    blocks = check(DEMO, methods=list(over), method_settings=over, seeds=[1e3])["method_settings"]

    def shown(name, part, *keys):
        return [repr(blocks[name][part][key]) for key in keys]

    assert shown("rmu", "options", "layer", "coefficient", "alpha", "sink_tokens") == ["2", "20", "100.0", "1"]
    keys = ("epochs", "batch_size", "learning_rate", "weight_decay")
    assert shown("ga", "train", *keys) == ["2", "4", "1", "0.5"]
    assert shown("repe", "options", "layers", "coefficient") == ["[3, 4]", "2"]
    assert shown("atu", "align", "steps") + shown("atu", "unlearn", "tau") == ["200", "[0.5, 0.0]"]
    assert repr(check(DEMO, seeds=[1e3])["seeds"]) == "[1000]"
    assert repr(check(DEMO, threads=2.0)["threads"]) == "2"


@pytest.mark.parametrize("name", ["config.yaml", "baselines.yaml", "demo.yaml", "rates.yaml"])
def test_every_method_ends_with_the_settings_it_should_have(name):
    """Defaults, declarations and blocks, laid over each other: tests/settings.json has what must come out."""
    file = ROOT / "workflow/configs" / name
    below = {"baselines.yaml": ["demo.yaml"], "rates.yaml": ["demo.yaml", "baselines.yaml"]}.get(name, [])
    files = [] if name == "config.yaml" else [*below, name]
    config = check(load("config.yaml", *(str(file.with_name(part)) for part in files)))
    expected = json.loads((ROOT / "tests/settings.json").read_text())["demo.yaml" if name == "baselines.yaml" else name]
    shown = {key: json.dumps(block, sort_keys=True) for key, block in config["method_settings"].items()}
    assert shown == {key: json.dumps(block, sort_keys=True) for key, block in expected.items()}


def test_all_configs_are_in_that_comparison():
    names = {file.name for file in ROOT.glob("workflow/configs/*.yaml")}
    assert names == {"baselines.yaml", "demo.yaml", "rates.yaml", "search.yaml"}  # whose settings are drawn, see above


def test_a_block_need_say_nothing_but_what_differs():
    said = {"npo-slow": {"method": "npo", "train": {"learning_rate": 1e-7}}, "npo": {"options": {"beta": 0.2}}}
    blocks = check(PAPER, method_settings=said)["method_settings"]
    assert blocks["npo-slow"] == merge(copy.deepcopy(blocks["npo"]), {"train": {"learning_rate": 1e-7}})
    assert blocks["npo-slow"]["options"] == {"beta": 0.2}
    over = {"method_defaults": {"trained": {"max_tokens": 99, "train": {"epochs": "2"}}}}
    blocks = check(PAPER, **over)["method_settings"]
    assert {name: blocks[name]["max_tokens"] for name in ("ga", "dpo", "ga_star")} == dict.fromkeys(
        ("ga", "dpo", "ga_star"), 99
    )
    assert [blocks[name]["train"]["epochs"] for name in ("npo", "ga_star", "rmu")] == [2, 4, 1]
    said = refused(PAPER, method_defaults={"trained": {"train": {"epochs": 0}}})  # once, not of every method
    assert said == "method_defaults.trained.train.epochs: 0 is less than the minimum of 1"
    assert "unknown 'trianed'" in refused(PAPER, method_defaults={"trianed": {}})


def test_methods_of_experiments_are_checked_when_they_are_asked_for():
    config = check(PAPER, method_settings={"npo": {"texts": "pair"}}, methods=["icu"])
    with pytest.raises(ConfigError, match=r"method_settings\.npo\.texts: pair is nothing that"):
        experiment_of("main_table", config)


BASE = """
class Trained:
    kind = "trained"
    texts: tuple[str, ...] = ("positive", "passage")
    reads: tuple[str, ...] = ()
"""
OWN = {
    "annotated": ("class A(Trained):\n    def __init__(self, n: int): ...\nMETHOD: type[Trained] = A", {"n": True}),
    "imported": ("from atu.methods.kin import Kin as METHOD", {"beta": True, "names": False}),
    "relative": ("from .kin import Kin\nMETHOD = Kin", {"beta": True, "names": False}),
    "module": ("from atu.methods import kin\nMETHOD = kin.Kin", {"beta": True, "names": False}),
    "whole_module": ("import atu.methods.kin\nMETHOD = atu.methods.kin.Kin", {"beta": True, "names": False}),
    "inherited": (
        "from atu.methods.kin import Kin\nclass A(Kin):\n    reads = ('others',)\nMETHOD = A",
        {"beta": True, "names": False},
    ),
    "more": (
        "from atu.methods.kin import Kin\nclass A(Kin):\n    def __init__(self, *, c: bool = True, **rest): ...\n"
        "METHOD = A",
        {"beta": True, "names": False, "c": False},
    ),
    "dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass A(Trained):\n    n: int\n    x: float = 1.0\nMETHOD = A",
        {"n": True, "x": False},
    ),
    "named_so": ("class METHOD(Trained):\n    pass", {}),
}


def method_folder(folder, **files):
    """A checkout of method files alone."""
    place = folder / "workflow/atu/methods"
    place.mkdir(parents=True)
    kin = "class Kin(Trained):\n    positive = ('beta',)\n"
    kin += "    def __init__(self, beta: float, *, names: 'list[int]' = ()): ..."
    for stem, text in ({"kin": kin + "\nMETHOD = Kin"} | files).items():
        (place / f"{stem}.py").write_text("import torch\nfrom atu.methods import Trained\n" + text + "\n")
    (place / "__init__.py").write_text(BASE)
    return folder


@pytest.mark.parametrize("name", OWN)
def test_methods_of_ones_own_are_read(tmp_path, name):
    text, options = OWN[name]
    root = method_folder(tmp_path, mine=text)
    found = declared(root, "mine")
    assert {key: option.needed for key, option in found.options.items()} == options
    assert found.texts == ("positive", "passage")
    assert found.reads == (("others",) if name == "inherited" else ())
    assert found.positive == (("beta",) if "beta" in options else ())
    if "names" in options:
        assert (found.options["names"].kind, found.options["names"].items) == ("a list", "a whole number")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class A(Trained): ...", "mine.py has no line METHOD = <its class>; write one at its end"),
        ("class A(Trained)\nMETHOD = A", "mine.py cannot be read (expected ':'"),
        (
            "from functools import partial\nMETHOD = partial(A, 1)",
            "mine.py: METHOD is partial(A, 1), which is no class",
        ),
        ("class A(Trained):\n    texts = ('pair')\nMETHOD = A", "mine.py: texts of A is not a tuple of texts"),
        ("class A(Trained):\n    reads = READS\nMETHOD = A", "mine.py: reads of A is not a tuple of texts"),
        ("from atu.methods.gone import G\nMETHOD = G", "gone.py cannot be read ("),
        ("class A(A): ...\nMETHOD = A", "mine.py: A builds on itself"),
        ("METHOD = METHOD", "mine.py: METHOD is METHOD, which is no class"),
        ("class A: ...\nMETHOD = A", "mine.py: A builds on none of Aligned, Trained, Applied, External, the classes"),
        ("class A(Trained):\n    second_model = 'x'\nMETHOD = A", "second_model of A is not True or False; write it"),
        (
            "class A(Trained):\n    trained_layers = 2.5\nMETHOD = A",
            "trained_layers of A is not a whole number or",
        ),
        ("class A(Trained):\n    reads = ('other',)\nMETHOD = A", "A has 'other' among its reads; known are reference"),
        ("class A(Trained):\n    texts = ('poem',)\nMETHOD = A", "A has 'poem' among its texts; known are positive"),
        ("class A(Trained):\n    name = 'A|B'\nMETHOD = A", "mine.py: A is called 'A|B'; write letters, digits"),
        ("class A(Trained):\n    name = ('A',)\nMETHOD = A", "mine.py: name of A is not a text such as"),
        ("class A(Trained):\n    largest = ('beta',)\nMETHOD = A", "mine.py: largest of A is not a dict such as"),
    ],
)
def test_methods_that_cannot_be_read(tmp_path, text, message):
    root = method_folder(tmp_path, mine=text)
    with pytest.raises(ConfigError) as fault:
        read_method("ga", {"method": "mine"}, root)
    assert str(fault.value).startswith("method_settings.ga.method: workflow/atu/methods/")
    assert message in str(fault.value)
    assert "\n" not in str(fault.value)


def test_defaults_are_those_of_the_constructor(tmp_path):
    """What is written out, or named in the same file; what no config can hold is left to the constructor."""
    text = (
        "import math\nRATE = 0.5\nclass A(Trained):\n"
        "    def __init__(self, a=RATE, b: int = -3, *, c: 'Sequence[int]' = (1, 2), d=math.inf, e: str = 'x', "
        "f=None): ...\nMETHOD = A"
    )
    options = declared(method_folder(tmp_path, mine=text), "mine").options
    assert {key: option.default for key, option in options.items()} == {
        **{"a": 0.5, "b": -3, "c": [1, 2], "d": None, "e": "x", "f": None}
    }
    assert not any(option.needed for option in options.values())
    assert options["e"].kind == "text"


def test_a_name_is_not_inherited_from_another_method(tmp_path):
    """Else a method that builds on NPO would stand in NPO's row, and be compared with what was published of it."""
    kin = "class Kin(Trained):\n    name = 'Kin'\n    published = 'KIN'\n    second_model = True\nMETHOD = Kin"
    own = "from atu.methods.kin import Kin\n\nclass A(Kin): ...\nMETHOD = A"
    root = method_folder(tmp_path, kin=kin, mine=own, same="from atu.methods.kin import Kin as METHOD")
    assert (declared(root, "kin").name, declared(root, "kin").published) == ("Kin", "KIN")
    for name in ("mine", "same"):
        found = declared(root, name)
        assert (found.name, found.published, found.second_model) == ("", "", True)


def test_ranges_of_a_method_of_ones_own(tmp_path):
    root = method_folder(tmp_path, mine="from atu.methods.kin import Kin\nMETHOD = Kin")
    taken = declared(root, "mine")
    block = {"options": {"beta": 0.1, "names": [1, 2]}}
    assert list(check_options("mine", block, taken)) == []
    for options, message in (
        ({"beta": 0}, "beta: 0 is not above 0"),
        ({"beta": 1, "names": 3}, "names: 3 is not a list"),
        ({"beta": 1, "names": [1, 2.5]}, "names: 2.5 is not a whole number"),
        ({}, "lacks beta"),
    ):
        (said,) = check_options("mine", {"options": options}, taken)
        assert message in said


def test_others_need_not_exist_for_methods_that_read_none(tmp_path):
    """A benchmark of two people: ATU reads one other, DPO none."""
    for name in ("1_Ada", "2_Bo"):
        (tmp_path / "Target" / name).mkdir(parents=True)
    mine = {"benchmark": "mine", "targets": "all", "dev_targets": [], "methods": ["dpo"]}
    mine |= {"benchmarks": {"mine": {"source": "path", "path": str(tmp_path), "shared_utility": False}}}
    assert check(DEMO, **mine)["targets"] == ["1_Ada", "2_Bo"]
    with pytest.raises(ConfigError, match="set it to at most 1"):
        check(DEMO, **(mine | {"methods": ["atu"]}))


def test_an_empty_benchmark(tmp_path):
    (tmp_path / "Target").mkdir()
    with pytest.raises(ConfigError, match="has no folder like 1_Stephen_King"):
        check(DEMO, benchmarks={"demo": {"path": str(tmp_path)}})


def test_a_key_that_stands_twice(tmp_path):
    """The last would win without a word; a block that is merged into another may be overridden."""
    check_keys([ROOT / "config.yaml", *ROOT.glob("workflow/configs/*.yaml"), tmp_path / "missing.yaml"])
    file = tmp_path / "mine.yaml"
    for text, line, key in (
        ("seeds: [0]\ntargets: all\nseeds: [1]\n", 3, "seeds"),
        ("method_settings:\n  atu: {k: 8}\n  ga: {}\n  atu: {layer: 2}\n", 4, "atu"),
        ('{"split": {"seed": 1,\n"seed": 2}}', 2, "seed"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=f"mine.yaml, line {line}: {key} stands twice in one block"):
            check_keys([file])
    file.write_text("a: &a {x: 1}\nb: {<<: *a, x: 2}\n")
    check_keys([file])
    file.write_text("a: [\n")
    check_keys([file])


def test_a_missing_key():
    config = copy.deepcopy(DEMO)
    del config["threads"]
    with pytest.raises(ConfigError, match=r"^threads: is missing$"):
        check_config(config, ROOT)


def benchmark_of(folder, *targets, **over):
    """A config for a benchmark with those targets."""
    for target in targets:
        (folder / "Target" / target).mkdir(parents=True)
    mine = {"source": "path", "path": str(folder), "shared_utility": False}
    base = {"benchmark": "mine", "targets": "all", "dev_targets": [], "methods": ["icu"]}
    return base | over | {"benchmarks": {"mine": mine | over.get("benchmarks", {})}}


def test_a_fault_is_what_snakemake_ends_with():
    """A SystemExit passes through Snakemake, which would put a traceback around any other error."""
    fault = ConfigError("seeds: is empty")
    assert isinstance(fault, SystemExit)
    assert not isinstance(fault, Exception)
    assert (str(fault), fault.code) == ("seeds: is empty", "config: seeds: is empty")


def test_ranks_with_gaps(tmp_path):
    mine = benchmark_of(tmp_path, "1_Ada", "2_Bo", "5_Cy")

    def ids(*names):
        return check(DEMO, **(mine | {"targets": list(names)}))["targets"]

    assert ids("1-2", 5) == ["1_Ada", "2_Bo", "5_Cy"]
    for name in ("1-5", "3", "3-4", "1-999999999999"):
        said = refused(DEMO, **(mine | {"targets": [name]}))
        assert said == f"targets: {name} names ranks that do not exist (known: 1-2, 5)"


def test_a_name_of_digits(tmp_path):
    mine = benchmark_of(tmp_path, "1_Ada", "3_2", "4_5-6", "7_1984")

    def ids(*names):
        return check(DEMO, **(mine | {"targets": list(names)}))["targets"]

    assert ids(1984) == ids("1984") == ids("7") == ids("7_1984") == ["7_1984"]
    assert ids("5-6") == ["4_5-6"]
    assert ids(2) == ["3_2"]  # no target has this rank
    said = refused(DEMO, **(mine | {"targets": [71984]}))
    assert said == 'targets: 71984 is no rank; if 7_1984 is meant, write ["7_1984"]: YAML takes it for a number'
    (tmp_path / "Target/2_Bo").mkdir()
    said = refused(DEMO, **(mine | {"targets": [2]}))
    assert said == "targets: 2 is the name of 3_2 and the rank of 2_Bo; write the id"
    assert ids("2_Bo", "3_2") == ["2_Bo", "3_2"]


def test_names_with_commas_and_accents(tmp_path):
    composed, decomposed = "24_Beyonc\u00e9", "24_Beyonce\u0301"
    harry = "10_Prince_Harry,_Duke_of_Sussex"
    for spelt in (composed, decomposed):
        mine = benchmark_of(tmp_path / spelt, spelt, harry, "3_Bo")

        def ids(*names, mine=mine):
            return check(DEMO, **(mine | {"targets": list(names)}))["targets"]

        for name in (composed, decomposed, composed[3:], decomposed[3:].upper()):
            assert ids(name) == [spelt]  # the folder's own spelling
        assert ids(harry) == ids("Prince Harry, Duke of Sussex") == [harry]
        assert check(DEMO, **(mine | {"targets": harry}))["targets"] == [harry]  # --config targets=...
        assert ids(composed, decomposed, harry, "Prince harry,  Duke of Sussex") == [spelt, harry]  # each once
        for name in ("10_Prince_Harry", "Prince Harry"):
            said, _ = refused(DEMO, **(mine | {"targets": [name, "_Duke_of_Sussex"]})).splitlines()
            assert said == f'targets: {name!r} is a name cut at its comma; write it in quotes: ["{harry}"]'
        for text in (f"3_Bo,{harry},{composed}", "3, Prince Harry, Duke of Sussex,Beyonc\u00e9,3", f"3-3,{harry},24"):
            # --config targets=..., without brackets
            assert check(DEMO, **(mine | {"targets": text}))["targets"] == ["3_Bo", harry, spelt]
        said = refused(DEMO, **(mine | {"targets": "3_Bo,10_Prince_Harry"}))
        assert said == f"targets: '10_Prince_Harry' is a name cut at its comma; write it in quotes: [\"{harry}\"]"


def test_targets_that_cannot_be_told_apart(tmp_path):
    two = benchmark_of(tmp_path / "accents", "24_Beyonc\u00e9", "24_Beyonce\u0301")
    assert "cannot be told apart; remove or rename one" in refused(DEMO, **two)
    names = benchmark_of(tmp_path / "names", "1_Ada", "2_Ada", targets=["Ada"])
    # rows are told apart by names, so both would have the same ones, and each would count
    assert "'1_Ada' and '2_Ada' cannot be told apart; remove or rename one" in refused(DEMO, **names)
    ranks = benchmark_of(tmp_path / "ranks", "1_Ada", "1_Bo", targets=["1"])
    assert refused(DEMO, **ranks) == "targets: 1: one rank is that of 1_Ada and of 1_Bo; write ids"
    assert "1-1: one rank is that of 1_Ada and of 1_Bo" in refused(DEMO, **(ranks | {"targets": ["1-1"]}))
    assert check(DEMO, **(ranks | {"targets": ["1_Bo"]}))["targets"] == ["1_Bo"]


def test_names_that_files_cannot_have(tmp_path):
    said = refused(DEMO, **benchmark_of(tmp_path / "braces", "1_{x}"))
    assert said == "benchmarks.mine.path: '1_{x}' holds '{', which names of files cannot have here; rename it"
    (tmp_path / "file/Target").mkdir(parents=True)
    (tmp_path / "file/Target/1_Ada").write_text("[]")
    assert "Target/1_Ada is a file; it must be a folder" in refused(DEMO, **benchmark_of(tmp_path / "file"))
    odd = ["1_$HOME", "2_It's", '3_"Q"', "4_a b", "5_a*b", "6_[c]"]
    assert check(DEMO, **benchmark_of(tmp_path / "odd", *odd))["targets"] == odd


def test_utility_sets_are_where_the_config_says(tmp_path):
    mine = benchmark_of(tmp_path, "1_Ada")
    shared = {"benchmarks": {"mine": mine["benchmarks"]["mine"] | {"shared_utility": True}}}
    said = refused(DEMO, **(mine | shared))
    assert said.startswith(f"benchmarks.mine.shared_utility: true, but {tmp_path}/Utility has none of retain_mia.json")
    (tmp_path / "Utility").mkdir()
    (tmp_path / "Utility/primers.json").write_text('{"truthfulqa": "Q: a"}')
    assert check(DEMO, **mine)["targets"] == ["1_Ada"]  # few-shot texts are shared in any case
    (tmp_path / "Target/1_Ada/triviaqa.json").write_text("[]")
    assert "utility_fac is asked with the few-shot text triviaqa, which" in refused(DEMO, **mine)
    (tmp_path / "Utility/fluency.json").write_text("[]")
    said, _ = refused(DEMO, **mine).splitlines()
    assert said.endswith(f"false, so fluency.json in {tmp_path}/Utility would not be asked; set it to true")
    assert "in a dataset of the hub" in refused(PAPER, benchmarks={"rwku": {"shared_utility": True}})
    (tmp_path / "Utility/primers.json").write_text("[")
    assert "Utility/primers.json is not valid JSON" in refused(DEMO, **(mine | shared))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "benchmarks.rwku.targets: there is no file"),
        ('["1_Stephen', "is not valid JSON"),
        ('{"1": "Stephen King"}', "must hold a JSON list of target ids"),
        ("[]", "must hold a JSON list of target ids"),
        ('["1_Stephen_King", 2]', "holds 2, which is no id such as 1_Stephen_King"),
        ('["Stephen King"]', "holds 'Stephen King', which is no id"),
        ('["1_a/b"]', "holds '1_a/b', which is no id"),
    ],
)
def test_faults_of_a_list_of_targets(tmp_path, text, message):
    file = tmp_path / "targets.json"
    if text is not None:
        file.write_text(text)
    assert message in refused(PAPER, benchmarks={"rwku": {"targets": str(file)}})


def test_groups():
    def said(**groups):
        return refused(PAPER, benchmarks={"rwku": {"groups": groups}}, targets=["mine"])

    assert said(mine=["201"]) == "groups.mine: 201 names ranks that do not exist (known: 1-200)"
    assert said(mine=["Stephen Kong"]).startswith("groups.mine: unknown 'Stephen Kong'; did you mean")
    assert said(mine=[]) == "benchmarks.rwku.groups.mine: is empty; name one at least"
    for name in ("7", "1-3", "all", "Rihanna"):
        assert f"groups.{name}: '{name}' names targets by itself" in said(**{name: ["1"]})
    numbers = check(PAPER, benchmarks={"rwku": {"groups": {"mine": [1, 2]}}}, targets=["mine"])
    assert numbers["targets"] == ["1_Stephen_King", "2_Confucius"]


def test_an_experiment_names_targets_as_the_config_does():
    given = {"mia": {"targets": [1, "2-3", "Stephen King"]}}
    chosen = experiment_of("mia", check(PAPER, experiments=given))["targets"]
    assert chosen == ["1_Stephen_King", "2_Confucius", "3_Bruce_Lee"]
    with pytest.raises(ConfigError, match=r"experiments\.mia\.targets: 300 names ranks that do not exist"):
        experiment_of("mia", check(PAPER, experiments={"mia": {"targets": [300]}}))


def test_what_is_easily_overlooked_is_said_where_a_run_starts():
    assert notes(check(PAPER)) == []
    (share,) = notes(check(DEMO))
    assert share.startswith(
        "split.dev_share is 0.5: that share of the probes of each set is kept for choosing settings"
    )
    _, dev = notes(check(DEMO, targets=["1"]))
    assert dev.startswith("all targets are dev targets")
    _, blind = notes(check(DEMO, evaluation={"between": ["mia_fm"]}))
    assert blind.startswith("collapse.stop is true, but the model writes no answer to any set of evaluation.between")
    _, slow = notes(check(DEMO, methods=["ga"], corpus={"texts": 6}, method_settings={"ga": {"train": {"epochs": 2}}}))
    assert slow.endswith(
        "train.warmup_steps is 2, and 6 texts make 2 steps: the learning rate reaches 50% of what is set"
    )


def test_texts_of_another_model_are_told():
    """RWKU has biographies that Llama-3 wrote, and ones by Phi-3-mini."""
    (another,) = notes(check(PAPER, llm="llama-3-8b-instruct"))
    assert another == (
        "corpus.text_set: phi-3-mini-4k-instruct wrote the texts of positive_phi, and llm is llama-3-8b-instruct; to "
        "unlearn its own, set it to positive"
    )
    assert notes(check(PAPER, llm="llama-3-8b-instruct", corpus={"text_set": "positive"})) == []
    own = {"mine": {"source": "hub", "repo": "me/mine", "revision": "0" * 40}}
    (another,) = notes(check(PAPER, llm="mine", models=own))
    assert another.endswith("llm is mine; to unlearn its own, set corpus.source to generate")
    assert notes(check(PAPER, llm="mine", models=own, corpus={"source": "generate"})) == []


def test_a_grid_without_dev_probes(tiny):
    """Four rows a set: round(0.1 x 4) = 0 are dev probes, round(0.2 x 4) = 1 is."""
    mine = {"benchmarks": {"mine": {"source": "path", "path": str(tiny / "benchmark"), "shared_utility": True}}}
    mine |= {"benchmark": "mine", "targets": "all", "dev_targets": [], "methods": ["ga"]}
    mine |= {"method_settings": {"ga": {"train": {"learning_rate": [1e-5, 1e-4]}}}}
    said = refused(DEMO, **(mine | {"split": {"dev_share": 0.1}}))
    assert said == (
        "method_settings.ga.train.learning_rate: a list is chosen from on dev probes, and no row of forget_level2.json "
        "of 1_Ada, 2_Bo, 3_Cy is one; set split.dev_share higher"
    )
    assert list(check(DEMO, **(mine | {"split": {"dev_share": 0.2}}))["grids"]) == ["ga"]


def test_no_two_methods_are_called_alike():
    """Tables by row name would take them for one, and average them."""
    blocks = {"GA": {"method": "ga"}}
    assert check(PAPER, method_settings=blocks, methods=["GA"])["methods"] == ["GA"]
    with pytest.raises(ConfigError, match="methods: ga and GA are both called GA in tables; rename one"):
        check(PAPER, method_settings=blocks, methods=["ga", "GA"])
    config = check(PAPER, method_settings=blocks, experiments={"mia": {"methods": ["ga", "GA"]}})
    with pytest.raises(ConfigError, match=r"experiments\.mia\.methods: ga and GA are both called GA"):
        experiment_of("mia", config)


def test_a_target_in_two_spellings_counts_once():
    config = check(PAPER, experiments={"mia": {"targets": ["1", "Stephen King", "1-2"]}})
    assert experiment_of("mia", config)["targets"] == config["all_targets"][:2]
