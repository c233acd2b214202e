"""Side by side: a full evaluation of one target by plain Hugging Face calls, and by this workflow's engines.

    PYTHONPATH=workflow python benchmarks/evaluation.py [--rwku] [--llm DIR] [--benchmark DIR] [--target ID]

The plain way has the batch sizes of RWKU's own scripts: prompts in the order of the files, `generate` until
the last row of a batch ends, the whole forward pass with logits at every position for likelihoods. Both ways
ask the same prompts; what differs in their answers is counted. With --rwku every set is as large as RWKU's is
for one target on average: probes are repeated, and a few-shot header serves three of them, as there.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from tabulate import tabulate

from atu.benchmark import CHOICES, PROBE_SETS, build_probes, read_primers
from atu.chat import stop_tokens
from atu.evaluation import build_prompt, evaluate
from atu.models import load_llm

ROOT = Path(__file__).parents[1]
BATCH_SIZES = {"utility_gen": 1, "utility_rea": 8, "utility_tru": 4, "utility_flu": 8, "mia_fm": 1, "mia_rm": 1}
OTHERS = 16
# Probes a target: RWKU's totals over its 200 targets; the utility sets are those of each target.
RWKU_SIZES = {name: round(spec["total"] / 200) for name, spec in PROBE_SETS.items() if "total" in spec}
RWKU_SIZES |= {"utility_gen": 171, "utility_rea": 81, "utility_tru": 50, "utility_fac": 100, "utility_flu": 50}


def at_rwku_size(probes: pd.DataFrame) -> pd.DataFrame:
    """Each set repeated up to its size in RWKU; every three probes have a few-shot header of their own."""
    parts = []
    for name, part in probes.groupby("set", sort=False):
        part = part.sort_values("context", kind="stable")
        part = part.iloc[[i % len(part) for i in range(RWKU_SIZES[name])]].reset_index(drop=True)
        headers = [f"({i // 3 + 1})\n{context}" if context else "" for i, context in enumerate(part["context"])]
        parts.append(part.assign(context=headers))
    return pd.concat(parts, ignore_index=True)


@torch.inference_mode()
def generate_plainly(llm, tokenizer, prompts: list[str], spec: dict, batch_size: int) -> list[str]:
    tokenizer.padding_side = "left"
    answers = []
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        inputs = tokenizer(batch, return_tensors="pt", padding=True, add_special_tokens=False)
        options = {"max_new_tokens": spec["max_new_tokens"], "do_sample": False, "repetition_penalty": 1.0}
        stops = stop_tokens(llm, tokenizer)
        output = llm.generate(**inputs, **options, eos_token_id=stops, pad_token_id=tokenizer.pad_token_id)
        texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        answers += [text.split("\n")[0] if spec.get("stop_at_newline") else text for text in texts]
    return answers


@torch.inference_mode()
def score_plainly(llm, tokenizer, texts: list[str], batch_size: int, special: bool) -> list[torch.Tensor]:
    """Log-probabilities of all tokens but the first of each text."""
    tokenizer.padding_side = "right"
    scores = []
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        inputs = tokenizer(batch, return_tensors="pt", padding=True, add_special_tokens=special)
        log_probs = llm(**inputs).logits.log_softmax(-1)
        for ids, mask, row in zip(inputs["input_ids"], inputs["attention_mask"], log_probs, strict=True):
            length = int(mask.sum())
            scores.append(row[: length - 1].gather(-1, ids[1:length, None])[:, 0])
    return scores


@torch.inference_mode()
def pick_plainly(llm, tokenizer, prompts: list[str]) -> list[str]:
    letters = [tokenizer.encode(f" {letter}", add_special_tokens=False)[-1] for letter in CHOICES]
    picked = []
    for prompt in prompts:
        logits = llm(**tokenizer(prompt, return_tensors="pt", add_special_tokens=False)).logits[0, -1, letters]
        picked.append(CHOICES[int(logits.argmax())])
    return picked


def ask_plainly(llm, tokenizer, name: str, probes: list[dict], primers: dict) -> list[str]:
    """Predictions of one probe set, as the workflow's table of outcomes has them."""
    spec, batch_size = PROBE_SETS[name], BATCH_SIZES.get(name, OTHERS)
    prompts = [build_prompt(tokenizer, probe, primers) for probe in probes]
    if spec["ask"] == "generate":
        answers = generate_plainly(llm, tokenizer, prompts, spec, batch_size)
        return [answer.strip() or "NOANSWER" for answer in answers] if spec.get("stop_at_newline") else answers
    if spec["ask"] == "next_token":
        return pick_plainly(llm, tokenizer, prompts)
    if spec["ask"] == "text":
        scores = score_plainly(llm, tokenizer, prompts, batch_size, special=True)
        return [f"{score.mean():.3f}" for score in scores]
    picked = []
    for probe, prompt in zip(probes, prompts, strict=True):
        prefix = len(tokenizer.encode(prompt, add_special_tokens=False))
        texts = [f"{prompt} {choice}" for choice in probe["choices"]]
        scores = score_plainly(llm, tokenizer, texts, batch_size, special=False)
        sums = [score[prefix - 1 :].sum().item() for score in scores]
        picked.append(probe["choices"][sums.index(max(sums))])
    return picked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", default=ROOT / "resources/models/smollm2-135m-instruct")
    parser.add_argument("--benchmark", default=ROOT / "workflow/benchmarks/demo")
    parser.add_argument("--target", default="1_William_Shakespeare")
    parser.add_argument("--rwku", action="store_true", help="sets as large as RWKU's")
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    llm, tokenizer = load_llm(options.llm)
    parts = [build_probes(options.benchmark, target, 0.0, 0)[0] for target in (options.target, None)]
    probes = pd.concat([part for part in parts if len(part)], ignore_index=True)
    if options.rwku:
        probes = at_rwku_size(probes)
    primers = read_primers(Path(options.benchmark, "Utility/primers.json"))

    rows = []
    for name in PROBE_SETS:
        asked = probes[probes["set"] == name].to_dict("records")
        if not asked:
            continue
        start = time.perf_counter()
        plain = ask_plainly(llm, tokenizer, name, asked, primers)
        middle = time.perf_counter()
        outcomes = evaluate(llm, tokenizer, probes, [name], primers, options.batch_tokens)
        end = time.perf_counter()
        ours = [f"{score:.3f}" for score in outcomes["score"]] if name.startswith("mia") else outcomes["prediction"]
        same = sum(a == b for a, b in zip(plain, ours, strict=True))
        rows.append((name, len(asked), same, middle - start, end - middle, (middle - start) / (end - middle)))
        print(*rows[-1], flush=True)
    total = [sum(row[i] for row in rows) for i in range(1, 5)]
    rows.append(("all", *total, total[2] / total[3]))
    print(tabulate(rows, headers=["set", "probes", "same", "plain (s)", "here (s)", "ratio"], floatfmt=".1f"))


if __name__ == "__main__":
    main()
