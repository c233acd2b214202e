"""Measure each step on a GPU with random weights of real shapes: seconds, and memory beside the planned memory.

    PYTHONPATH=workflow python benchmarks/gpu.py [--models phi-3-mini llama-3-8b qwen3.5-4b] [--tokens 512] [--steps 4]
        [--parts ...] [--device cuda] [--csv FILE]

Nothing is downloaded. Steps: an alignment and an unlearning step as the released code takes them and as this workflow
does, training steps in each way of keeping their numbers (atu/common/memory.py), and an evaluation of a target of
RWKU's size. At its end it prints the rates for `hardware` of the config. `--layers` and `--width` make models small.
"""

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path

import pandas as pd
import psutil
import torch
import yaml
from accelerate import Accelerator
from tabulate import tabulate
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from atu import ROOT
from atu.alignment.hidden import HiddenStates, write_hidden_states
from atu.alignment.predictor import EmbeddingPredictor
from atu.alignment.windows import WindowedCorpus
from atu.common.memory import LADDER, Memory
from atu.data.probe_sets import PROBE_SETS
from atu.engine.agreement import differences
from atu.engine.engine import Engine
from atu.engine.examples import Example
from atu.engine.half import keep_in_half, restore
from atu.engine.models import add_lora, recompute_activations
from atu.evaluation.looks import cache_bytes
from atu.methods import load
from atu.methods.atu import AlignmentData, AlignmentText, align, align_loss, unlearn, unlearn_loss
from atu.training.epochs import train_epochs
from atu_pipeline.demands import LONG_PROMPT, SHORT_PROMPT, demand
from atu_pipeline.resources import forward_flop, state_bytes, training_flop
from atu_pipeline.settings import check_config

# From each model's config.json: its model_type, and its sizes.
SHAPES = {
    "phi-3-mini": (
        "phi3",
        {"vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32}
        | {"num_key_value_heads": 32, "num_hidden_layers": 32, "sliding_window": 2047, "pad_token_id": 0},
    ),
    "llama-3-8b": (
        "llama",
        {"vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32}
        | {"num_key_value_heads": 8, "num_hidden_layers": 32},
    ),
    "qwen3.5-4b": (
        "qwen3_5_text",
        {"vocab_size": 248320, "hidden_size": 2560, "intermediate_size": 9216, "num_attention_heads": 16}
        | {"num_key_value_heads": 4, "head_dim": 256, "num_hidden_layers": 32, "tie_word_embeddings": True},
    ),
}
KEPT = {"qwen3.5-4b": 1.2e7}  # its activation_bytes (docs/gpus.md)
ENCODER = {"vocab_size": 30527, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}  # mpnet-base
EMBEDDING, K = 768, 8  # of a window, tokens in one
TEXTS, WINDOWS = 16, 500  # of the corpus; distinct windows
CHAT = "{% for m in messages %}{{ m['content'] }} t1 {% endfor %}"
HEADER = 800  # tokens that few-shot prompts of a task share
NEW = 5  # the first token that is no special one
PAGED = Memory(weights="bf16", gradient_checkpointing=True, optimizer_state="paged_8bit")
MODES = (*LADDER, PAGED)
GB = 1e9
# Methods of Steps, in order: `alignment` trains the predictor that `modes` need, `evaluation` leaves bf16 weights.
PARTS = ("agreement", "float32_rate", "alignment", "released", "modes", "lora", "offload", "evaluation")


def build_llm(name: str, device: str, layers: int | None, width: int | None) -> PreTrainedModel:
    """A model of a shape above, of random float32 weights."""
    kind, sizes = SHAPES[name]
    if layers:
        sizes = sizes | {"num_hidden_layers": layers}
    if width:
        heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 512}
        sizes = sizes | heads | {"hidden_size": width, "intermediate_size": 3 * width}
    with torch.device(device):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).eval()


def build_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of words t0, t1, ..., one a token."""
    words = Tokenizer(WordLevel({f"t{i}": i for i in range(size)}, unk_token="t0"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="t0", eos_token="t1", chat_template=CHAT)


def random_rows(count: int, length: int, vocabulary: int) -> list[list[int]]:
    """Token ids of ``count`` texts that are all but full."""
    return [torch.randint(NEW, vocabulary, (length - 1 - i % 8,)).tolist() for i in range(count)]


def as_text(row: list[int]) -> str:
    return " ".join(f"t{token}" for token in row)


class Bench:
    """Measured steps, each beside the plan."""

    def __init__(self, device: str):
        self.device, self.rows = device, []

    def measure(
        self,
        model: str,
        name: str,
        step: Callable[[], object],
        planned: float = 0.0,
        flop: float = 0.0,
        count: int = 1,
        resident: float = 0.0,
    ) -> None:
        """Run some steps of a kind.

        Args:
            planned: bytes of the device that the plan expects.
            flop: of one step.
            count: how many ``step`` runs, where it does not return when each of them ended.
            resident: bytes that lie on the device and do not belong to the step.
        """
        on_gpu = self.device == "cuda"
        if on_gpu:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        row = {"model": model, "step": name}
        began = time.perf_counter()
        try:
            ends = step()
            if on_gpu:
                torch.cuda.synchronize()
            seconds = (time.perf_counter() - began) / count
            if isinstance(ends, list):  # the first step warms up, and behind the last one the training looks again
                seconds = statistics.median(later - earlier for earlier, later in pairwise(ends[:-1]))
            row |= {"seconds": seconds, "TFLOP/s": flop / seconds / 1e12 if flop else None}
            if on_gpu:
                peak = torch.cuda.max_memory_allocated() - resident
                row |= {"peak GB": peak / GB, "planned GB": planned / GB or None}
                row |= {"planned/peak": planned / peak if planned else None}
        except torch.OutOfMemoryError:
            row |= {"seconds": None, "planned GB": planned / GB}
        self.rows.append(row)
        print(json.dumps(row), flush=True)


def timed_steps(train: Callable[..., object]) -> list[float]:
    """The time at which each step of training ended; ``train`` gets an ``after_step`` to call."""
    ends: list[float] = []

    def after_step(step: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    train(after_step)
    return ends


class Steps:
    """The measurements of one model."""

    def __init__(self, name: str, options: argparse.Namespace, bench: Bench):
        self.name, self.options, self.bench, self.device = name, options, bench, options.device
        self.accelerator = Accelerator(cpu=self.device == "cpu", mixed_precision="bf16")
        self.llm = build_llm(name, self.device, options.layers, options.width)
        self.size = sum(parameter.numel() for parameter in self.llm.parameters())
        self.vocabulary = self.llm.config.vocab_size
        paper = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
        whole = not options.layers and not options.width
        known = {
            "parameters": float(self.size),
            "vocabulary": self.vocabulary,
            "cache_bytes": cache_bytes(self.llm.config),
        }
        paper["models"][paper["llm"]] |= known | ({"activation_bytes": KEPT[name]} if whole and name in KEPT else {})
        paper["corpus"]["max_tokens"] = paper["method_defaults"]["trained"]["max_tokens"] = options.tokens
        paper["methods"] = ["atu", "npo", "npo-lora"]
        self.config = check_config(paper, ROOT)
        self.atu = self.config["method_settings"]["atu"]
        self.layer = min(self.atu["layer"], self.llm.config.num_hidden_layers)
        self.texts = random_rows(TEXTS, options.tokens, self.vocabulary)
        ids = torch.tensor([token for row in self.texts for token in row], dtype=torch.int32)
        bounds = torch.tensor([0, *map(len, self.texts)]).cumsum(0)
        self.windows = torch.randn(WINDOWS, EMBEDDING)
        self.corpus = WindowedCorpus(ids, bounds, torch.arange(len(ids)) % WINDOWS, normalize(self.windows, dim=-1))

    def planned(self, rule: str, method: str | None = None, memory: Memory | None = None) -> float:
        kept = self.config if memory is None else self.config | {"memory": asdict(memory)}
        return demand(rule, kept, method, memory=memory).device

    def measure(self, step: str, run: Callable[[], object], **known: float) -> None:
        self.bench.measure(self.name, step, run, **known)

    def agreement(self) -> None:
        """How far the engines are from the plain forward pass, in float32 and in bf16, over the spread."""
        try:
            found = differences(self.llm)
        except Exception as error:
            print(f"{self.name}: the engines cannot run it ({str(error)[:200]})", flush=True)
            return
        print(f"{self.name}, {self.size / 1e9:.2f} billion weights, float32: {found}", flush=True)

    def alignment(self) -> None:
        """Hidden states and alignment steps, ours and the released way."""
        tokens, steps = TEXTS * self.options.tokens, self.options.steps
        predictor = EmbeddingPredictor(self.llm.config.hidden_size, EMBEDDING, **self.atu["predictor"]).to(self.device)
        how = {key: value for key, value in self.atu["align"].items() if key not in ("steps", "steps_between")}
        with tempfile.TemporaryDirectory() as folder:
            states = Path(folder, "states")

            def write_states() -> None:
                with self.accelerator.autocast():
                    write_hidden_states(self.llm, self.corpus, self.layer, states, "bf16")

            write_states()  # warms up
            flop = forward_flop(self.size, tokens)
            self.measure("hidden states", write_states, planned=self.planned("hidden_states"), flop=flop)
            data = AlignmentData([AlignmentText(self.corpus, HiddenStates(states, self.corpus))])
            self.measure(
                "align",
                lambda: timed_steps(
                    lambda after: align(self.accelerator, predictor, data, steps=steps, seed=0, after_step=after, **how)
                ),
                planned=self.planned("align", "atu"),
                resident=4 * self.size,
            )
        self.predictor = predictor.requires_grad_(False)

    def released(self) -> None:
        """Alignment and unlearning steps of the released code, which computes all in each step, even the head."""
        steps, ids = self.options.steps, torch.tensor([row[: self.options.tokens - 8] for row in self.texts])
        ids, mask = ids.to(self.device), torch.ones_like(ids).to(self.device)
        with torch.device(self.device):
            encoder = AutoModel.from_config(AutoConfig.for_model("mpnet", **ENCODER)).eval()
        sizes = self.atu["predictor"] | {"released_attention": True}
        predictor = EmbeddingPredictor(self.llm.config.hidden_size, EMBEDDING, **sizes).to(self.device)
        optim = torch.optim.Adam(predictor.parameters(), lr=1e-4)
        windows = torch.randint(NEW, 30000, (ids.numel(), K), device=self.device)
        target = torch.randn(EMBEDDING, device=self.device)

        def states() -> torch.Tensor:
            found = self.llm(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
            return found.hidden_states[self.layer]

        def align_once() -> None:
            with self.accelerator.autocast():
                with torch.no_grad():
                    embedded = [encoder(input_ids=part).last_hidden_state.mean(1) for part in windows.split(4096)]
                    read = states()
                wanted = torch.cat(embedded).view(*ids.shape, EMBEDDING).float()
                loss = align_loss(predictor(read).float(), wanted, mask)
            loss.backward()
            optim.step()
            optim.zero_grad()

        def unlearn_once() -> None:
            with self.accelerator.autocast():
                loss = unlearn_loss(predictor(states()).float(), target, -1.0, mask)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.llm.parameters(), 1.0)
            descent.step()
            self.llm.zero_grad()

        self.llm.requires_grad_(True)
        descent = torch.optim.SGD(self.llm.parameters(), lr=1e-9)
        for name, once in (("align, released way", align_once), ("unlearn, released way", unlearn_once)):

            def several(after: Callable[[int], None], once: Callable[[], None] = once) -> None:
                for step in range(steps):
                    once()
                    after(step)

            self.measure(name, partial(timed_steps, several))

    def unlearning(self, memory: Memory) -> None:
        """Unlearning steps of Align-then-Unlearn."""
        steps = self.options.steps
        left_out = ("tau", "steps", "lora", "layers", "near_mentions")
        how = {key: value for key, value in self.atu["unlearn"].items() if key not in left_out}
        settings = {"layer": self.layer, "tau": -1.0, "steps": steps, "seed": 0, "memory": memory} | how
        self.measure(
            f"unlearn, {how['optimizer']}, {memory}",
            lambda: timed_steps(
                lambda after: unlearn(
                    self.accelerator,
                    self.llm,
                    self.predictor,
                    [self.corpus],
                    torch.randn(1, EMBEDDING),
                    after_step=after,
                    **settings,
                )
            ),
            planned=self.planned("unlearn_last", "atu", memory),
            flop=training_flop(self.size * self.layer / self.llm.config.num_hidden_layers, TEXTS * self.options.tokens),
        )

    def training(self, memory: Memory, method: str) -> None:
        """Training steps of NPO, of whole models or adapters."""
        block, steps = self.config["method_settings"][method], self.options.steps
        train = block["train"] | {"epochs": 1, "accumulate": 1, "warmup_steps": 0}
        rows = random_rows(steps * train["batch_size"], self.options.tokens, self.vocabulary)
        items = [[Example(tuple(row), 1)] for row in rows]

        def run() -> None:
            train_epochs(
                self.accelerator,
                self.llm,
                load("npo", **block["options"]),
                items,
                texts="positive",
                reference=torch.zeros(len(items), 1),
                retain_set=[],
                retain=block["retain"],
                seed=0,
                after_epoch=lambda epoch: None,
                memory=memory,
                title=method,
                **train,
            )

        on_host = state_bytes(train["optimizer"], memory) * self.size if memory.offload else 0
        if on_host > psutil.virtual_memory().available:
            print(f"{self.name}, {memory}: the host has no room for {on_host / GB:.0f} GB", flush=True)
            return
        self.measure(
            f"train, {method}, {memory}",
            run,
            planned=self.planned("train", method, memory),
            flop=training_flop(self.size, train["batch_size"] * self.options.tokens),
            count=steps,
        )

    def modes(self) -> None:
        """Training and unlearning in each way that keeps weights and optimiser state on the device."""
        self.ways([memory for memory in MODES if not memory.offload])

    def offload(self) -> None:
        """The same with optimiser steps on the host, which are slow."""
        self.ways([memory for memory in MODES if memory.offload])

    def ways(self, memories: list[Memory]) -> None:
        for memory in memories:
            if memory.weights != "fp32":
                self.llm.to("cpu")
                keep_in_half(self.llm)
                self.llm.to(self.device)
            if memory.gradient_checkpointing:
                recompute_activations(self.llm)
            for run in (self.unlearning, partial(self.training, method="npo")):
                if run == self.unlearning and memory.optimizer_state != "fp32":
                    continue  # SGD keeps none
                self.llm.requires_grad_(True)
                run(memory)
                self.llm.zero_grad()
            restore(self.llm)
            self.llm.to(self.device)
            self.llm.gradient_checkpointing_disable()

    def lora(self) -> None:
        """Training of adapters."""
        lora = self.config["method_settings"]["npo-lora"]["lora"]
        for memory in (LADDER[1], LADDER[2]):
            if memory.weights != "fp32":
                restore(self.llm)
                self.llm.to("cpu")
                keep_in_half(self.llm)
                self.llm.to(self.device)
            around = add_lora(self.llm, lora["rank"], lora["alpha"], lora["modules"])
            recompute_activations(self.llm)
            self.training(memory, "npo-lora")
            around.unload()
            self.llm.gradient_checkpointing_disable()
        restore(self.llm)

    def evaluation(self) -> None:
        """All probes of a target, in RWKU's number and length."""
        self.llm.to(self.device, torch.bfloat16)
        tokenizer = build_tokenizer(self.vocabulary)
        engine = Engine(self.llm, tokenizer, self.config["evaluation"]["batch_tokens"])
        asked: list[tuple[str, list[list[int]], list[str] | None, int]] = []
        flop = 0.0
        for name, probe_set in PROBE_SETS.items():
            count, length = round(probe_set.probes), LONG_PROMPT if probe_set.long_prompt else SHORT_PROMPT
            rows = random_rows(count, length, self.vocabulary)
            if probe_set.long_prompt:
                header = rows[0][:HEADER]
                rows = [header + row[HEADER:] for row in rows]
            groups = [name] * count if probe_set.long_prompt else None
            asked.append((probe_set.ask, rows, groups, probe_set.max_new_tokens or 0))
            flop += forward_flop(self.size, sum(map(len, rows)) + count * (probe_set.max_new_tokens or 0))

        def ask() -> None:
            for kind, rows, groups, new in asked:
                if kind == "generate":
                    engine.generate(list(map(as_text, rows)), max_new_tokens=new, groups=groups)
                elif kind == "next_token":
                    engine.weigh_next(list(map(as_text, rows)), ["t7", "t8"], groups=groups)
                else:
                    engine.score_tokens(rows, [1] * len(rows), groups=groups)

        self.measure("evaluate a target", ask, planned=self.planned("evaluate_after"), flop=flop)

    def float32_rate(self) -> None:
        """Forward passes in float32, for the rate of `gpu_tflops.fp32`."""
        rows = torch.tensor([row[: self.options.tokens - 8] for row in self.texts]).to(self.device)

        @torch.no_grad()
        def forward() -> None:
            self.llm.get_decoder()(input_ids=rows, use_cache=False)

        forward()
        self.measure("forward, float32", forward, flop=forward_flop(self.size, rows.numel()))


def hardware(rows: pd.DataFrame, device: str) -> dict:
    """The measured rates in the form of the config's `hardware`; the disk's is measured with a file of a gigabyte."""
    with tempfile.NamedTemporaryFile(dir=ROOT) as file:
        began = time.perf_counter()
        file.write(os.urandom(2**20) * 1024)
        file.flush()
        os.fsync(file.fileno())
        disk = 2**30 / 1e6 / (time.perf_counter() - began)
    rates = rows.dropna(subset=["TFLOP/s"]) if "TFLOP/s" in rows else rows.iloc[:0]
    found: dict = {}
    if len(rates):
        trained = rates[rates["step"].str.startswith(("train, npo,", "unlearn,"))]["TFLOP/s"]
        whole = rates[rates["step"] == "forward, float32"]["TFLOP/s"]
        rates_of = {name: round(part.median()) for name, part in (("bf16", trained), ("fp32", whole)) if len(part)}
        found = {"gpu_tflops": rates_of} if rates_of else {}
    if device == "cuda":
        found["gpu_memory_gb"] = int(torch.cuda.get_device_properties(0).total_memory / GB)
    return found | {"disk_mb_per_s": round(disk)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    if options.steps < 3:
        parser.error("--steps: the first step warms up and the last one is not timed; give 3 or more")
    if {"modes", "offload"} & {*options.parts} and "alignment" not in options.parts:
        parser.error("--parts: modes and offload unlearn by the predictor of alignment; name it too")
    torch.manual_seed(0)
    bench = Bench(options.device)
    for name in options.models:
        steps = Steps(name, options, bench)
        for part in PARTS:
            if part in options.parts:
                getattr(steps, part)()
        del steps
        gc.collect()
        if options.csv:
            pd.DataFrame(bench.rows).to_csv(options.csv, index=False)
    rows = pd.DataFrame(bench.rows)
    card = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"\n{card}, batches of {TEXTS} x {options.tokens} tokens, {options.steps} steps")
    print(tabulate(rows, headers="keys", floatfmt=".2f", showindex=False, missingval=""))
    print("\n" + yaml.safe_dump({"hardware": hardware(rows, options.device)}, sort_keys=False))


if __name__ == "__main__":
    main()
