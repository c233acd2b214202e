"""Several people: forgotten at once, or one after another, by one model."""

import json
from collections import Counter
from contextlib import nullcontext

import pandas as pd
import pytest
import torch
from accelerate import Accelerator

from atu.common.recipe import RecipeError, check, record
from atu.engine.batching import random_batches
from atu.methods.atu import drawn, unlearn
from atu.reporting.tables import main_table
from atu_pipeline.demands import demand
from atu_pipeline.inputs import Inputs
from atu_pipeline.paths import Stage, names_in
from atu_pipeline.people import Groups, People
from atu_pipeline.settings import ConfigError, experiment_of
from conftest import Workflow

ADA, BO, CY, BEYONCE = "1_Ada", "2_Bo", "3_Cy", "4_Beyoncé"
NPO = {"npo": {"max_tokens": 48, "train": {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 0}}}
SHORT = {"atu": {"other_subjects": 1, "unlearn": {"tau": [0.0, -0.5]}}}
BATCH = {"targets": [ADA, BO, CY], "methods": ["npo", "atu"], "at_once": [1, 2, 3], "shows": ["main"]}
SEQUENCE = {"targets": [BO, ADA], "methods": ["npo", "atu"], "in_sequence": True, "shows": ["main"]}


@pytest.fixture
def inputs(tiny, tmp_path, monkeypatch):
    """What jobs read under the tiny config with two experiments of several people."""
    monkeypatch.chdir(tmp_path)
    experiments = {"batch": BATCH, "sequence": SEQUENCE}
    return Inputs(Workflow(tiny, tmp_path).paths(method_settings=NPO | SHORT, experiments=experiments))


def test_groups_by_hand():
    groups = Groups({"experiments": {}})
    two, same, other = groups.batch([BO, ADA]), groups.batch([ADA, BO]), groups.batch([ADA, CY])
    assert two == same != other
    assert two.startswith("batch2-")
    assert groups.of(two) == People((ADA, BO), None, (ADA, BO))
    assert groups.batch([ADA]) == ADA
    assert groups.of(ADA) == People((ADA,), None, (ADA,))
    first, second, third = groups.sequence([BO, ADA, CY])
    assert first == BO
    assert groups.of(second) == People((ADA,), BO, (BO, ADA))
    assert groups.of(third) == People((CY,), second, (BO, ADA, CY))
    assert groups.sequence([ADA, BO, CY])[2] != third  # the order counts
    with pytest.raises(ConfigError, match="batch9-00000000: no experiment of this config forgets these"):
        groups.of("batch9-00000000")


def test_a_name_in_a_path_is_found_again(inputs):
    """A job that is started by itself knows nothing but its path."""
    name = Groups(inputs.config).batch([ADA, BO])
    path = inputs.paths.run(name, "npo", "0")
    fresh = Inputs(type(inputs.paths)(type(inputs.recipes)(inputs.config)))
    kind, names = names_in(path)
    assert fresh.paths.means(kind, names) == Stage(name, "npo", "0", 1)
    answers = fresh.paths.after(name, "npo", "0", BO)
    kind, names = names_in(answers)
    assert (kind, names["target"], names["subject"]) == ("after", name, BO)
    assert fresh.paths.means(kind, names) == Stage(name, "npo", "0", 1)
    with pytest.raises(ConfigError, match="unknown '3_Cy'"):
        fresh.paths.check(answers.replace(BO, CY))


def test_what_a_batch_reads(inputs):
    name = inputs.recipes.groups.of_experiment(experiment_of("batch", inputs.config))[1]
    stage = Stage(name, "atu", "0", 2)
    (other,) = inputs.retain_set(stage)
    assert other in (CY, BEYONCE)
    assert inputs.windows(stage) == [inputs.paths.windows(subject, 2, "positive") for subject in (ADA, BO, other)]
    assert inputs.target_embeddings(stage) == [inputs.paths.target_embedding(subject, "name") for subject in (ADA, BO)]
    assert inputs.own_texts(Stage(name, "npo", "0", 1)) == [inputs.paths.texts(subject) for subject in (ADA, BO)]
    assert inputs.own_states(stage) == inputs.retained_states(stage) == []
    assert len(inputs.guard(stage)) == 2
    assert len(inputs.normal(stage)) == 3  # and the sets that all share
    assert inputs.recipes.kept(name, "npo", "0") != inputs.recipes.kept(ADA, "npo", "0")
    inputs.config["method_settings"]["atu"]["unlearn"]["elsewhere_weight"] = 1.0
    assert inputs.own_states(stage) == [inputs.paths.states(subject, 2, "positive", 2) for subject in (ADA, BO)]


def test_a_sequence_goes_on_from_what_was_kept(inputs):
    first, second = inputs.recipes.groups.of_experiment(experiment_of("sequence", inputs.config))
    assert first == BO  # the run that every experiment shares
    kept = f"{inputs.paths.run(BO, 'atu', '0')}/weights"
    assert inputs.start(Stage(BO, "atu", "0", 1)) == inputs.paths.llm
    assert inputs.start(Stage(second, "atu", "0", 1)) == kept
    assert inputs.previous_checkpoint(Stage(second, "atu", "0", 1)) == kept
    states = inputs.states(Stage(second, "atu", "0", 0))
    assert all("/starts/atu-" in path for path in states)
    assert [path.rpartition("/")[2] for path in states] == [ADA, *inputs.retain_set(Stage(second, "atu", "0", 0))]
    assert BO not in inputs.retain_set(Stage(second, "atu", "0", 0))
    (reference,) = inputs.reference(Stage(second, "npo", "0", 1))
    assert reference.endswith(f"/reference/{ADA}.safetensors")
    kind, names = names_in(reference)
    assert inputs.paths.means(kind, names) == Stage(second, "npo", "0", 0)
    # what the first forgets is in the name of what the second keeps
    longer = inputs.recipes.kept(second, "npo", "0")
    assert longer["start"] == inputs.recipes.kept(BO, "npo", "0")


def test_a_record_of_the_model_at_the_start_is_accepted(tmp_path):
    made, longer = {"settings": {"rate": 1}, "target": BO}, {"settings": {"rate": 1}, "target": "sequence2"}
    (tmp_path / "weights").write_text("w")
    record(tmp_path / "weights", made)
    check(tmp_path / "weights", longer | {"start": made})
    check(tmp_path / "weights", {"start": longer | {"start": made}})
    with pytest.raises(RecipeError, match="target"):
        check(tmp_path / "weights", longer)
    with pytest.raises(RecipeError, match="target"):
        check(tmp_path / "weights", longer | {"start": made | {"target": CY}})


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"at_once": [2, 5]}, r"experiments.batch.at_once: 5, and it has 3 targets; name more, or a lower number"),
        ({"at_once": [2], "in_sequence": True}, r"experiments.batch.in_sequence: people are forgotten at once"),
        ({"at_once": None, "in_sequence": True, "methods": ["icu"]}, r"in_sequence: icu changes no model"),
        ({"at_once": None, "in_sequence": True, "methods": ["apart"]}, r"method_settings.apart.lora.merge: false, and"),
        ({"shows": ["main", "matched"]}, r"shows: matched compares methods on the same people"),
        ({"methods": ["brief"]}, r"method_settings.brief.unlearn.steps: 2, and experiments.batch forgets 3 people"),
        ({"methods": ["external-x"]}, r"external-x is one model, whoever is asked about"),
        ({"methods": ["grid"]}, r"grid has a list of values, which is for single people"),
        ({"methods": ["wide"]}, r"other_subjects: 2, and beside the 3 whom experiments.batch forgets .* has 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tiny, tmp_path, monkeypatch, over, said):
    monkeypatch.chdir(tmp_path)
    blocks = NPO | SHORT
    blocks["apart"] = {"method": "npo", "lora": {"rank": 2, "merge": False}}
    blocks["grid"] = {"method": "npo", "train": {"learning_rate": [1e-3, 1e-4]}}
    blocks["brief"] = {"method": "atu", "unlearn": {"steps": 2}}
    blocks["external-x"] = {"method": "external", "model": "encoder", "forgot": ["Ada"]}
    blocks["wide"] = {"method": "atu", "other_subjects": 2}
    experiment = {key: value for key, value in (BATCH | over).items() if value is not None}
    paths = Workflow(tiny, tmp_path).paths(method_settings=blocks, experiments={"batch": experiment})
    with pytest.raises(ConfigError, match=said):
        experiment_of("batch", paths.config)


@pytest.mark.parametrize(
    ("over", "dev", "refused"),
    [
        ({"at_once": [2, 3]}, [ADA, BO], True),
        ({"at_once": [2, 3]}, [ADA], False),
        ({"at_once": [2, 3]}, [ADA, BO, CY], False),  # no others: tables show them
        ({"at_once": None, "in_sequence": True}, [ADA], True),
        ({"at_once": None, "in_sequence": True}, [BO], False),
    ],
)
def test_people_whom_tables_leave_out_are_no_group(tiny, tmp_path, monkeypatch, over, dev, refused):
    monkeypatch.chdir(tmp_path)
    experiment = {key: value for key, value in (BATCH | over).items() if value is not None}
    given = {"method_settings": NPO | SHORT, "experiments": {"mine": experiment}, "dev_targets": dev}
    paths = Workflow(tiny, tmp_path).paths(**given)
    with pytest.raises(ConfigError, match="are dev targets alone") if refused else nullcontext():
        experiment_of("mine", paths.config)


def test_a_batch_draws_a_person():
    """Each batch is of one person's texts; of a single person it is what it was."""
    lengths = [[5] * 6, [5] * 4, [5] * 2]
    alone = [batch for _, batch in drawn(lengths[:1], 2, 5, seed=3)]
    assert alone == list(random_batches(lengths[0], 2, 5, 3))
    batches = list(drawn(lengths, 2, 300, seed=3))
    assert batches == list(drawn(lengths, 2, 300, seed=3))
    counts = Counter(person for person, _ in batches)
    assert len(batches) == 300
    assert counts == {0: 100, 1: 100, 2: 100}
    assert all({person for person, _ in batches[i : i + 3]} == {0, 1, 2} for i in range(0, 300, 3))
    assert all(max(texts) < len(lengths[person]) for person, texts in batches)


def test_each_person_is_pushed_from_its_own_name(monkeypatch):
    """Of two people, each batch's loss reads the embedding of that person."""
    read = []

    def loss(predicted, target, tau, mask):
        read.append(target.tolist())
        return predicted.sum() * 0

    monkeypatch.setattr("atu.methods.atu.unlearn_loss", loss)
    monkeypatch.setattr("atu.methods.atu.hidden_states", lambda decoder, ids, mask: ids[..., None].float())
    monkeypatch.setattr("atu.methods.atu.train", lambda a, p, batches, terms, **_: [terms(b) for b in batches])
    decoder = torch.nn.Linear(1, 1)
    monkeypatch.setattr("atu.methods.atu.layers_up_to", lambda llm, layer: nullcontext(decoder))
    corpora = [Corpus(1), Corpus(2)]
    targets = torch.tensor([[1.0], [2.0]])
    settings = {"layer": 1, "tau": 0.0, "batch_size": 1, "steps": 20, "seed": 0}
    unlearn(Accelerator(cpu=True), decoder, torch.nn.Identity(), corpora, targets, **settings)
    assert {value for (value,) in read} == {1.0, 2.0}
    seed = torch.randint(2**31, (2,), generator=torch.Generator().manual_seed(0)).tolist()[0]
    people = [person for person, _ in drawn([[2, 2]] * 2, 1, 20, seed)]
    assert [value for (value,) in read[::2]] == [person + 1.0 for person in people]  # the loss, then the similarity


class Corpus:
    """Two texts of two tokens, all of them one number."""

    lengths = (2, 2)

    def __init__(self, token):
        self.input_ids = torch.full((4,), token)

    def text(self, i):
        return slice(2 * i, 2 * i + 2)


def test_rows_of_several_people_say_over_how_many_they_are():
    keys = ["target", "method", "stage", "tau", "split", "metric", "value", "n", "seed"]
    rows = [
        (ADA, "ga@batch1", 0, None, "test", "forget_qa", 80.0, 1, 0),
        (ADA, "ga@batch1", 1, None, "test", "forget_qa", 40.0, 1, 0),
        (ADA, "ga@batch2", 0, None, "test", "forget_qa", 80.0, 1, 0),
        (BO, "ga@batch2", 0, None, "test", "forget_qa", 60.0, 1, 0),
        (ADA, "ga@batch2", 1, None, "test", "forget_qa", 50.0, 1, 0),
        (BO, "ga@batch2", 1, None, "test", "forget_qa", 30.0, 1, 0),
        (ADA, "npo@batch2", 0, None, "test", "forget_qa", 80.0, 1, 0),
        (BO, "npo@batch2", 0, None, "test", "forget_qa", 60.0, 1, 0),
        (ADA, "npo@batch2", 1, None, "test", "forget_qa", 10.0, 1, 0),
        (BO, "npo@batch2", 1, None, "test", "forget_qa", 10.0, 1, 0),
    ]
    table = main_table(pd.DataFrame(rows, columns=keys), [])
    shown = list(zip(table["Method"], table["Targets"], table["Forget QA ↓"], strict=True))
    assert shown == [
        ("Before", 1, 80.0),
        ("GA@batch1", 1, 40.0),
        ("Before", 2, 70.0),
        ("GA@batch2", 2, 40.0),
        ("NPO@batch2", 2, 10.0),
    ]


def test_what_is_planned(tiny, tmp_path):
    """One run a batch, two runs a sequence; each person of whom the model is asked is asked by itself."""
    copy = Workflow(tiny, tmp_path)
    config = json.loads(copy.config.read_text())
    config["method_settings"] |= NPO
    config["method_settings"]["atu"] |= {"other_subjects": 1}
    config["experiments"] = {"batch": BATCH | {"at_once": [2]}, "sequence": SEQUENCE}
    copy.config.write_text(json.dumps(config))
    jobs = copy.planned("batch")
    assert {
        name: jobs[name] for name in ("train", "unlearn", "unlearn_last", "evaluate_after", "evaluate_between")
    } == {
        "train": 1,
        "unlearn": 1,
        "unlearn_last": 1,
        "evaluate_after": 4,
        "evaluate_between": 2,
    }
    jobs = copy.planned("sequence")
    assert {name: jobs[name] for name in ("train", "align", "start_states", "start_reference", "evaluate_after")} == {
        "train": 2,
        "align": 2,
        "start_states": 2,
        "start_reference": 1,
        "evaluate_after": 6,
    }


def test_what_jobs_ask_for_grows_with_the_people(inputs):
    """Of two people there are twice as many texts to train on, and one subject more to align on."""
    alone, both = (demand("train", inputs.config, "npo", people=people) for people in (1, 2))
    assert both.flop == 2 * alone.flop
    assert both.device == alone.device
    alone, both = (demand("align", inputs.config, "atu", people=people) for people in (1, 2))
    assert both.host == pytest.approx(alone.host * 3 / 2)  # one other subject, and one or two people
    config = inputs.config | {"corpus": inputs.config["corpus"] | {"texts": 10**6}}  # a job of more than seconds
    large = Inputs(type(inputs.paths)(type(inputs.recipes)(config)))
    name = large.recipes.groups.batch([ADA, BO])
    times = [large.request("train", Stage(people, "npo", "0", 1), None, 1)["expected_s"] for people in (ADA, name)]
    assert 1.9 < times[1] / times[0] < 2.1
