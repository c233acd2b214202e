"""Grids over any settings of a method: the variants that they become, and what is refused."""

import shutil

import pytest

from atu.common.names import display_name, written_out
from atu.data.benchmark import UTILITY
from atu_pipeline.lineage import conditions, given_config
from atu_pipeline.recipes import Recipes
from atu_pipeline.settings import ConfigError, experiment_of, model_needs, share_of, unlike, unmet_needs
from atu_pipeline.settings.draws import at_place
from test_settings import DEMO, PAPER, check, refused


def with_grid(name, grid, **over):
    return {"methods": [name], "method_settings": {name: {"grid": grid} | over}}


def test_all_combinations_are_run():
    grid = {"options.beta": ["0.1", 0.2], "train.learning_rate": [1e-5, "1e-4"]}
    config = check(DEMO, **with_grid("npo", grid))
    assert config["methods"] == [
        "npo@beta=0.1+learning_rate=1e-05",
        "npo@beta=0.1+learning_rate=0.0001",
        "npo@beta=0.2+learning_rate=1e-05",
        "npo@beta=0.2+learning_rate=0.0001",
    ]
    first = config["grids"]["npo"]["npo@beta=0.1+learning_rate=1e-05"]
    assert first == {"learning_rate": 1e-5, "settings": {"options.beta": 0.1, "train.learning_rate": 1e-5}}
    assert written_out(first["settings"]) == "options.beta: 0.1, train.learning_rate: 1e-05"
    block, plain = config["method_settings"][config["methods"][2]], check(DEMO)["method_settings"]["npo"]
    assert block == plain | {"options": {"beta": 0.2}, "train": plain["train"] | {"learning_rate": 1e-5}}
    assert display_name(config["methods"][0]) == "NPO@beta=0.1+learning_rate=1e-05"
    assert conditions(f"method={config['methods'][0]},stage=1") == {"method": config["methods"][0], "stage": "1"}
    assert given_config(config)["methods"] == ["npo"]


def test_a_list_of_rates_is_one_key_of_the_grid():
    beside = check(DEMO, **with_grid("npo", {"options.beta": [0.1, 0.2]}, train={"learning_rate": [1e-5]}))
    assert beside["methods"] == ["npo@beta=0.1+learning_rate=1e-05", "npo@beta=0.2+learning_rate=1e-05"]


def test_a_variant_has_the_digest_of_a_block_that_says_the_same():
    """So that what one of them has made is there for the other."""
    own = {"npo-weak": {"method": "npo", "options": {"beta": 0.05}}}
    grid = {"method_settings": {"npo": {"grid": {"options.beta": [0.05]}}}}
    made = [
        Recipes(check(DEMO, methods=[name], **over)).stage("3_Leonardo_da_Vinci", method, "0", 1).digest
        for name, method, over in (("npo-weak", "npo-weak", {"method_settings": own}), ("npo", "npo@beta=0.05", grid))
    ]
    assert made[0] == made[1]


def test_each_variant_has_its_learning_rate_beside_its_settings():
    grids = {"npo": {"options.beta": [0.2]}, "icu": {"options.instruction": ["No {name}."]}}
    blocks = {name: {"grid": grid} for name, grid in grids.items()}
    (npo,), (icu,) = (made.values() for made in check(DEMO, methods=[*grids], method_settings=blocks)["grids"].values())
    assert npo == {"learning_rate": 1e-4, "settings": {"options.beta": 0.2}}
    assert icu == {"learning_rate": None, "settings": {"options.instruction": "No {name}."}}


@pytest.mark.parametrize(
    ("name", "grid", "called"),
    [
        ("atu", {"unlearn.steps": [20, 30]}, ["unlearn.steps=20", "unlearn.steps=30"]),  # align has steps too
        ("atu", {"unlearn.retain_weight": [0, 50.0]}, ["retain_weight=0", "retain_weight=50"]),
        ("atu", {"unlearn.tau": [[0.2, 0.0], [0.1, -0.2]]}, ["tau=0.2_0", "tau=0.1_-0.2"]),
        ("atu", {"align.learning_rate": [1e-3]}, ["align.learning_rate=0.001"]),
        ("atu", {"predictor.normalize_input": ["true", False]}, ["normalize_input=true", "normalize_input=false"]),
        ("atu", {"unlearn.learning_rate": [1e-3]}, ["0.001"]),
        ("repe", {"options.layers": [[13, 14], [15]]}, ["layers=13_14", "layers=15"]),
        ("npo", {"texts": ["positive", "passage"]}, ["texts=positive", "texts=passage"]),
        ("icu", {"options.instruction": ["No {name}.", "{name}?"]}, ["instruction=value1", "instruction=value2"]),
    ],
)
def test_names_of_variants(name, grid, called):
    config = check(DEMO, **with_grid(name, grid))
    assert config["methods"] == [f"{name}@{end}" for end in called]
    assert config["grids"][name].keys() == set(config["methods"])


WHERE = "method_settings.npo.grid."


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({}, "method_settings.npo.grid: is empty; name one at least"),
        (3, "method_settings.npo.grid: 3 is not a block of settings"),
        ({"options.beta": []}, WHERE + "options.beta: is empty; name one at least"),
        ({"options.beta": 0.1}, WHERE + "options.beta: 0.1 is neither a list of values nor a range"),
        ({"options.bta": [1]}, WHERE + "options.bta: unknown 'bta'; did you mean beta? (known: beta)"),
        ({"options.beta": ["a", 1]}, WHERE + "options.beta: 'a' is not a number"),
        ({"options.beta": [0.1, -1]}, WHERE + "options.beta: -1 is not above 0"),
        ({"options.beta": [0.1, "0.10"]}, WHERE + "options.beta: 0.1 and 0.1 would both be called npo@beta=0.1; take"),
        ({"trains.epochs": [1]}, WHERE + "trains.epochs: unknown 'trains'; did you mean train? (known: "),
        ({"train.epoch": [1]}, WHERE + "train.epoch: unknown 'epoch'; did you mean epochs? (known: "),
        ({"train.epochs": ["x"]}, WHERE + "train.epochs: 'x' is not a whole number"),
        ({"train.epochs": [1, 0]}, WHERE + "train.epochs: 0 is less than the minimum of 1"),
        ({"train.optimizer": ["sgdx"]}, WHERE + "train.optimizer: 'sgdx' is not one of sgd, adam, adamw"),
        (
            {"train": [{"epochs": 1}]},
            WHERE + "train: {'epochs': 1} is a block of settings; name each by it",
        ),
        ({"method": ["ga"]}, WHERE + "method: is no setting to choose; write a block for each"),
        (
            {"train.learning_rate": [[1e-5]]},
            WHERE + "train.learning_rate: [1e-05] is not a number above 0; list al",
        ),
        ({"train.weight_decay": [0, 1e6]}, WHERE + "train.weight_decay: 1e+06 at a learning rate of 0.0001 takes each"),
        ({"texts": ["positive", "pair"]}, WHERE + "texts: pair is nothing that workflow/atu/methods/npo.py reads; ch"),
        ({"retain.loss": ["none", "kl"], "other_subjects": [0, 1]}, WHERE + "other_subjects: 0, but by method_setting"),
    ],
)
def test_faults_are_named_with_the_key_of_the_grid(grid, said):
    (line,) = refused(DEMO, **with_grid("npo", grid)).splitlines()
    assert line.startswith(said)


def test_a_fault_of_one_variant_says_of_which():
    over = with_grid("atu", {"unlearn.steps": [5, 30]}, unlearn={"warmup_steps": 10})
    assert refused(DEMO, **over) == (
        "method_settings.atu.unlearn.warmup_steps: 10, and unlearn.steps is 5: the learning rate would never be "
        "reached; set it below 5 (of its grid: unlearn.steps: 5)"
    )
    over = with_grid("atu", {"unlearn.steps": [5, 30]}, unlearn={"tau": [0.1, 0.2]})
    (line,) = refused(DEMO, **over).splitlines()  # what has nothing to do with the grid is said once, and as ever
    assert line.startswith("method_settings.atu.unlearn.tau: rises from 0.1 to 0.2")
    assert "grid" not in line


def test_one_setting_has_one_list():
    over = with_grid("npo", {"train.learning_rate": [1e-4]}, train={"learning_rate": [1e-5]})
    assert refused(DEMO, **over) == (
        f"{WHERE}train.learning_rate: train.learning_rate of the block is a list too; take one of them out"
    )


def test_what_a_variant_sets_itself_is_not_searched():
    blocks = {
        "npo": {"grid": {"options.beta": [0.1, 0.2]}},
        "npo-mine": {"method": "npo", "options": {"beta": 1}},
        "npo-other": {"method": "npo", "train": {"epochs": 1}},
    }
    config = check(DEMO, methods=["npo-mine", "npo-other"], method_settings=blocks)
    assert config["methods"] == ["npo-mine", "npo-other@beta=0.1", "npo-other@beta=0.2"]
    assert "grid" not in config["method_settings"]["npo-mine"]


def test_what_is_chosen_from_on_dev_probes_needs_some():
    over = with_grid("npo", {"options.beta": [0.1, 0.2]})
    assert refused(DEMO, **over, split={"dev_share": 0}) == (
        "method_settings.npo.grid: a list is chosen from on dev probes, and there are none; set split.dev_share above 0"
    )
    by_target = {"by": "target", "dev_share": 0}
    assert refused(DEMO, **over, split=by_target) == (
        "method_settings.npo.grid: a list is chosen from on dev probes, and none of 3_Leonardo_da_Vinci is a dev "
        "target, as split.by has it; run a target of dev_targets too"
    )
    assert check(DEMO, **over, split=by_target, targets=["1", "3"])["grids"]
    asked = {"before_and_after": ["forget_qa"], "between": []}
    assert refused(DEMO, **over, evaluation=asked).startswith(
        "method_settings.npo.grid: a list is chosen from by forget_qa and neighbor_qa; ask both in evaluation.before_"
    )


def test_an_experiment_runs_the_grids_of_the_config():
    blocks = {"npo": {"grid": {"options.beta": [0.1, 0.2]}}}
    mine = {"mine": {"targets": ["3_Leonardo_da_Vinci"], "methods": ["npo"], "shows": ["main", "selected"]}}
    config = check(DEMO, methods=["npo"], method_settings=blocks, experiments=mine)
    assert experiment_of("mine", config)["methods"] == ["npo@beta=0.1", "npo@beta=0.2"]
    lacking = check(DEMO, methods=["ga"], method_settings=blocks, experiments=mine)
    with pytest.raises(ConfigError, match=r"^experiments\.mine\.methods: npo has a list of settings; choose one first"):
        experiment_of("mine", lacking)


@pytest.mark.parametrize(
    ("over", "said"),
    [
        (
            {"split": {"dev_share": 0}},
            "experiments.mine.shows: selected is chosen on dev probes, and there are none; set split.dev_share above 0",
        ),
        (
            {"evaluation": {"between": ["forget_qa"]}},
            "experiments.mine.shows: selected is chosen by forget_qa and neighbor_qa; ask both in evaluation.between",
        ),
        (
            {"evaluation": {"between": ["forget_fb"], "before_and_after": ["forget_fb", "forget_qa"]}},
            "experiments.mine.shows: selected is chosen by forget_qa and neighbor_qa; ask both in evaluation.between\n"
            "experiments.mine.shows: selected is chosen by forget_qa and neighbor_qa; ask both in "
            "evaluation.before_and_after",
        ),
    ],
)
def test_a_stage_is_chosen_where_there_is_something_to_choose_by(over, said):
    """The config's own tables leave it out; an experiment that asks for it is refused."""
    mine = {"mine": {"targets": ["3_Leonardo_da_Vinci"], "shows": ["selected"]}}
    assert "selected" in experiment_of("", check(DEMO))["shows"]
    config = check(DEMO, experiments=mine, **over)
    assert "selected" not in experiment_of("", config)["shows"]
    with pytest.raises(ConfigError) as fault:
        experiment_of("mine", config)
    assert str(fault.value) == said


def test_a_place_in_a_range_or_a_list():
    """Halfway: by magnitude 1e-4, by number 5,000 rounded to two digits; of three values the second."""
    assert at_place({"low": 1e-6, "high": 1e-2}, 0.5) == 1e-4
    assert at_place({"low": 1e-6, "high": 1e-2, "log": False}, 0.5) == 0.005
    assert [at_place({"low": 2, "high": 9, "log": False}, place) for place in (0.0, 0.5, 0.99)] == [2, 6, 9]
    assert at_place({"low": 0.123, "high": 0.456, "log": False}, 0.0) == 0.123  # not 0.12, which is below it
    assert [at_place(["a", "b", "c"], place) for place in (0.0, 0.5, 1.0)] == ["a", "b", "c"]


def test_a_search_draws_as_many_settings_as_it_has_trials():
    grid = {"train.learning_rate": {"low": "1e-6", "high": 1e-3}, "train.epochs": [1, 2, 3]}

    def trials(count, name="npo"):
        over = with_grid(name, grid)
        return check(DEMO, **over, search={"trials": count})["grids"][name]

    found = trials(8)
    assert len(found) == 8
    rates = [one["learning_rate"] for one in found.values()]
    assert all(1e-6 <= rate <= 1e-3 and rate == float(f"{rate:.1e}") for rate in rates)
    assert sum(rate < 10**-4.5 for rate in rates) == 4  # half of them in the lower half, by magnitude
    assert {one["settings"]["train.epochs"] for one in found.values()} == {1, 2, 3}
    assert [*trials(4)] == [*found][:4]
    others = [one["settings"] for one in trials(8, "ga").values()]
    assert others == [one["settings"] for one in found.values()]  # the same points for every method


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"low": 1e-3, "high": 1e-6}, "0.001 to 1e-06 does not rise"),
        ({"low": 0, "high": 1e-3}, "0 to 0.001 does not lie above 0; set log: false"),
        ({"low": "a", "high": 1}, "'a' to 1 is no range of numbers"),
        (1e-3, "0.001 is neither a list of values nor a range of low and high"),
    ],
)
def test_a_range_that_is_none(values, said):
    key = "train.learning_rate"
    assert refused(DEMO, **with_grid("npo", {key: values})).endswith(f"grid.{key}: {said}")


def test_more_trials_than_there_are_settings():
    grid = {"train.epochs": {"low": 1, "high": 3}, "train.batch_size": [4, 8]}
    assert refused(DEMO, **with_grid("npo", grid), search={"trials": 8}) == (
        "method_settings.npo.grid: it has 6 settings that differ, and search.trials is 8; widen it, or set "
        "search.trials to 6"
    )


def test_a_split_by_target():
    config = check(DEMO, split={"by": "target", "dev_share": 0})
    subjects = ("1_William_Shakespeare", "3_Leonardo_da_Vinci", UTILITY)
    assert [share_of(config, subject) for subject in subjects] == [1, 0, 0]
    assert "selected" not in experiment_of("", config)["shows"]
    assert (
        "selected"
        in experiment_of("", check(DEMO, split={"by": "target", "dev_share": 0}, targets=["2", "3"]))["shows"]
    )
    assert refused(DEMO, split={"by": "target"}) == (
        "split.dev_share: 0.5, and nothing reads it where split.by is target; set it to 0"
    )


def test_an_experiment_with_a_grid_needs_dev_probes_of_its_own():
    over = with_grid("npo", {"options.beta": [0.1, 0.2]}) | {"split": {"by": "target", "dev_share": 0}}
    mine = {"mine": {"targets": ["3"], "shows": ["main"]}}
    config = check(DEMO, **over, targets=["1", "3"], experiments=mine)
    with pytest.raises(ConfigError) as fault:
        experiment_of("mine", config)
    assert str(fault.value) == (
        "experiments.mine.targets: settings of npo are chosen from on dev probes, and none of 3_Leonardo_da_Vinci "
        "is a dev target, as split.by has it; run a target of dev_targets too"
    )
    mine = {"mine": {"targets": ["1", "3"], "shows": ["main"]}}
    assert experiment_of("mine", check(DEMO, **over, targets=["1", "3"], experiments=mine))["targets"]


def test_a_dev_target_without_rows_to_choose_by(tiny, tmp_path):
    folder = shutil.copytree(tiny / "benchmark", tmp_path / "benchmark")
    own = {"benchmarks": {"own": {"source": "path", "path": str(folder), "shared_utility": True}}}
    own |= {"benchmark": "own", "targets": ["1_Ada", "2_Bo"], "dev_targets": ["2_Bo"]}
    over = with_grid("ga", {"train.epochs": [1, 2]}) | own | {"split": {"by": "target", "dev_share": 0}}
    assert check(DEMO, **over)["grids"]
    (folder / "Target/2_Bo/neighbor_level2.json").unlink()
    assert refused(DEMO, **over) == (
        "method_settings.ga.grid: a list is chosen from on dev probes, and no row of neighbor_level2.json of 2_Bo is "
        "one; give it rows, or name another dev target"
    )


def test_groups_that_lack_a_dev_target_choose_no_stage():
    split = {"by": "target", "dev_share": 0}
    mine = {"targets": ["3", "1", "4"], "methods": ["npo"], "in_sequence": True, "shows": ["selected"]}
    with pytest.raises(ConfigError, match=r"mine\.shows: selected is chosen on dev probes, which some of these"):
        experiment_of("mine", check(DEMO, split=split, experiments={"mine": mine}))


def test_a_share_that_leaves_no_dev_probe(tiny):
    """Four rows a set: round(0.1 x 4) = 0 are dev probes, round(0.2 x 4) = 1 is."""
    own = {"benchmarks": {"own": {"source": "path", "path": str(tiny / "benchmark"), "shared_utility": True}}}
    own |= {"benchmark": "own", "targets": ["1_Ada", "2_Bo"], "dev_targets": ["2_Bo"], "methods": ["ga"]}
    own["experiments"] = {"mine": {"targets": ["1_Ada"], "shows": ["selected"]}}
    few, enough = (check(DEMO, **own, split={"dev_share": share}) for share in (0.1, 0.2))
    assert ["selected" in experiment_of("", config)["shows"] for config in (few, enough)] == [False, True]
    assert experiment_of("mine", enough)["shows"] == ["selected"]
    with pytest.raises(ConfigError) as fault:
        experiment_of("mine", few)
    assert str(fault.value) == (
        "experiments.mine.shows: selected is chosen on dev probes, and no row of forget_level2.json of 1_Ada is one; "
        "set split.dev_share higher"
    )


def test_needs_of_a_model_are_those_of_every_variant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no model has been fetched, which the check would look at
    config = check(DEMO, **with_grid("atu", {"layer": [3, 40]}))
    known = {"layers": 30, "modules": None, "context": 2048, "offsets": True, "class": "Llama"}
    assert unmet_needs(model_needs(config, config["methods"]), known) == [
        "method_settings.atu.grid.layer: 40 is no layer of the model, which has layers 1 to 30"
    ]


def test_other_settings_than_the_rate_are_another_experiment_than_the_papers():
    config = check(PAPER, split={"dev_share": 0.5}, **with_grid("atu", {"layer": [3], "unlearn.learning_rate": [1e-3]}))
    rates = check(PAPER, split={"dev_share": 0.5}, **with_grid("atu", {"unlearn.learning_rate": [1e-3]}))
    for made, said in ((config, ["method_settings.atu.layer: 3, published 29"]), (rates, [])):
        (method,) = made["methods"]
        assert [line for line in unlike(method, made, [0.9]) if "learning_rate" not in line] == said
