"""Compare a whole run of Align-then-Unlearn in miniature, by the released code and by this workflow.

    PYTHONPATH=workflow python benchmarks/run.py [--texts 32] [--align 30] [--between 6] [--unlearn 6] [--tokens 256]

The paper's schedule of ten thresholds with one step for each 167 of the paper's (500 of the first alignment's), and
eleven evaluations on probes about the target, its neighbours and of reasoning. Both ways train in the same loop, on the
same batches, from the same weights, so that their models must end alike. The released way embeds the windows of a batch
and runs the whole LLM in each step of an alignment; it pads all texts to the most tokens, runs the layers above the
hook and the head in each step of unlearning, and goes back through the model where the loss is zero; it asks by plain
Hugging Face calls.
"""

import argparse
import copy
import json
import random
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from tabulate import tabulate
from torch.nn.functional import pad as fill

from atu.alignment.encoder import load_encoder
from atu.alignment.hidden import HiddenStates, write_hidden_states
from atu.alignment.predictor import EmbeddingPredictor
from atu.alignment.windows import WindowedCorpus, build_corpus, token_ends, window_starts
from atu.data.benchmark import build_probes, read_primers
from atu.engine.batching import random_batches
from atu.engine.engine import Engine
from atu.evaluation.evaluate import evaluate
from atu.methods.atu import (
    AlignmentData,
    AlignmentText,
    align,
    align_loss,
    drawn,
    realign,
    unlearn,
    unlearn_loss,
)
from atu.training.loop import train
from evaluation import ask_plainly
from fetched import ROOT, fetched

TAUS = (0.9, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.4, 0.3, 0.2)
K, LAYER, TARGET = 8, 27, "3_Leonardo_da_Vinci"
SETS = ["forget_fb", "forget_qa", "neighbor_fb", "neighbor_qa", "utility_rea"]
ALIGN = {"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 16}
UNLEARN = {"optimizer": "sgd", "learning_rate": 3e-4}


def distinct_windows(texts: list[str], tokenizer, encoder_tokenizer, max_tokens: int) -> torch.Tensor:
    """The encoder's tokens of the windows of a corpus, in the order of its embeddings, [U, K]."""
    found = []
    for text in texts:
        _, ends = token_ends(tokenizer, text, truncation=True, max_length=max_tokens)
        ids, encoder_ends = token_ends(encoder_tokenizer, text, add_special_tokens=False)
        first = window_starts(ends, encoder_ends, K)
        found.append(np.array(ids)[first[first >= 0][:, None] + np.arange(K)])
    return torch.from_numpy(np.unique(np.concatenate(found), axis=0))


class Times(dict):
    """Seconds by what was done."""

    @contextmanager
    def of(self, name: str):
        began = time.perf_counter()
        yield
        self[name] = self.get(name, 0.0) + time.perf_counter() - began


class Ours:
    """A run by this workflow."""

    def __init__(self, engine: Engine, corpus: WindowedCorpus, options: argparse.Namespace, scratch: Path):
        self.engine, self.llm, self.corpus, self.options = engine, engine.llm, corpus, options
        self.accelerator, self.scratch = Accelerator(cpu=True), scratch

    def first(self, predictor: EmbeddingPredictor) -> None:
        write_hidden_states(self.llm, self.corpus, LAYER, self.scratch / "first")
        data = AlignmentData([AlignmentText(self.corpus, HiddenStates(self.scratch / "first", self.corpus))])
        align(self.accelerator, predictor, data, steps=self.options.align, seed=0, **ALIGN)

    def between(self, predictor: EmbeddingPredictor, stage: int) -> None:
        how = {"layer": LAYER, "precision": "fp32", "scratch": self.scratch / str(stage), "steps": 0, "seed": stage}
        realign(
            self.accelerator, self.llm, predictor, [self.corpus], steps_between=self.options.between, **how, **ALIGN
        )

    def unlearn(self, predictor: EmbeddingPredictor, target: torch.Tensor, tau: float, stage: int) -> list[dict]:
        how = {"layer": LAYER, "tau": tau, "batch_size": 16, "steps": self.options.unlearn, "seed": stage}
        return unlearn(self.accelerator, self.llm, predictor, [self.corpus], target[None], **how, **UNLEARN)

    def ask(self, probes: pd.DataFrame, primers: dict) -> dict[str, list[str]]:
        found = evaluate(self.engine, probes, SETS, primers)
        return {name: found[found["set"] == name]["prediction"].tolist() for name in SETS}


class Released(Ours):
    """A run by the released code."""

    def __init__(self, encoder, rows: torch.Tensor, **parts):
        super().__init__(**parts)
        self.encoder, self.rows = encoder, rows  # the encoder's tokens of each window of the corpus

    def states(self, batch: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states and mask, with all texts padded to the most tokens."""
        texts = [self.corpus.input_ids[self.corpus.text(i)].long() for i in batch]
        ids = torch.stack([fill(text, (0, self.options.tokens - len(text))) for text in texts])
        mask = torch.stack([torch.arange(self.options.tokens) < len(text) for text in texts])
        found = self.llm(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
        return found.hidden_states[LAYER], mask

    def windows(self, batch: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of the windows of a batch, all of them at once, and which positions have one."""
        numbers = torch.full((len(batch), self.options.tokens), -1)
        for row, i in zip(numbers, batch, strict=True):
            of_text = self.corpus.windows[self.corpus.text(i)].long()
            row[: len(of_text)] = of_text
        ids = self.rows[numbers.clamp(min=0)].flatten(0, 1)
        with torch.no_grad():
            features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            embedded = self.encoder(features)["sentence_embedding"]
        return embedded.view(*numbers.shape, -1), numbers >= 0

    def align(self, predictor: EmbeddingPredictor, steps: int, seed: int) -> None:
        predictor.train()
        how = {key: value for key, value in ALIGN.items() if key != "batch_size"}

        def loss(batch: list[int]) -> dict:
            with torch.no_grad():
                states, _ = self.states(batch)
            return {"loss": align_loss(predictor(states), *self.windows(batch))}

        batches = random_batches(self.corpus.lengths, ALIGN["batch_size"], steps, seed)
        train(self.accelerator, predictor.parameters(), batches, loss, steps=steps, **how)
        predictor.eval()

    def first(self, predictor: EmbeddingPredictor) -> None:
        self.align(predictor, self.options.align, 0)

    def between(self, predictor: EmbeddingPredictor, stage: int) -> None:
        self.align(predictor, self.options.between, stage)

    def unlearn(self, predictor: EmbeddingPredictor, target: torch.Tensor, tau: float, stage: int) -> list[dict]:
        predictor.eval().requires_grad_(False)
        self.llm.requires_grad_(True).train()
        steps, seeds = self.options.unlearn, torch.Generator().manual_seed(stage)
        seed, _ = torch.randint(2**31, (2,), generator=seeds).tolist()

        def loss(batch: tuple[int, list[int]]) -> dict:
            states, mask = self.states(batch[1])
            return {"loss": unlearn_loss(predictor(states), target, tau, mask)}

        batches = drawn([self.corpus.lengths], 16, steps, seed)
        log = train(self.accelerator, self.llm.parameters(), batches, loss, steps=steps, **UNLEARN)
        predictor.requires_grad_(True)
        self.llm.eval()
        return log

    def ask(self, probes: pd.DataFrame, primers: dict) -> dict[str, list[str]]:
        asked = {name: probes[probes["set"] == name].to_dict("records") for name in SETS}
        return {name: ask_plainly(self.llm, self.engine.tokenizer, name, rows, primers) for name, rows in asked.items()}


def run(way: Ours, predictor: EmbeddingPredictor, target: torch.Tensor, probes: pd.DataFrame) -> tuple[Times, int]:
    """Seconds by what a run does, and how many of its unlearning steps had a loss of zero."""
    times, zero = Times(), 0
    primers = read_primers(ROOT / "workflow/benchmarks/demo/Utility/primers.json")
    with times.of("evaluations"):
        way.ask(probes, primers)
    with times.of("first alignment"):
        way.first(predictor)
    for stage, tau in enumerate(TAUS, start=1):
        with times.of("unlearning"):
            log = way.unlearn(predictor, target, tau, stage)
        zero += sum(row["loss"] == 0 for row in log)
        if stage < len(TAUS):
            with times.of("later alignments"):
                way.between(predictor, stage)
        with times.of("evaluations"):
            way.ask(probes, primers)
    return times, zero


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"texts": 32, "align": 30, "between": 6, "unlearn": 6, "tokens": 256, "threads": 2}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    engine = Engine.load(fetched("smollm2-135m-instruct"), batch_tokens=16384)
    encoder = load_encoder(fetched("all-minilm-l6-v2"), "cpu")
    passages = [
        row["text"]
        for path in sorted((ROOT / "workflow/benchmarks/demo/Target").glob("*/passage.json"))
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]
    rng = random.Random(0)
    texts = [" ".join(rng.sample(passages, rng.randint(2, 6))) for _ in range(options.texts)]
    corpus = build_corpus(texts, engine.tokenizer, encoder, K, options.tokens)
    windows = distinct_windows(texts, engine.tokenizer, encoder.tokenizer, options.tokens)
    parts = [build_probes(ROOT / "workflow/benchmarks/demo", target, 0.0, 0)[0] for target in (TARGET, None)]
    probes = pd.concat([part[part["set"].isin(SETS)] for part in parts], ignore_index=True)
    target = encoder.encode(["Leonardo da Vinci"], convert_to_tensor=True)[0].float()
    sizes = {"width": 384, "layers": 6, "heads": 8, "normalize_input": True}
    predictor = EmbeddingPredictor(engine.llm.config.hidden_size, len(target), **sizes)
    ends, rows = [], []
    start = {name: value.clone() for name, value in engine.llm.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        shared = {"engine": engine, "corpus": corpus, "options": options, "scratch": Path(folder)}
        for way in (Released(encoder, windows, **shared), Ours(**shared)):
            torch.manual_seed(0)
            engine.llm.load_state_dict(start)
            own = copy.deepcopy(predictor)
            times, zero = run(way, own, target, probes)
            rows.append(times)
            ends.append({name: value.clone() for name, value in engine.llm.state_dict().items()})
            print(
                type(way).__name__, {key: round(value, 1) for key, value in times.items()}, f"{zero} steps of no loss"
            )
    moved = sum((ends[1][name] - start[name]).square().sum() for name in start).sqrt()
    apart = sum((ends[1][name] - ends[0][name]).square().sum() for name in start).sqrt()
    table = [(name, rows[0][name], rows[1][name], rows[0][name] / rows[1][name]) for name in rows[0]]
    whole = [sum(times.values()) for times in rows]
    table.append(("the whole run", *whole, whole[0] / whole[1]))
    print(tabulate(table, headers=["seconds", "released way", "here", "ratio"], floatfmt=".1f"))
    print(f"the models have moved by {moved:.4f} and are {apart:.2g} apart")


if __name__ == "__main__":
    main()
