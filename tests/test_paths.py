"""Where files lie: what bears on a result is in its name, what does not is not, and foreign names are refused."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from atu.common.recipe import record
from atu.data.benchmark import UTILITY
from atu_pipeline.inputs import Inputs
from atu_pipeline.paths import PATTERNS, Paths, Stage, experiment_dir, names_in
from atu_pipeline.settings import ConfigError
from conftest import Workflow
from test_settings import merge

ADA = "1_Ada"
LONG = {"atu-long": {"method": "atu", "unlearn": {"tau": [0.0, -0.5, -0.8]}}}


@pytest.fixture
def paths(tiny, tmp_path, monkeypatch) -> Callable[..., Paths]:
    """The paths of the tiny config with some of it changed, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return Workflow(tiny, tmp_path).paths


def results(paths: Paths, method: str = "atu") -> dict[str, str]:
    """One path of each kind behind the second stage of a run, and its own."""
    run = ADA, method, "0"
    found = {kind: getattr(paths, kind)(ADA) for kind in ("probes", "texts", "before")}
    found["target_embedding"] = paths.target_embedding(ADA, "name")
    found |= {"llm": paths.llm, "encoder": paths.encoder, "shared": paths.before(UTILITY)}
    block = paths.config["method_settings"][method]
    if "layer" in block:
        found |= {
            "windows": paths.windows(ADA, block["k"], "positive"),
            "states": paths.states(ADA, block["k"], "positive", block["layer"]),
        }
        found |= {"alignment": paths.alignment(*run)}
    found |= {"stage": paths.stage(*run, 1), "between": paths.between(*run, 1)}
    return found | {"run": paths.run(*run), "after": paths.after(*run)}


STAGES = {"stage", "between", "run", "after"}
ALIGNED = {"states", "alignment"} | STAGES
ASKED = {"before", "shared", "between", "after"}
OF_TEXTS = {"texts", "windows"} | ALIGNED


@pytest.mark.parametrize(
    ("over", "changed"),
    [
        ({"method_settings": {"atu": {"unlearn": {"learning_rate": 5e-4}}}}, STAGES),
        ({"method_settings": {"atu": {"unlearn": {"steps": 4}}}}, STAGES),
        ({"method_settings": {"atu": {"unlearn": {"near_mentions": 2}}}}, STAGES),
        ({"method_settings": {"atu": {"described_by": ["name", "parts"]}}}, STAGES),
        ({"method_settings": {"atu": {"unlearn": {"tau": [0.0, -0.6]}}}}, {"run", "after"}),
        ({"method_settings": {"atu": {"align": {"steps_between": 4}}}}, STAGES),
        ({"method_settings": {"atu": {"align": {"steps": 7}}}}, ALIGNED - {"states"}),
        ({"method_settings": {"atu": {"predictor": {"width": 32}}}}, ALIGNED - {"states"}),
        ({"method_settings": {"atu": {"other_subjects": 1}}}, ALIGNED - {"states"}),
        ({"method_settings": {"atu": {"layer": 3}}}, ALIGNED),
        ({"method_settings": {"atu": {"k": 3}}}, {"windows"} | ALIGNED),
        ({"corpus": {"max_tokens": 48}}, {"windows"} | ALIGNED),
        ({"corpus": {"texts": 5}}, OF_TEXTS),
        ({"corpus": {"seed": 5}}, OF_TEXTS),
        ({"models": {"llm": {"template_options": {"a": True}}}}, OF_TEXTS | ASKED),
        ({"models": {"llm": {"template": "none"}}}, OF_TEXTS | ASKED),
        ({"evaluation": {"protocol": "rwku"}}, ASKED | {"run"}),
        ({"collapse": {"fluency_share": 0.4}}, {"run", "after"}),
        ({"split": {"seed": 1}}, {"probes"} | ASKED),
        ({"split": {"by": "target", "dev_share": 0.0}}, {"probes"} | ASKED),
        # what is asked between stages decides whether later ones are run
        ({"evaluation": {"max_new_tokens": 9}}, ASKED | {"run"}),
        ({"evaluation": {"between": ["forget_qa"]}}, {"between", "run", "after"}),
        ({"evaluation": {"before_and_after": ["forget_qa", "neighbor_qa"]}}, ASKED - {"between"}),
        ({"precision": "bf16"}, ALIGNED | ASKED),
        ({"evaluation": {"batch_invariant": True}}, ASKED | {"run"}),
    ],
)
def test_what_bears_on_a_result_is_in_its_name(paths, over, changed):
    """And in no other name: what a setting does not touch is found again under it."""
    before, after = results(paths()), results(paths(**over))
    assert {kind for kind in before if before[kind] != after[kind]} == changed


def test_whose_probes_are_dev_is_in_the_names_of_what_is_asked_of_them(paths):
    """Under a split by target; what all share is asked as before."""
    by_target = {"split": {"by": "target", "dev_share": 0.0}}
    before = results(paths(**by_target))
    others, own = (results(paths(**by_target, dev_targets=[name])) for name in ("2_Bo", ADA))
    assert others == before
    assert {kind for kind in before if before[kind] != own[kind]} == {"probes", "before", "between", "after"}


@pytest.mark.parametrize(
    "over",
    [
        {"threads": 2},
        {"deterministic": False},
        {"memory": {"gradient_checkpointing": True}},
        {"evaluation": {"batch_tokens": 300}},
        {"corpus": {"batch_tokens": 300}},
        {"dev_targets": ["2_Bo"]},
        {"targets": ["2_Bo"]},
        {"seeds": [1, 2]},
        {"methods": ["atu", "icu"]},
        {"bootstrap": {"seed": 5}},
        {"hardware": {"margin": 2}},
        {"models": {"llm": {"parameters": 2e5, "activation_bytes": 1e6, "cache_bytes": 1e4}}},
        {"models": {"other": {"source": "path", "path": "elsewhere"}}},
        {"method_settings": {"ga": {"train": {"learning_rate": 1e-3}}}},
        {"model_cards": {"llm": {"license": "mit"}}},
    ],
)
def test_what_bears_on_none_is_in_no_name(paths, over):
    assert results(paths()) == results(paths(**over))


@pytest.mark.parametrize(
    ("over", "changed"),
    [
        ({"train": {"learning_rate": 5e-4}}, STAGES),
        ({"retain": {"loss": "kl"}}, STAGES),
        ({"texts": "passage"}, STAGES),
        ({"layers": "0-1"}, STAGES),
        ({"layers": "none"}, set()),
        ({"lora": {"modules": ["k_proj"]}}, STAGES),
        ({"lora": {"merge": False}}, {"run", "after"}),  # the epochs are the same
    ],
)
def test_settings_of_a_trained_method(paths, over, changed):
    own = {"ga": {"train": {"epochs": 2}, "lora": {"rank": 2}}}
    before = results(paths(method_settings=own), "ga")
    after = results(paths(method_settings=merge(copy.deepcopy(own), {"ga": over})), "ga")
    assert {kind for kind in before if before[kind] != after[kind]} == changed


def test_a_changed_file_of_the_benchmark_is_in_the_names_of_its_subject_alone(paths, tiny, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(tiny / "benchmark", folder)
    over = {"benchmarks": {"tiny": {"path": str(folder)}}}
    first = results(paths(**over)), paths(**over).before("2_Bo")
    file = folder / "Target/2_Bo/forget_level1.json"
    file.write_text(json.dumps(json.loads(file.read_text())[:3]))
    assert results(paths(**over)) == first[0]
    assert paths(**over).before("2_Bo") != first[1]


def test_variants_and_rates_share_an_alignment(paths):
    """Those that differ in `unlearn` alone; of another layer it is another."""
    blocks = {
        "atu": {"unlearn": {"learning_rate": [1e-3, 1e-2]}},
        "atu-slow": {"method": "atu", "unlearn": {"learning_rate": 1e-4, "steps": 9}},
        "atu-deep": {"method": "atu", "layer": 3, "unlearn": {"learning_rate": 1e-3}},
    }
    found = paths(methods=["atu", "atu-slow", "atu-deep"], method_settings=blocks)
    methods = found.config["methods"]
    assert methods == ["atu@0.001", "atu@0.01", "atu-slow", "atu-deep"]
    alignments = [found.alignment(ADA, method, "0") for method in methods]
    assert alignments[0] == alignments[1] == alignments[2] != alignments[3]
    assert len({found.run(ADA, method, "0") for method in methods}) == 4
    assert Path(alignments[0]).name.startswith("atu-")  # the method's file: whatever a variant is called


def test_a_variant_of_the_same_settings_is_the_same_run(paths):
    found = paths(method_settings={"atu-again": {"method": "atu"}})
    assert found.run(ADA, "atu", "0") == found.run(ADA, "atu-again", "0")


def test_a_longer_schedule_shares_the_stages_of_a_shorter_one(paths):
    """What comes before the shorter one's last stage is one folder; a repeated tau is another stage."""
    blocks = {"atu": {"unlearn": {"tau": [0.2, 0.0]}}}
    blocks |= {"atu-long": {"method": "atu", "unlearn": {"tau": [0.2, 0.0, 0.0]}}}
    found = paths(method_settings=blocks)
    short, long = (ADA, "atu", "0"), (ADA, "atu-long", "0")
    assert found.stage(*short, 1) == found.stage(*long, 1)
    assert found.between(*short, 1) == found.between(*long, 1)
    assert len({found.run(*short), found.run(*long), found.stage(*long, 1), found.stage(*long, 2)}) == 4
    other = paths(method_settings=blocks | {"atu-long": {"method": "atu", "unlearn": {"tau": [0.3, 0.0, 0.0]}}})
    assert other.stage(*long, 1) != found.stage(*short, 1)


def goes_on(found: Paths) -> dict:
    """What the third stage of the long schedule reads, and the losses of the second."""
    inputs, third = Inputs(found), Stage(ADA, "atu-long", "0", 3)
    return {
        "llm": inputs.previous_checkpoint(third),
        "predictor": inputs.previous_predictor(third),
        "asked": inputs.checkpoint(third._replace(number=2)),
        "steps": list(found.steps(ADA, "atu-long", "0", 2)),
    }


def test_a_longer_run_goes_on_from_what_a_shorter_one_keeps(paths):
    """Planned beside it, or kept on disk; a predictor is aligned on it then. Else it makes the stage itself."""
    found = paths(method_settings=LONG)
    run, stage = found.run(ADA, "atu", "0"), found.stage(ADA, "atu-long", "0", 2)
    own = {
        "llm": f"{stage}/llm",
        "predictor": f"{stage}/predictor",
        "asked": f"{stage}/llm",
        "steps": [f"{stage}/steps.csv"],
    }
    assert found.shorter_run(ADA, "atu-long", "0", 2) is None
    assert goes_on(found) == own

    def from_kept(found: Paths) -> None:
        assert found.shorter_run(ADA, "atu-long", "0", 2) == run
        assert found.shorter_run(ADA, "atu-long", "0", 1) is None
        realigned = found.realignment(ADA, "atu-long", "0", 2)
        assert goes_on(found) == {
            "llm": f"{run}/weights",
            "predictor": f"{realigned}/predictor",
            "asked": f"{run}/weights",
            "steps": [f"{run}/steps.csv", f"{realigned}/steps.csv"],
        }

    planned = paths(method_settings=LONG)
    planned.plan_run(ADA, "atu", "0")
    from_kept(planned)
    Path(run, "weights").mkdir(parents=True)
    from_kept(paths(method_settings=LONG))
    # of another tau there is none, and a stage that was made is not made again of what is kept
    other = {"atu-long": {"method": "atu", "unlearn": {"tau": [0.0, -0.6, -0.8]}}}
    assert paths(method_settings=other).shorter_run(ADA, "atu-long", "0", 2) is None
    Path(stage).mkdir(parents=True)
    Path(stage, "steps.csv").touch()
    assert goes_on(paths(method_settings=LONG)) == own


def test_a_stage_is_judged_by_answers_that_are_there(paths):
    """Other questions are asked of the base model: until they are answered, its earlier answers are judged by."""

    def guard(**evaluation) -> list[str]:
        inputs, stage = Inputs(paths(evaluation=evaluation)), Stage(ADA, "atu", "0", 2)
        return inputs.guard(stage) + inputs.normal(stage)

    found = paths()
    between, own, shared = found.between(ADA, "atu", "0", 1), found.before(ADA), found.before(UTILITY)
    assert guard() == [between, own, shared]
    Path(own).parent.mkdir(parents=True)
    Path(own).write_text("answers")
    record(own, found.recipes.before(ADA))
    few = ["forget_qa", "neighbor_qa"]
    other = paths(evaluation={"before_and_after": few})
    assert guard(before_and_after=few) == [between, str(Path(own).resolve()), other.before(UTILITY)]
    assert names_in(guard(before_and_after=few)[1]) is None  # which no rule makes again
    limited = {"before_and_after": few, "max_new_tokens": 4}
    assert guard(**limited)[1] == paths(evaluation=limited).before(ADA)  # asked otherwise
    Path(other.before(ADA)).write_text("answers")
    assert guard(before_and_after=few)[1] == other.before(ADA)
    record(other.before(ADA), other.recipes.before(ADA))
    Path(own).unlink()
    assert guard()[1] == str(Path(other.before(ADA)).resolve())
    more = ["forget_qa", "forget_fb"]  # one that was not asked then
    assert guard(between=more)[1] == own


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_job_started_by_itself_finds_its_settings(paths, epochs):
    """All that it knows are the names in the path of what it makes."""
    blocks = LONG | {"ga": {"train": {"epochs": epochs}}}
    known = paths(method_settings=blocks)
    for method in ("atu", "atu-long", "ga", "icu"):
        run = ADA, method, "0"
        numbers = range(1, known.recipes.last(method)) if method != "ga" else [1]
        folders = [(known.run(*run), known.recipes.last(method))]
        folders += [(known.stage(*run, number), number) for number in numbers if method != "icu"]
        folders += [(known.alignment(*run), 0), (known.realignment(*run, 1), 1)] if method.startswith("atu") else []
        for path, number in folders:
            kind, names = names_in(path)
            stage = paths(method_settings=blocks).means(kind, names)
            assert (stage.target, stage.seed, stage.number) == (ADA, "0", number)
            assert stage.method == method or number < 3  # which both schedules go through


def test_a_shorter_run_is_gone_on_from_where_no_method_makes_it(paths):
    """A schedule that was lengthened in place: the job that would make what was kept has the shorter one's settings."""
    short = paths()
    run, recipe = short.run(ADA, "atu", "0"), short.recipes.kept(ADA, "atu", "0")
    over = {"method_settings": {"atu": {"unlearn": {"tau": [0.0, -0.5, -0.8]}}}}
    Path(run, "weights").mkdir(parents=True)
    _, names = names_in(run)
    for long in (paths(**over), paths(**over)):
        stage = long.means("run", names)
        assert stage == Stage(ADA, "atu", "0", 2)
        assert long.recipes.kept(*stage) == recipe
        assert long.shorter_run(*stage) == run
        assert Inputs(long).tau(stage) == -0.5
        for path in (f"{run}/model", short.after(ADA, "atu", "0")):
            with pytest.raises(ConfigError, match=r"other settings than those in force, which make results/.*/atu-"):
                long.check(path)
    both = paths(method_settings=LONG)
    both.shorter_run(ADA, "atu-long", "0", 2)
    assert both.means("run", names) == Stage(ADA, "atu", "0", 2)  # where one does, it is that one's


def test_foreign_paths_are_refused_in_one_line(paths):
    found = paths(method_settings=LONG)
    run_of = ADA, "atu", "0"
    mine = [*results(found).values(), found.realignment(*run_of, 1), "results/tables/main.csv", "before", "all"]
    for path in mine:
        found.check(path)  # what the settings in force make
    for path in results(paths(precision="bf16", split={"seed": 1}, corpus={"seed": 5})).values():
        if path in mine:
            continue
        with pytest.raises(ConfigError, match="other settings than those in force") as refused:
            found.check(path)
        assert "\n" not in str(refused.value)
    run, stage = found.run(*run_of), found.stage(*run_of, 1)
    for path, said in (
        (f"{run}/evaluations/{ADA}-00000000.parquet", "other settings than those in force, which make .*/evaluations/"),
        (f"{stage}/evaluations/1-{ADA}-00000000.parquet", "other settings than those in force, which make .*/1-1_Ada-"),
        (f"{run}/evaluations/2_Bo-00000000.parquet", "unknown '2_Bo' .known: 1_Ada"),
        (found.between(*run_of, 1).replace("/1-", "/3-"), "no answers after stage 3; the last that is asked here is 1"),
        (run[:-8] + "00000000/model", "atu-00000000 of 1_Ada was made by other settings than those in force; restore"),
        (run.replace("/atu-", "/nope-"), "unknown 'nope'"),
        (run.replace(ADA, "9_Nobody"), "unknown '9_Nobody'"),
        (found.texts(ADA).replace(ADA, "1_Adda"), "unknown '1_Adda'; did you mean 1_Ada"),
        (run.replace("results/llm", "results/encoder"), "llm is llm; ask with --config llm=encoder"),
        (run.replace("results/llm", "results/gpt"), "unknown 'gpt'"),
        (found.probes(ADA).replace("tiny", "rwku"), "benchmark is tiny; ask with --config benchmark=rwku"),
        (found.encoder.replace("encoder", "bert"), "unknown 'bert'"),
        (found.llm[:-8] + "00000000", "other settings than those in force, which make resources/models/llm-"),
    ):
        with pytest.raises(ConfigError, match=said) as refused:
            found.check(path)
        assert "\n" not in str(refused.value)


NAMES = {
    "llm": "llm",
    "model": "llm",
    "benchmark": "tiny",
    "encoder": "encoder",
    "subject": "4_Beyoncé",
    "target": '12_It\'s_"a" name-0123abcd',
    "method": "my-method",
    "text_set": "positive_phi",
    "kind": "pair",
    "digest": "0123abcd",
    "asked": "89abcdef",
    "seed": "20261125",
    "stage": "12",
    "layer": "15",
    "k": "8",
    "max_tokens": "512",
    "attack": "relearn-target",
    "corpora": "positive+answers",
    "described": "name+intro",
}


@pytest.mark.parametrize("kind", PATTERNS)
def test_the_names_in_a_path_are_those_it_was_made_of(kind):
    path = PATTERNS[kind].format(**NAMES)
    found, names = names_in(path)
    assert found == kind
    assert names == {name: NAMES[name] for name in names}
    assert PATTERNS[kind].format(**names) == path
    assert names_in(f"{path}/inside/model.safetensors") == (kind, names)
    assert names_in(path.replace("0123abcd", "0123abc")) is None
    assert names_in(f"elsewhere/{path}") is None


def test_experiments_by_their_files():
    for path, folder in (
        ("results/tables/main.csv", "results"),
        ("results/answers/1_Ada.html", "results"),
        ("results/index.html", "results"),
        ("results/experiments/mia/index.html", "results/experiments/mia"),
        ("results/experiments/mia/figures/tradeoff.pdf", "results/experiments/mia"),
        ("results/llm/tiny/before/1_Ada-0123abcd.parquet", None),
        ("results/llm/tables/before/1_Ada-0123abcd.parquet", None),
        ("results/checks/llm.json", None),
        ("elsewhere/tables/main.csv", None),
    ):
        assert experiment_dir(path) == folder
