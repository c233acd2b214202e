"""What each step takes on a GPU at the size of Phi-3-mini, with random weights: seconds, and memory beside the plan.

    PYTHONPATH=workflow python benchmarks/gpu.py [--device cuda] [--layers 32] [--width 3072] [--tokens 512] [--steps 4]

Nothing is downloaded. Before anything is timed the engines are compared with the model's plain forward pass, in
float32 and in bf16.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator
from tabulate import tabulate
from torch.nn.functional import normalize
from transformers import AutoModelForCausalLM, Phi3Config, PreTrainedModel

from atu import ROOT
from atu.alignment.hidden import HiddenStates, write_hidden_states
from atu.alignment.predictor import EmbeddingPredictor
from atu.alignment.windows import WindowedCorpus
from atu.engine.agreement import check_engine, differences
from atu.engine.engine import Engine
from atu.engine.examples import Example
from atu.methods import load
from atu.methods.atu import AlignmentData, AlignmentText, align, unlearn
from atu.training.epochs import train_epochs
from atu_pipeline.demands import demand
from atu_pipeline.settings import check_config

VOCABULARY, EMBEDDING = 32064, 768
TEXTS, WINDOWS = 16, 500  # of the corpus; distinct windows


def build_llm(layers: int, width: int, device: str) -> PreTrainedModel:
    """A model of Phi-3's class, of random float32 weights."""
    heads = max(1, width // 96)
    config = Phi3Config(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        pad_token_id=0,
    )
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config).eval()


def random_rows(count: int, length: int) -> list[list[int]]:
    """Token ids of ``count`` texts that are all but full."""
    return [torch.randint(5, VOCABULARY, (length - 1 - i % 8,)).tolist() for i in range(count)]


class Bench:
    """Steps, each with what was measured and what the plan says."""

    def __init__(self, device: str):
        self.device, self.rows = device, []

    def measure(self, name: str, step: Callable[[], object], planned: float, resident: float = 0.0) -> None:
        """Run a step once.

        Args:
            planned: bytes of the device that the plan expects.
            resident: bytes of the device that lie there and do not belong to the step.
        """
        on_gpu = self.device == "cuda"
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        step()
        if on_gpu:
            torch.cuda.synchronize()
        row = {"step": name, "seconds": time.perf_counter() - began}
        peak = (torch.cuda.max_memory_allocated() - resident) / 1e9 if on_gpu else None
        self.rows.append(row | {"peak GB": peak, "planned GB": planned / 1e9})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    for name, default in (("layers", 32), ("width", 3072), ("tokens", 512), ("steps", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.manual_seed(0)
    llm = build_llm(options.layers, options.width, options.device)
    size = sum(parameter.numel() for parameter in llm.parameters())
    paper = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    paper["models"][paper["llm"]]["parameters"] = float(size)
    paper["corpus"]["max_tokens"] = options.tokens
    paper["methods"] = ["atu", "ga", "rmu"]
    for block in paper["method_settings"].values():
        block |= {"max_tokens": options.tokens} if "max_tokens" in block else {}
    config = check_config(paper, ROOT)
    atu = config["method_settings"]["atu"]
    layer = min(atu["layer"], options.layers)
    bench, accelerator = Bench(options.device), Accelerator(cpu=options.device == "cpu", mixed_precision="bf16")

    print(f"{size / 1e9:.2f} billion weights; engines and plain forward pass, differences over the spread:")
    print("float32", differences(llm))
    half = copy.deepcopy(llm).to(torch.bfloat16)
    check_engine(half)
    print("bf16", differences(half))
    rows = random_rows(TEXTS, options.tokens)
    engine = Engine(half, None, config["evaluation"]["batch_tokens"])  # what it scores are tokens already
    bench.measure(
        "evaluate: log-probabilities",
        partial(engine.score_tokens, rows * 8, [1] * (8 * TEXTS)),
        demand("evaluate_after", config).device,
        resident=4 * size,
    )
    del engine, half

    ids, lengths = torch.tensor([token for row in rows for token in row], dtype=torch.int32), [len(row) for row in rows]
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    windows = torch.arange(len(ids)) % WINDOWS
    corpus = WindowedCorpus(ids, bounds, windows, normalize(torch.randn(WINDOWS, EMBEDDING), dim=-1))
    with tempfile.TemporaryDirectory() as folder:
        states = Path(folder, "states")

        def write_states() -> None:
            with accelerator.autocast():
                write_hidden_states(llm, corpus, layer, states, "bf16")

        bench.measure("hidden states", write_states, demand("hidden_states", config).device)
        data = AlignmentData([AlignmentText(corpus, HiddenStates(states, corpus))])
        predictor = EmbeddingPredictor(options.width, EMBEDDING, **atu["predictor"]).to(options.device)
        how = {key: value for key, value in atu["align"].items() if key not in ("steps", "steps_between")}
        bench.measure(
            "align",
            lambda: align(accelerator, predictor, data, steps=options.steps, seed=0, **how),
            demand("align", config, "atu").device,
            resident=4 * size,
        )
        how = {key: value for key, value in atu["unlearn"].items() if key not in ("tau", "steps", "optimizer")}
        for optimizer in ("sgd", "adamw"):
            planned = json.loads(json.dumps(config))
            planned["method_settings"]["atu"]["unlearn"]["optimizer"] = optimizer
            bench.measure(
                f"unlearn, {optimizer}",
                lambda optimizer=optimizer: unlearn(
                    accelerator,
                    llm,
                    predictor,
                    [corpus],
                    torch.randn(1, EMBEDDING),
                    layer=layer,
                    tau=-1.0,
                    steps=options.steps,
                    seed=0,
                    optimizer=optimizer,
                    **how,
                ),
                demand("unlearn", planned, "atu").device,
            )
    for method in ("ga", "rmu"):
        block = config["method_settings"][method]
        block["options"] |= {"layer": min(block["options"]["layer"], options.layers)} if method == "rmu" else {}
        train = block["train"] | {"epochs": 1, "accumulate": 1, "warmup_steps": 0}
        texts = random_rows(options.steps * train["batch_size"], options.tokens)
        items = [[Example(tuple(row), 1)] for row in texts]
        for recomputed in (False, True):
            llm.requires_grad_(True)
            llm.zero_grad(set_to_none=True)
            if recomputed:
                llm.gradient_checkpointing_enable()
            bench.measure(
                f"train, {method}" + (", checkpointing" if recomputed else ""),
                lambda method=method, block=block, train=train, items=items: train_epochs(
                    accelerator,
                    llm,
                    load(method, **block["options"]),
                    items,
                    texts=block["texts"],
                    reference=None,
                    retain_set=items,
                    retain=block["retain"],
                    seed=0,
                    after_epoch=lambda epoch: None,
                    title=method,
                    **train,
                ),
                demand("train", config | {"gradient_checkpointing": recomputed}, method).device,
            )
        llm.gradient_checkpointing_disable()
    print(tabulate(bench.rows, headers="keys", floatfmt=".1f"))


if __name__ == "__main__":
    main()
