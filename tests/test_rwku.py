"""RWKU's own training settings: what config.yaml has of them, and experiments that must run them."""

import csv
from contextlib import nullcontext

import pytest

from atu.engine.parts import query_value_maps
from atu_pipeline.settings import ConfigError, experiment_of
from conftest import ROOT
from test_settings import DEMO, PAPER, check

TABLE = ROOT / "workflow/benchmarks/rwku/settings.csv"
with TABLE.open(newline="") as file:
    ROWS = list(csv.DictReader(file))
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj"]


def block_name(row):
    return row["method"] + "-lora" * (row["tuning"] == "lora") + "-batch" * (row["targets_at_once"] == "batch")


@pytest.mark.parametrize("row", ROWS, ids=block_name)
def test_every_script_is_a_block(row):
    """Each number of a script is that of the block as it ends, defaults and declarations below it."""
    block = check(PAPER)["method_settings"][block_name(row)]
    train = block["train"]
    assert train["learning_rate"] == float(row["learning_rate"])
    whole = {key: int(row[key]) for key in ("batch_size", "accumulate", "epochs", "warmup_steps")}
    assert {key: train[key] for key in whole} == whole
    assert (train["optimizer"], train["schedule"]) == ("adamw", row["schedule"])
    assert block["max_tokens"] == int(row["cutoff_tokens"])
    assert block["texts"] == row["text_set"]
    assert block["options"].get("beta") == (float(row["beta"]) if row["beta"] else None)
    assert (block["retain"]["loss"], block["layers"]) == ("none", "none")
    lora = block["lora"]
    assert lora["rank"] == int(row["lora_rank"] or 0)
    if row["tuning"] == "lora":
        assert lora["alpha"] == int(row["lora_alpha"])
        assert query_value_maps(LLAMA) == row["lora_modules"].split("+")
        assert lora["modules"] == "auto"


def test_the_table_names_each_row_once():
    names = [block_name(row) for row in ROWS]
    assert len(set(names)) == len(names) == 14
    assert all(row["source"].startswith("scripts/") and row["source"].endswith(".sh") for row in ROWS)


def of_experiment(name, methods, base=PAPER, **blocks):
    """Faults of an experiment with these methods."""
    block = {"methods": methods, "targets": ["1"], "shows": ["main"]}
    config = check(base, experiments={name: block}, method_settings=blocks)
    try:
        experiment_of(name, config)
    except ConfigError as fault:
        return str(fault).splitlines()
    return []


def test_what_is_published_is_run_as_it_was():
    names = [block_name(row) for row in ROWS]
    assert of_experiment("rwku_all", [*names, "icu", "repe", "atu"]) == []
    other = {"npo-lora": {"train": {"learning_rate": 2e-5}}, "mine": {"method": "rt", "train": {"learning_rate": 4e-7}}}
    assert of_experiment("rwku_all", ["mine", "npo-lora"], **other) == [
        "method_settings.npo-lora.train.learning_rate: 2e-05, but experiments.rwku_all runs npo-lora as "
        "scripts/lora/run_npo_lora.sh does, with 5e-05; set that, or call the experiment other than rwku_..."
    ]
    assert of_experiment("my_rwku", ["npo-lora"], **other) == []


@pytest.mark.parametrize(
    ("name", "block", "what"),
    [
        ("simnpo", {}, "simnpo (full, targets at once: 1)"),
        ("rmu", {"lora": {"rank": 4}}, "rmu (lora, targets at once: 1)"),
        (
            "ga_star-batch",
            {"method": "ga", "texts": "passage", "train": {"learning_rate": 1e-6}},
            "ga_star (full, targets at once: batch)",
        ),
        ("npo-batch", {"lora": {"rank": 8}}, "npo (lora, targets at once: batch)"),
    ],
)
def test_what_was_not_published_is_no_row(name, block, what):
    (fault,) = of_experiment("rwku_more", [name], **{name: block})
    assert fault == (
        f"experiments.rwku_more.methods: {name} is {what}, which workflow/benchmarks/rwku/settings.csv lacks; take it "
        "out, or call the experiment other than rwku_..."
    )


def test_methods_of_the_config_and_rates_of_grids_count():
    experiment = {"rwku_own": {"targets": ["1_William_Shakespeare"], "shows": ["main"]}}
    rates = {"ga": {"train": {"learning_rate": [6e-8, 1e-7]}}}
    by = {"evaluation": {"protocol": "rwku"}, "published": {"benchmark": "demo"}}
    config = check(DEMO, methods=["ga"], method_settings=rates, experiments=experiment, **by)
    with pytest.raises(ConfigError) as fault:
        experiment_of("rwku_own", config)
    keys = [line.split(":")[0] for line in str(fault.value).splitlines()]
    of_ga = [f"method_settings.ga.{key}" for key in ("train.warmup_steps", "max_tokens", "train.learning_rate")]
    assert keys == of_ga  # the demo's own, and one rate of two
    experiment["rwku_own"]["methods"] = ["ga"]
    config = check(DEMO, methods=["icu"], method_settings=rates, experiments=experiment, **by)
    with pytest.raises(ConfigError, match=r"^experiments\.rwku_own\.methods: ga has a list of learning rates.*$"):
        experiment_of("rwku_own", config)


def test_published_tables_are_asked_as_rwku_asks():
    experiment = {"rwku_own": {"targets": ["1_William_Shakespeare"], "methods": ["icu"], "shows": ["published"]}}
    for protocol, said in (("rwku", None), ("strict", r"^experiments\.rwku_own: its published numbers are by .* rwku")):
        by = {"evaluation": {"protocol": protocol}, "published": {"benchmark": "demo"}}
        config = check(DEMO, methods=["icu"], experiments=experiment, **by)
        with pytest.raises(ConfigError, match=said) if said else nullcontext():
            experiment_of("rwku_own", config)


def test_the_table_here_is_the_one_that_was_handed_over():
    other = ROOT.parent / "shared/reference/rwku-settings.csv"
    if not other.exists():
        pytest.skip("no shared facts here")
    assert TABLE.read_text() == other.read_text()
