"""Measure the host memory of training on a CPU, by each way to keep weights and state, beside what jobs request.

    PYTHONPATH=workflow python benchmarks/memory.py [--tokens 96] [--steps 2]

A model with random weights and SmolLM2-135M's sizes is trained by NPO and by Align-then-Unlearn, each way in its own
process. The process's peak memory is compared with the job's `mem_mb` under the demo's config in bf16.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from tabulate import tabulate

from atu import ROOT
from atu.common.memory import LADDER, Memory
from atu_pipeline.demands import demand
from atu_pipeline.resources import mem_mb
from atu_pipeline.settings import check_config
from atu_pipeline.settings.blocks import overlay

SIZES = {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
HEADS = {"num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True}
LEFT_OUT = ("tau", "steps", "lora", "layers", "near_mentions")  # settings of unlearning that are given here, or unused
WAYS = [memory for memory in LADDER if not memory.offload] + [Memory(optimizer_state="8bit")]


def demo(tokens: int) -> dict:
    """The demo's config, computing in bf16."""
    config: dict = {}
    for name in ("config.yaml", "workflow/configs/demo.yaml"):
        config = overlay(config, yaml.safe_load((ROOT / name).read_text(encoding="utf-8")))
    config |= {"precision": "bf16", "methods": ["atu", "npo"]}
    config["corpus"]["max_tokens"] = config["method_defaults"]["trained"]["max_tokens"] = tokens
    return check_config(config, ROOT)


def train(method: str, memory: Memory, folder: str, tokens: int, steps: int) -> float:
    """Train as a job does; return the peak memory of this process in bytes."""
    from accelerate import Accelerator
    from torch.nn.functional import normalize

    from atu.alignment.predictor import EmbeddingPredictor
    from atu.alignment.windows import WindowedCorpus
    from atu.engine.examples import Example
    from atu.engine.models import load_to_train, save_llm
    from atu.methods import load
    from atu.training.epochs import train_epochs

    config, accelerator = demo(tokens), Accelerator(cpu=True, mixed_precision="bf16")
    block = config["method_settings"][method]
    lora = {"rank": 0, "alpha": 16, "modules": "auto"}
    llm, _, tokenizer = load_to_train(folder, "cpu", memory, lora)
    rows = [torch.randint(5, SIZES["vocab_size"], (tokens,)).tolist() for _ in range(16)]
    if method == "atu":
        how = {key: value for key, value in block["unlearn"].items() if key not in LEFT_OUT}
        how |= {"layer": block["layer"], "tau": -1.0, "steps": steps, "seed": 0, "memory": memory, "retain_weight": 0.0}
        predictor = EmbeddingPredictor(SIZES["hidden_size"], 384, **block["predictor"])
        ids, windows = torch.tensor(rows, dtype=torch.int32).flatten(), torch.arange(16 * tokens) % 50
        bounds = torch.arange(0, 16 * tokens + 1, tokens)
        corpus = WindowedCorpus(ids, bounds, windows, normalize(torch.randn(50, 384), dim=-1))
        load("atu").unlearn(accelerator, llm, predictor, [corpus], torch.randn(1, 384), **how)
    else:
        items = [[Example(tuple(row), 1)] for row in rows[: steps * block["train"]["batch_size"]]]
        how = block["train"] | {"epochs": 1, "warmup_steps": 0}
        reads = {"texts": "positive", "reference": torch.zeros(len(items), 1), "retain_set": []}
        reads |= {"retain": block["retain"], "seed": 0, "memory": memory, "title": method}
        own = load(method, **block["options"])
        train_epochs(accelerator, llm, own, items, after_epoch=lambda epoch: None, **reads, **how)
    with tempfile.TemporaryDirectory() as kept:
        save_llm(llm, tokenizer, Path(kept))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def build(folder: str) -> None:
    """A model of random weights with a tokenizer, as a directory."""
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    AutoModelForCausalLM.from_config(LlamaConfig(**SIZES, **HEADS)).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="a", eos_token="b").save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "MEMORY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        method, memory, folder = options.one
        print(train(method, Memory(**json.loads(memory)), folder, options.tokens, options.steps))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        build(folder)
        for method, rule in (("npo", "train"), ("atu", "unlearn_last")):
            for memory in WAYS:
                sizes = ["--tokens", str(options.tokens), "--steps", str(options.steps)]
                one = ["--one", method, json.dumps(asdict(memory)), folder]
                done = subprocess.run([sys.executable, __file__, *sizes, *one], capture_output=True, text=True)
                if done.returncode:
                    sys.exit(done.stderr[-2000:])
                measured = float(done.stdout.split()[-1]) / 1e9
                asked = mem_mb(demand(rule, demo(options.tokens), method, memory=memory), on_gpu=False) / 1e3
                rows.append({"method": method, "way": str(memory), "GB held": measured, "GB asked": asked})
                rows[-1]["asked / held"] = asked / measured
                print(rows[-1], file=sys.stderr, flush=True)
    print(tabulate(rows, headers="keys", floatfmt=".2f"))


if __name__ == "__main__":
    main()
