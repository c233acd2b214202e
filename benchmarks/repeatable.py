"""What repeats, and its price: steps with and without `deterministic`, answers with and without `batch_invariant`.

    PYTHONPATH=workflow python benchmarks/repeatable.py [--llm DIR] [--steps 8] [--tokens 256] [--batch 8] [--probes 12]
        [--states fp32 8bit]

Steps (AdamW on all weights, under bf16 autocast or in float32) are timed in turns, with each kind of state; each way is
run twice from the same weights, and what then differs is counted. The same probes are asked in bf16 under three budgets
of a batch, and half of them alone; answers and scores that are not those of the largest budget are counted. In float32
too, by `--precision`.

On a GPU cuBLAS has its workspaces either way: it reads that setting once a process.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from tabulate import tabulate

from atu.common.memory import STATES, Memory
from atu.common.runtime import repeat_numbers, start
from atu.data.benchmark import build_probes, read_primers
from atu.engine.engine import Engine
from atu.engine.models import load_llm
from atu.evaluation.evaluate import evaluate
from atu.training.updates import optimizer_class
from fetched import ROOT, fetched

SETS = ["forget_fb", "neighbor_qa", "utility_gen", "mia_fm"]  # written, weighed behind a few-shot header, read
BUDGETS = (512, 4096, 16384)


def seconds(work: Callable[[], object]) -> float:
    """Of the device; on a CPU of this process, whatever else the machine does."""
    on_gpu = torch.cuda.is_available()
    clock = time.perf_counter if on_gpu else time.process_time
    begun = clock()
    work()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - begun


def train(llm, batch: torch.Tensor, steps: int, state: str, accelerator) -> list[float]:
    """Seconds of each step."""
    fused = {"fused": True} if state == "fp32" and llm.device.type == "cuda" else {}  # as trainings take it
    optimizer = optimizer_class("adamw", Memory(optimizer_state=state))(llm.parameters(), lr=1e-5, **fused)

    def step():
        with accelerator.autocast():
            loss = llm(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return [seconds(step) for _ in range(steps)]


def compare_steps(options, accelerator) -> None:
    llm, _ = load_llm(options.llm, accelerator.device)
    first = {name: weight.to("cpu", copy=True) for name, weight in llm.state_dict().items()}
    batch = torch.randint(5, llm.config.vocab_size, (options.batch, options.tokens), device=llm.device)
    rows = []
    for state in options.states:
        times: dict[bool, list[float]] = {True: [], False: []}
        ends: dict[bool, list[dict]] = {True: [], False: []}
        for on in (False, True, True, False):  # in turns, as others' load comes and goes
            llm.load_state_dict(first)
            repeat_numbers(on)
            times[on] += train(llm, batch, options.steps, state, accelerator)[1:]
            ends[on].append({name: weight.to("cpu", copy=True) for name, weight in llm.state_dict().items()})
        for on, (one, other) in ends.items():
            unlike = sum(not torch.equal(one[name], other[name]) for name in one)
            rows.append((state, on, pd.Series(times[on]).median(), min(times[on]), f"{unlike} of {len(one)}"))
    columns = ["state", "deterministic", "median step (s)", "fastest (s)", "weights that differ"]
    print(tabulate(rows, columns, floatfmt=".4f"), flush=True)


def compare_answers(options, accelerator) -> None:
    repeat_numbers(True)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    benchmark = ROOT / "workflow/benchmarks/demo"
    parts = [build_probes(benchmark, target, 0.0, 0)[0] for target in (options.target, None)]
    probes = pd.concat(parts).groupby("set", sort=False).head(options.probes)
    primers = read_primers(benchmark / "Utility/primers.json")
    llm, tokenizer = load_llm(options.llm, accelerator.device, dtype)
    rows = []
    for way, budgets in (("together", BUDGETS), ("alone", (None,))):
        whole = None
        for budget, share in [*((budget, 1) for budget in reversed(budgets)), (budgets[-1], 2)]:
            engine, found = Engine(llm, tokenizer, budget), []
            spent = seconds(lambda: found.append(evaluate(engine, probes[::share], SETS, primers, 32)))  # noqa: B023
            answers = found[0].set_index("id")
            whole = answers if whole is None else whole
            same = whole.loc[answers.index]
            other = [(answers[key] != same[key]).sum() for key in ("prediction", "score")]
            rows.append((way, budget, f"1/{share}", len(answers), *other, spent))
            print(*rows[-1], flush=True)
    print(
        tabulate(
            rows, ["way", "batch_tokens", "share", "probes", "other texts", "other scores", "seconds"], floatfmt=".1f"
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", type=Path)
    parser.add_argument("--target", default="1_William_Shakespeare")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--states", nargs="+", choices=STATES, default=["fp32"])
    for name, value in (("steps", 8), ("tokens", 256), ("batch", 8), ("probes", 12), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    options.llm = options.llm or fetched("smollm2-135m-instruct")
    accelerator = start(0, options.threads, precision=options.precision)
    compare_steps(options, accelerator)
    compare_answers(options, accelerator)


if __name__ == "__main__":
    main()
