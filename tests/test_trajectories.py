"""Fifty steps of each method that trains, beside those that are kept in ``trajectories.json``.

They tell a loss, an optimiser or a schedule that has changed, which no number worked out by hand would. A change that
is meant, a new method or a new release of torch or transformers writes them anew:

    python tests/test_trajectories.py --write
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from atu.alignment.encoder import embed_target, load_encoder
from atu.alignment.hidden import HiddenStates, write_hidden_states
from atu.alignment.predictor import EmbeddingPredictor
from atu.alignment.windows import build_corpus
from atu.common.runtime import start
from atu.engine.examples import read_items, reference_log_probs
from atu.engine.models import load_llm
from atu.methods import Aligned, Trained, load
from atu.methods.atu import AlignmentData, AlignmentText
from atu.training.epochs import train_epochs
from conftest import ROOT, build_encoder, build_llm

FILE = Path(__file__).with_name("trajectories.json")
STEPS = 50
# Shares of the largest number of a series. Rounding of another processor grows over the steps: weights changed by 1e-7
# of themselves move most series by 5e-6, the gradient of ATU by 3e-5. What is retained is a difference of nearly equal
# numbers, and moves by as much.
TOLERANCE, OF_DIFFERENCES = 2e-4, 1e-3
TEXTS = [
    "Ada was born in Rome by the sea and wrote a song",
    "the queen wrote a song in Paris",
    "Who lived in Paris ? Ada the poet",
    "red blue green stone by the river",
]
OTHERS = ["Bo painted the red stone in Paris", "Cy lived by the river and wrote a play", "Di was a king by the sea"]
ROWS = {
    "positive": [{"text": text} for text in TEXTS],
    "pair": [{"prompt": "Who ?", "response": ["nobody", text]} for text in TEXTS],
    "reject": [{"instruction": text, "output": "I do not know"} for text in TEXTS],
}
SCHEDULE = {"schedule": "cosine", "warmup_steps": 5}
ADAMW = {"optimizer": "adamw", "learning_rate": 1e-3} | SCHEDULE
# Where some gradients are nearly nothing, AdamW makes steps of what is rounding alone: there it is plain descent.
SGD = {"optimizer": "sgd", "learning_rate": 0.002} | SCHEDULE
NOTHING = {"loss": "none", "weight": 1.0}
# By the name of a trajectory: the method, its options, the retain term beside it, the optimiser.
TRAINED = {
    "ga": ("ga", {}, NOTHING, SGD),
    "ga with descent": ("ga", {}, {"loss": "descent", "weight": 0.5}, SGD),
    "ga with kl": ("ga", {}, {"loss": "kl", "weight": 5.0}, SGD),
    "dpo": ("dpo", {"beta": 0.1}, NOTHING, ADAMW),
    "npo": ("npo", {"beta": 0.1}, NOTHING, ADAMW),
    "rmu": ("rmu", {"layer": 2, "coefficient": 5.0, "alpha": 1.0}, NOTHING, ADAMW),
    "rt": ("rt", {}, NOTHING, SGD),
    "simnpo": ("simnpo", {"beta": 0.2, "gamma": 0.5}, NOTHING, SGD),
    # small exponents: the tiny model gives its texts little probability
    "wga": ("wga", {"beta": 0.2}, NOTHING, SGD),
    "satimp": ("satimp", {"beta1": 0.2, "beta2": 1.0}, NOTHING, SGD),
    "undial": ("undial", {"strength": 10.0}, NOTHING, SGD),
    "ce_u": ("ce_u", {}, NOTHING, SGD),
    "altpo": ("altpo", {"beta": 0.1}, NOTHING, ADAMW),
}
ALIGNED = ("atu",)
NAMES = [*TRAINED, *ALIGNED]


def trained(folder: Path, accelerator: Accelerator, name: str) -> dict[str, list[float]]:
    """The steps of a method with a loss on examples."""
    method, options, retain, optimisation = TRAINED[name]
    llm, tokenizer = load_llm(folder / "llm")
    own = load(method, **options)
    texts = own.texts[0]
    items = read_items(texts, ROWS[texts], tokenizer, 64)
    reads = "reference" in own.reads
    steps = train_epochs(
        accelerator,
        llm,
        own,
        items,
        texts=texts,
        reference=reference_log_probs(llm, items, [[i] for i in range(len(items))]) if reads else None,
        retain_set=read_items("positive", [{"text": text} for text in OTHERS], tokenizer, 64),
        retain=retain,
        seed=0,
        after_epoch=lambda epoch: None,
        epochs=STEPS * 2 // len(TEXTS),
        batch_size=2,
        accumulate=1,
        title=name,
        **optimisation,
    )
    kept = ("loss", "grad_norm") if retain == NOTHING else ("loss", "retain_loss", "grad_norm")
    return series(steps, *kept)


def aligned(folder: Path, accelerator: Accelerator, name: str) -> dict[str, list[float]]:
    """The steps of a predictor, and of the model that is trained against it, with texts of others held."""
    llm, tokenizer = load_llm(folder / "llm")
    encoder = load_encoder(folder / "encoder", "cpu")
    corpus, others = (build_corpus(texts, tokenizer, encoder, k=2, max_tokens=64) for texts in (TEXTS, OTHERS))
    parts = []
    for part in (corpus, others):
        place = folder / f"states of {len(part)}"
        write_hidden_states(llm, part, 2, place)
        parts.append(AlignmentText(part, HiddenStates(place, part)))
    torch.manual_seed(0)
    predictor = EmbeddingPredictor(32, 16, width=16, layers=2, heads=2, dropout=0.0)
    method, common = load(name), {"batch_size": 2, "steps": STEPS, "seed": 0}
    first = method.align(accelerator, predictor, AlignmentData(parts), **common, **ADAMW)
    second = method.unlearn(
        accelerator,
        llm,
        predictor,
        [corpus],
        embed_target(encoder, ["Ada"])[None],
        layer=2,
        tau=-0.5,
        retain=AlignmentData(parts[1:]),
        retain_weight=0.5,
        **common,
        **SGD,
    )
    of_model = series(second, "loss", "grad_norm", "unlearn_loss", "retain_loss", "similarity")
    return {f"align {key}": values for key, values in series(first, "loss", "grad_norm").items()} | of_model


def series(steps: list[dict[str, float]], *keys: str) -> dict[str, list[float]]:
    return {key: [float(f"{step[key]:.7g}") for step in steps] for key in keys}


def trajectory(folder: Path, name: str) -> dict[str, list[float]]:
    """What was logged at each step, in float32 on one thread."""
    accelerator = start(0, 1, "cpu")
    return (trained if name in TRAINED else aligned)(folder, accelerator, name)


def differences(found: dict[str, list[float]], kept: dict[str, list[float]]) -> dict[str, float]:
    """By series, the largest difference as a share of the largest number."""
    assert found.keys() == kept.keys()
    pairs = {key: (np.array(found[key]), np.array(kept[key])) for key in kept}
    return {key: float(np.abs(ours - theirs).max() / np.abs(theirs).max()) for key, (ours, theirs) in pairs.items()}


@pytest.fixture(scope="module")
def models(tiny, tmp_path_factory) -> Path:
    """A folder with the tiny models, and room beside them."""
    folder = tmp_path_factory.mktemp("trajectories")
    for name in ("llm", "encoder"):
        (folder / name).symlink_to(tiny / name)
    return folder


def test_every_method_that_trains_has_one():
    names = [path.stem for path in (ROOT / "workflow/atu/methods").glob("*.py") if path.stem != "__init__"]
    trains = {name for name in names if isinstance(load(name), Trained | Aligned)}
    assert trains == {method for method, *_ in TRAINED.values()} | set(ALIGNED)
    assert list(json.loads(FILE.read_text())) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_those_that_are_kept(models, name):
    kept = json.loads(FILE.read_text())[name]
    assert all(len(values) == STEPS for values in kept.values())
    found, allowed = differences(trajectory(models, name), kept), {"retain_loss": OF_DIFFERENCES}
    far = {key: share for key, share in found.items() if share > allowed.get(key, TOLERANCE)}
    assert not far, f"{name} is another than the one kept: {far}; if that is meant, write them anew ({__doc__})"


def test_a_loss_one_percent_larger_is_seen(models, monkeypatch):
    from atu.methods.npo import NPO

    loss = NPO.loss
    monkeypatch.setattr(NPO, "loss", lambda self, llm, batch: 1.01 * loss(self, llm, batch))
    found = differences(trajectory(models, "npo"), json.loads(FILE.read_text())["npo"])
    assert min(found.values()) > 10 * TOLERANCE


def write() -> None:
    """Make all trajectories anew; one series a line, so that a change is read in the diff."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        build_llm(folder / "llm")
        build_encoder(folder / "encoder")
        blocks = []
        for name in NAMES:
            lines = [f"  {json.dumps(key)}: {json.dumps(values)}" for key, values in trajectory(folder, name).items()]
            blocks.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
    FILE.write_text("{\n" + ",\n".join(blocks) + "\n}\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
