"""Compare a full evaluation of one target by plain Hugging Face calls with one by this workflow's engines.

    PYTHONPATH=workflow python benchmarks/evaluation.py [--rwku] [--llm DIR] [--benchmark DIR] [--target ID]

The plain way has the batch sizes of RWKU's own scripts: prompts in the order of the files, `generate` until
the last row of a batch ends, the whole forward pass with logits at every position for likelihoods. Both ways
ask the same prompts; what differs in their answers is counted. With --rwku every set is as large as RWKU's is
for one target on average: probes are repeated, and a few-shot header, about as long as there, serves three of them.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from tabulate import tabulate

from atu.data import metrics
from atu.data.benchmark import build_probes, read_primers
from atu.data.probe_sets import PROBE_SETS, ProbeSet
from atu.data.rows import CHOICES
from atu.engine.chat import stop_tokens
from atu.engine.engine import Engine
from atu.evaluation.evaluate import asked_alike, build_prompt, evaluate
from fetched import ROOT, fetched

BATCH_SIZES = {"utility_gen": 1, "utility_rea": 8, "utility_tru": 4, "utility_flu": 8, "mia_fm": 1, "mia_rm": 1}
OTHERS = 16
# How often a header of the demo must be repeated to be as long as five questions of MMLU (about 350 tokens)
# and a task's worked examples of BBH (about 600: 1,100 to 3,100 characters in three that were looked up).
HEADER_REPEATS = {"utility_gen": 2, "utility_rea": 7}


def at_rwku_size(probes: pd.DataFrame) -> pd.DataFrame:
    """Each set repeated up to its size in RWKU; every three probes have a few-shot header of their own."""
    parts = []
    for name, part in probes.groupby("set", sort=False):
        part = part.sort_values("context", kind="stable")
        part = part.iloc[[i % len(part) for i in range(round(PROBE_SETS[name].probes))]].reset_index(drop=True)
        repeats = HEADER_REPEATS.get(name, 1)
        headers = [
            f"({i // 3 + 1})\n{context * repeats}" if context else "" for i, context in enumerate(part["context"])
        ]
        parts.append(part.assign(context=headers))
    return pd.concat(parts, ignore_index=True)


@torch.inference_mode()
def generate_plainly(llm, tokenizer, prompts: list[str], spec: ProbeSet, batch_size: int) -> list[str]:
    tokenizer.padding_side = "left"
    answers = []
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        inputs = tokenizer(batch, return_tensors="pt", padding=True, add_special_tokens=False)
        options = {"max_new_tokens": spec.max_new_tokens, "do_sample": False, "repetition_penalty": 1.0}
        stops = stop_tokens(llm, tokenizer)
        output = llm.generate(**inputs, **options, eos_token_id=stops, pad_token_id=tokenizer.pad_token_id)
        texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        answers += [text.split("\n")[0] if spec.stop_at_newline else text for text in texts]
    return answers


@torch.inference_mode()
def score_plainly(llm, tokenizer, texts: list[str], batch_size: int, special: bool) -> Iterator[tuple]:
    """Log-probabilities over the vocabulary, and those of the tokens, at all positions but the first of each text."""
    tokenizer.padding_side = "right"
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        inputs = tokenizer(batch, return_tensors="pt", padding=True, add_special_tokens=special)
        log_probs = llm(**inputs).logits.log_softmax(-1)
        for ids, mask, row in zip(inputs["input_ids"], inputs["attention_mask"], log_probs, strict=True):
            length = int(mask.sum())
            yield row[: length - 1], row[: length - 1].gather(-1, ids[1:length, None])[:, 0]


@torch.inference_mode()
def pick_plainly(llm, tokenizer, prompts: list[str]) -> list[str]:
    letters = [tokenizer.encode(f" {letter}", add_special_tokens=False)[-1] for letter in CHOICES]
    picked = []
    for prompt in prompts:
        logits = llm(**tokenizer(prompt, return_tensors="pt", add_special_tokens=False)).logits[0, -1, letters]
        picked.append(CHOICES[int(logits.argmax())])
    return picked


def ask_plainly(llm, tokenizer, name: str, probes: list[dict], primers: dict) -> list[str]:
    """Predictions of one probe set, as the workflow's table of predictions has them."""
    spec, batch_size = PROBE_SETS[name], BATCH_SIZES.get(name, OTHERS)
    prompts = [build_prompt(tokenizer, probe, primers) for probe in probes]
    if spec.ask == "generate":
        answers = generate_plainly(llm, tokenizer, prompts, spec, batch_size)
        return [answer.strip() or "NOANSWER" for answer in answers] if spec.stop_at_newline else answers
    if spec.ask == "next_token":
        return pick_plainly(llm, tokenizer, prompts)
    if spec.ask == "text":
        scores = []
        for text, (log_probs, own) in zip(
            prompts, score_plainly(llm, tokenizer, prompts, batch_size, special=True), strict=True
        ):
            mean = (log_probs.exp() * log_probs).sum(-1)
            variance = (log_probs.exp() * log_probs.square()).sum(-1) - mean.square()
            scores.append(metrics.membership(text, own.numpy(), mean.numpy(), variance.numpy()))
        return [f"{score['loss']:.3f}" for score in scores]
    picked = []
    for probe, prompt in zip(probes, prompts, strict=True):
        prefix = len(tokenizer.encode(prompt, add_special_tokens=False))
        texts = [f"{prompt} {choice}" for choice in probe["choices"]]
        scores = score_plainly(llm, tokenizer, texts, batch_size, special=False)
        sums = [own[prefix - 1 :].sum().item() for _, own in scores]
        picked.append(probe["choices"][sums.index(max(sums))])
    return picked


def scored(name: str, prediction: str) -> str:
    """The part of a prediction that is scored: what follows an answer to BBH is not."""
    return metrics.extract_answer(prediction) if PROBE_SETS[name].stop_at_answer else prediction


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", type=Path)
    parser.add_argument("--benchmark", default=ROOT / "workflow/benchmarks/demo")
    parser.add_argument("--target", default="1_William_Shakespeare")
    parser.add_argument("--rwku", action="store_true", help="sets as large as RWKU's")
    parser.add_argument("--batch-tokens", type=int, default=16384)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.llm = options.llm or fetched("smollm2-135m-instruct")
    torch.set_num_threads(options.threads)
    engine = Engine.load(options.llm, options.batch_tokens)
    parts = [build_probes(options.benchmark, target, 0.0, 0)[0] for target in (options.target, None)]
    probes = pd.concat([part for part in parts if len(part)], ignore_index=True)
    if options.rwku:
        probes = at_rwku_size(probes)
    primers = read_primers(Path(options.benchmark, "Utility/primers.json"))

    rows = []
    for names in asked_alike([name for name in PROBE_SETS if name in set(probes["set"])]):
        asked = {name: probes[probes["set"] == name].to_dict("records") for name in names}
        start = time.perf_counter()
        plain = {name: ask_plainly(engine.llm, engine.tokenizer, name, asked[name], primers) for name in names}
        middle = time.perf_counter()
        predictions = evaluate(engine, probes, names, primers)
        end = time.perf_counter()
        same = 0
        for name in names:
            own = predictions[predictions["set"] == name]
            ours = [f"{score:.3f}" for score in own["score"]] if PROBE_SETS[name].ask == "text" else own["prediction"]
            same += sum(scored(name, a) == scored(name, b) for a, b in zip(plain[name], ours, strict=True))
        times = middle - start, end - middle
        rows.append((", ".join(names), sum(map(len, asked.values())), same, *times, times[0] / times[1]))
        print(*rows[-1], flush=True)
    total = [sum(row[i] for row in rows) for i in range(1, 5)]
    rows.append(("all", *total, total[2] / total[3]))
    print(tabulate(rows, headers=["sets", "probes", "same", "plain (s)", "here (s)", "ratio"], floatfmt=".1f"))


if __name__ == "__main__":
    main()
