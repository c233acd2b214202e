"""One training in two processes over gloo gives the numbers of one process: losses of every step and saved weights.

The processes are started from a script of its own (this file), since pytest has threads and is not to be forked.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from atu.common.declared import declared
from atu.common.errors import ExplainedError
from atu.common.files import atomic_path
from atu.common.runtime import SEVERAL, start
from atu.data.probe_sets import PROBE_SETS
from atu.engine.models import load_to_train, save_llm
from atu.engine.sharded import own_part
from atu.engine.shared import SharedEngine, parts
from atu.methods import Trained, load
from atu.training.shares import Share
from conftest import ROOT
from test_trajectories import NOTHING, OTHERS, ROWS, SGD, TEXTS, TRAINED

EPOCHS, BATCH = 4, 3  # of four texts: batches of three, which two processes share as two and one, and of one
# At 0.2 one process's part of a batch has a loss of zero and the other's has not, at 0.9 all have.
TAUS = {"atu": -0.1, "atu with an adapter": 0.2, "atu at its end": 0.9}
LORA = {"rank": 2, "alpha": 4, "modules": "auto"}
NO_LORA = {"rank": 0, "alpha": 1, "modules": "auto"}
# By name: the method's trajectory (atu for the stage), the model, LoRA, checkpointing, layers, texts a batch.
CASES = {name: (name, "llm", NO_LORA, False, None, BATCH) for name in TRAINED} | {
    "ga of a tied embedding": ("ga with descent", "tied", NO_LORA, False, None, BATCH),
    "npo with an adapter": ("npo", "llm", LORA, True, None, BATCH),
    "rt of one layer, one text a batch": ("rt", "llm", NO_LORA, True, range(1, 2), 1),
    "atu": ("atu", "llm", NO_LORA, True, None, BATCH),
    "atu with an adapter": ("atu", "llm", LORA, False, None, BATCH),
    "atu at its end": ("atu", "llm", NO_LORA, False, None, BATCH),
}
TOLERANCE = 1e-4
ASKED = ["forget_qa", "mia_fm", "utility_gen"]  # answers, likelihoods, letters


def trained(accelerator, llm, kept, tokenizer, name, layers, batch_size, folder):
    """Steps of a method; the model of every epoch is left in a folder."""
    from atu.common.memory import Memory
    from atu.engine.examples import read_items
    from atu.training.epochs import train_epochs

    method, options, retain, optimisation = TRAINED[name]
    own = load(method, **options)
    items = read_items(own.texts[0], ROWS[own.texts[0]], tokenizer, 64)
    # of the likelihoods only that they are read at the right places counts here
    reference = -torch.arange(1.0, 1 + len(items) * len(items[0])).view(len(items), -1)
    steps = train_epochs(
        accelerator,
        llm,
        own,
        items,
        texts=own.texts[0],
        reference=reference if "reference" in own.reads else None,
        retain_set=read_items("positive", [{"text": text} for text in OTHERS], tokenizer, 64),
        retain=retain,
        seed=0,
        after_epoch=lambda epoch: save_llm(kept, tokenizer, folder / str(epoch)),
        epochs=EPOCHS,
        batch_size=batch_size,
        accumulate=2 if retain != NOTHING else 1,
        title=name,
        layers=layers,
        memory=Memory(),
        **optimisation,
    )
    models = [llm, *(value for value in vars(own).values() if isinstance(value, torch.nn.Module))]
    held, of = ([count(weight) for model in models for weight in model.parameters()] for count in (own_size, size))
    (folder / f"held {accelerator.process_index}").write_text(f"{sum(held)} {sum(of)} {len(models)}")
    return steps


def size(weight):
    return weight.numel()


def own_size(weight):
    return own_part(weight).numel()


def aligned(accelerator, llm, kept, tokenizer, batch_size, folder):
    """A stage of ATU: the model is trained against a random predictor, and this one on the model."""
    from atu.alignment.hidden import HiddenStates, write_hidden_states
    from atu.alignment.predictor import EmbeddingPredictor
    from atu.alignment.windows import WindowedCorpus
    from atu.engine.half import restore
    from atu.engine.models import load_llm
    from atu.methods.atu import AlignmentData, AlignmentText

    corpora = []
    for texts in (TEXTS, OTHERS):
        ids = [tokenizer(text)["input_ids"] for text in texts]
        bounds = torch.tensor([0, *map(len, ids)]).cumsum(0)
        tokens = torch.tensor([token for text in ids for token in text], dtype=torch.int32)
        torch.manual_seed(len(tokens))
        windows = torch.arange(len(tokens), dtype=torch.int32)
        corpora.append(WindowedCorpus(tokens, bounds, windows, torch.randn(len(tokens), 16)))
    original, _ = load_llm(folder.parents[1] / "models/llm")
    states = folder / f"states {accelerator.process_index}"
    write_hidden_states(original, corpora[1], 2, states)
    torch.manual_seed(0)
    predictor = EmbeddingPredictor(32, 16, width=16, layers=1, heads=2, dropout=0.1)
    common, method = {"batch_size": batch_size, "seed": 0}, load("atu")
    steps = method.unlearn(
        accelerator,
        llm,
        predictor,
        corpora[:1],
        torch.ones(1, 16),
        layer=2,
        tau=TAUS[folder.name],
        steps=8,
        retain=AlignmentData([AlignmentText(corpora[1], HiddenStates(states, corpora[1]))]),
        retain_weight=0.5 if folder.name == "atu" else 0.0,
        **common,
        **SGD,
    )
    again = {"scratch": folder / f"scratch {accelerator.process_index}", "steps_between": 4, "steps": 4, "layer": 2}
    steps += method.realign(accelerator, llm, predictor, corpora, precision="fp32", **again, **common, **SGD)
    restore(llm)
    save_llm(kept.merge_and_unload() if kept is not llm else llm, tokenizer, folder / "last")
    if accelerator.is_main_process:
        predictor.save(folder / "predictor")
    return steps


def relearned(accelerator, models: Path, lora: dict, folder: Path) -> None:
    """Relearning: its steps, and what the model answers before and behind them."""
    from atu.attacks import Asked
    from atu.attacks import load as load_attack
    from atu.data.benchmark import build_probes
    from atu.engine.engine import Engine
    from atu.evaluation.evaluate import evaluate

    probes, _ = build_probes(models / "benchmark", "1_Ada", 0.0, 0)
    answers = []

    def ask(step, now):
        found = evaluate(now.engine, now.probes, ASKED, {}, 4, probability=True)
        answers.extend([step, row.id, row.prediction, row.score] for row in found.itertuples())

    steps = load_attack("relearn")(
        Asked(Engine.load(models / "llm", 2048, "cpu", torch.float32, None, None), probes),
        ask,
        accelerator=accelerator,
        texts=[{"text": text} for text in TEXTS],
        at=[0, 3],
        steps=3,
        batch_size=BATCH,
        max_tokens=32,
        learning_rate=0.01,
        optimizer="sgd",
        clip_norm=1.0,
        lora=lora,
        seed=0,
    )
    with atomic_path(folder / f"relearn {lora['rank']}.json") as part:
        part.write_text(json.dumps({"steps": steps, "answers": answers}))


def asked(models: Path, folder: Path) -> None:
    """All probes of a person and how unlikely the model finds its own answers, by an engine that processes share."""
    import pandas as pd

    from atu.data.benchmark import build_probes
    from atu.data.protocol import STRICT
    from atu.evaluation.evaluate import evaluate
    from atu.evaluation.surprise import add_surprises

    people = [build_probes(models / "benchmark", name, 0.0, 0)[0] for name in ("1_Ada", None)]
    probes = pd.concat(people, ignore_index=True)
    sets = [name for name in PROBE_SETS if name in set(probes["set"])]
    engine = SharedEngine.load(models / "llm", 2048, "cpu", torch.float32)
    primers = dict.fromkeys(("truthfulqa", "triviaqa"), "Q: Who?\nA: Ada.\n\n")
    found = evaluate(engine, probes, sets, primers, 6, probability=True)
    found = add_surprises(found, engine, STRICT, own=True)
    with atomic_path(folder / "asked.json") as part:
        part.write_text(found.to_json(orient="records"))


def all_cases(folder: Path) -> None:
    """Every case, one after the other; its steps beside what it leaves."""
    from atu.common.memory import Memory

    accelerator = start(0, 1, "cpu")
    for name, (method, model, lora, recomputed, layers, batch_size) in CASES.items():
        memory = Memory(gradient_checkpointing=recomputed)
        llm, kept, tokenizer = load_to_train(folder.parent / "models" / model, "cpu", memory, lora, layers)
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        if method == "atu":
            steps = aligned(accelerator, llm, kept, tokenizer, batch_size, place)
        else:
            steps = trained(accelerator, llm, kept, tokenizer, method, layers, batch_size, place)
        with atomic_path(place / "steps.json") as part:
            part.write_text(json.dumps(steps))
    for lora in (NO_LORA, LORA):
        relearned(accelerator, folder.parent / "models", lora, folder)
    asked(folder.parent / "models", folder)


def fails(folder: Path) -> None:
    """The second process finds something wrong while the first waits for it."""
    accelerator = start(0, 1, "cpu")
    with atomic_path(folder / "output") as part:
        part.write_text(str(accelerator.process_index))
    if accelerator.process_index:
        raise ExplainedError("the second process has no texts: bring some")
    accelerator.wait_for_everyone()


def killed() -> None:
    """The second process is killed while the first works."""
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(300)


def main(folder: Path) -> None:
    from atu.training import several
    from conftest import build_benchmark, build_llm

    build_benchmark(folder / "models/benchmark")
    build_llm(folder / "models/llm")
    build_llm(folder / "models/tied", tie_word_embeddings=True)
    files = [*(f"{name}/steps.json" for name in CASES), "relearn 0.json", "relearn 2.json", "asked.json"]
    outputs = [str(folder / "two" / name) for name in files]
    several.run(2, all_cases, folder / "two", outputs=outputs)
    for function, args in ((fails, (folder,)), (killed, ())):
        try:
            several.run(2, function, *args, outputs=[str(folder / "output")])
        except ExplainedError as error:
            (folder / f"{function.__name__} said").write_text(str(error))
    several.run(1, all_cases, folder / "one")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """What one process and what two have left of all cases."""
    folder = tmp_path_factory.mktemp("several")
    paths = os.pathsep.join([str(ROOT / "workflow"), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, __file__, folder], env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def kept_in(place: Path) -> list[Path]:
    """The weights that a case has left, and not the hidden states that its processes have read."""
    found = (path.relative_to(place) for path in place.rglob("*.safetensors"))
    return sorted(path for path in found if path.parts[0].isdigit() or path.parts[0] in ("last", "predictor"))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_find_the_numbers_of_one(runs, name):
    one, two = (runs / number / name for number in ("one", "two"))
    log, found = (json.loads((place / "steps.json").read_text()) for place in (one, two))
    assert len(log) == len(found) >= 4
    for row, other in zip(log, found, strict=True):
        assert other == pytest.approx(row, rel=TOLERANCE, abs=TOLERANCE)
    files = kept_in(one)
    assert files == kept_in(two)
    for path in files:
        weights, others = load_file(one / path), load_file(two / path)
        assert weights.keys() == others.keys()
        for key, values in weights.items():
            assert values.dtype == others[key].dtype == torch.float32
            assert torch.allclose(values, others[key], atol=TOLERANCE, rtol=0), (path, key)
    first, last = (load_file(two / path) for path in (files[0], files[-1]))
    if name not in TAUS:  # which keep one model
        assert any(not torch.equal(values, last[key]) for key, values in first.items())


@pytest.mark.parametrize("rank", [0, 2])
def test_two_processes_relearn_and_ask_what_one_does(runs, rank):
    log, found = (json.loads((runs / number / f"relearn {rank}.json").read_text()) for number in ("one", "two"))
    for row, other in zip(log["steps"], found["steps"], strict=True):
        assert other == pytest.approx(row, rel=TOLERANCE, abs=TOLERANCE)
    for row, other in zip(log["answers"], found["answers"], strict=True):
        assert other[:3] == row[:3]
        assert other[3] == pytest.approx(row[3], abs=TOLERANCE)
    assert {step for step, *_ in found["answers"]} == {0, 3}


def test_two_processes_that_share_probes_answer_as_one(runs):
    one, two = (json.loads((runs / number / "asked.json").read_text()) for number in ("one", "two"))
    assert len(one) == len(two) > 20
    ways = set()
    for row, other in zip(one, two, strict=True):
        same = ("set", "id", "prompt", "prediction")
        assert [other[key] for key in same] == [row[key] for key in same]
        assert other["score"] == pytest.approx(row["score"], abs=TOLERANCE)
        details, others = json.loads(row["details"]), json.loads(other["details"])
        assert others.keys() == details.keys()
        for key, value in details.items():
            number = isinstance(value, float)
            assert others[key] == (pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE) if number else value)
        ways.add(PROBE_SETS[row["set"]].ask)
    assert ways == {"generate", "next_token", "choices", "text"}


def test_parts_by_hand():
    """Eight tokens in groups of five and three: each process takes whole groups where it can."""
    assert parts([2, 1, 1, 3, 1], ["a", "b", "b", "a", "b"], 2) == [[0, 3], [1, 2, 4]]
    assert parts([1, 1, 1, 1], None, 2) == [[0, 1], [2, 3]]
    assert parts([9, 1, 1], None, 2) == [[0], [1, 2]]
    assert parts([4], None, 3) == [[], [0], []]
    assert parts([], None, 2) == [[], []]


def test_what_is_drawn_is_not_shared(monkeypatch):
    monkeypatch.setattr("atu.engine.shared.ranks", lambda: 2)
    with pytest.raises(ValueError, match="texts that are drawn are not shared"):
        SharedEngine(None, None, None).generate(["a"], sampling=object(), max_new_tokens=1)


@pytest.mark.parametrize(("name", "models"), [("ga", 1), ("undial", 2), ("rmu", 2)])
def test_each_process_holds_its_half_of_every_model(runs, name, models):
    halves = [(runs / "two" / name / f"held {rank}").read_text().split() for rank in (0, 1)]
    assert {int(number) for *_, number in halves} == {models}
    assert sum(int(held) for held, *_ in halves) == int(halves[0][1])
    assert int(halves[0][0]) == int(halves[1][0])


def test_a_process_that_fails_ends_all_with_its_own_words(runs):
    assert (runs / "fails said").read_text() == "the second process has no texts: bring some"
    assert (runs / "output").read_text() == "0"


def test_a_process_that_is_killed_ends_all(runs):
    said = (runs / "killed said").read_text()
    assert said.startswith("one of 2 processes ended without a word (process 1 terminated with signal SIGKILL)")


def test_fewer_gpus_than_processes(monkeypatch):
    """As a process sees it that the launcher has started on a node of one GPU."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv(SEVERAL, "1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ExplainedError, match="this job is one of 4 GPUs, and sees 1: lower gpus_per_job"):
        start(0, 1)


def test_shares_by_hand():
    """Three items of 2, 3 and 5 tokens, whose means are 1, 2 and 4: the whole mean is (2 + 6 + 20) / 10."""
    shares, counts = [Share(rank, 2) for rank in (0, 1)], [2, 3, 5]
    assert [share.part(["a", "b", "c"]) for share in shares] == [["a", "c"], ["b"]]
    means = [(2 * 1 + 5 * 4) / 7, 2.0]
    parts = [share.weighed(torch.tensor(mean), counts).item() for share, mean in zip(shares, means, strict=True)]
    assert sum(parts) == pytest.approx(2.8)
    assert [share.part(["a"]) for share in shares] == [["a"], ["a"]]
    assert [share.weight([4]) for share in shares] == [1, 0]
    assert [share.weighed(torch.tensor(3.0), None).item() for share in shares] == [1.5, 1.5]


def test_a_mean_counts_beside_its_own_loss_alone():
    class Items(Trained):
        mean_over = "items"

        def loss(self, llm, batch):
            return batch

    class Other(Items):
        def loss(self, llm, batch):
            return batch.sum()

    assert (Items().counted_over(), Other().counted_over(), Trained().counted_over()) == ("items", "", "")
    assert {name: load(name, **options).counted_over() for name, options, *_ in TRAINED.values()} == {
        **dict.fromkeys(("ga", "rt", "wga", "satimp", "ce_u", "undial"), "tokens"),
        **dict.fromkeys(("npo", "simnpo", "dpo", "altpo"), "items"),
        "rmu": "",
    }
    assert all(declared(ROOT, name).mean_over == load(name, **own).counted_over() for name, own, *_ in TRAINED.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
