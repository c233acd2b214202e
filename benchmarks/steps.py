"""Compare one training step of the released code with one of this workflow.

    PYTHONPATH=workflow python benchmarks/steps.py [--llm DIR] [--encoder DIR] [--batch 16] [--tokens 256] [--repeat 3]

Both ways run in this process, on the same batch, interleaved. The released way (facts: the paper's own
repository) recomputes everything inside each alignment step: it embeds the window behind every token,
runs the whole LLM with its head, and its predictor cross-attends to its own input. It cuts windows by a
loop over the encoder's tokens for each token of the LLM. Defaults are the demo's models, which
`make demo` leaves in resources/models.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from atu.alignment.encoder import load_encoder
from atu.alignment.hidden import HiddenStates, write_hidden_states
from atu.alignment.predictor import EmbeddingPredictor
from atu.alignment.windows import build_corpus, embed_windows, token_ends, window_starts
from atu.data.benchmark import build_probes
from atu.engine.batching import pad
from atu.engine.engine import Engine
from atu.engine.models import hidden_states, layers_up_to
from atu.evaluation.evaluate import evaluate
from atu.methods.atu import AlignmentData, AlignmentText, align_loss, unlearn_loss
from fetched import ROOT, fetched

K, LAYER_SHARE = 8, 29 / 32  # window length; the hook layer as a share of the model's depth


def windows_by_loop(llm_ends: np.ndarray, encoder_ids: list[int], encoder_ends: np.ndarray) -> list[list[int]]:
    """The released way: for each LLM token, walk through the encoder's tokens."""
    windows = []
    for end in llm_ends:
        window = [token for token, token_end in zip(encoder_ids, encoder_ends, strict=True) if token_end > end]
        windows.append(window[:K] if len(window) >= K else [0] * K)
    return windows


def windows_by_search(llm_ends: np.ndarray, encoder_ids: list[int], encoder_ends: np.ndarray) -> np.ndarray:
    starts = window_starts(llm_ends, encoder_ends, K)
    return np.array(encoder_ids)[np.clip(starts, 0, None)[:, None] + np.arange(K)]


def timed(ways: dict, repeat: int) -> dict[str, float]:
    """Median seconds of each way; the ways take turns, the first turn warms up."""
    seconds = {name: [] for name in ways}
    for _ in range(repeat + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def operations_at_paper_scale() -> list[tuple[str, float, float]]:
    """TFLOP of one step on 16 x 256 tokens: 2 a weight and token forward, 4 backward; attention scores left out.

    Phi-3-mini: 32 layers, 3.62e9 weights in them, head 32064 x 3072. Encoder: 85e6 weights in 12 layers,
    8 tokens a window. Predictor: 6 layers of width 768, 12 (ours) or 16 (with cross-attention) x 768^2
    weights a layer, and linear maps 3072 -> 768 -> 768.
    """
    tokens = 16 * 256
    layers, head, encoder = 3.62e9, 32064 * 3072, 85e6
    linear = 768 * (3072 + 768)
    ours, released = 6 * 12 * 768**2 + linear, 6 * 16 * 768**2 + linear
    tera = 1e12
    llm = 2 * tokens * (layers + head) / tera
    windows = 2 * tokens * K * encoder / tera
    align = (llm + windows + 6 * tokens * released / tera, 6 * tokens * ours / tera)
    below = layers * LAYER_SHARE
    # unlearning: the graph of the released step ends at the hook layer too, what it wastes is the forward above
    # and the head; the predictor is run backward for its input alone
    unlearn = (
        (llm + 4 * tokens * below / tera + 6 * tokens * released / tera),
        (6 * tokens * below + 4 * tokens * ours) / tera,
    )
    return [("alignment", *align), ("unlearning", *unlearn)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", type=Path)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.llm = options.llm or fetched("smollm2-135m-instruct")
    options.encoder = options.encoder or fetched("all-minilm-l6-v2")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    engine = Engine.load(options.llm, batch_tokens=8192)
    llm, tokenizer = engine.llm, engine.tokenizer
    encoder = load_encoder(options.encoder, "cpu")
    layer = round(LAYER_SHARE * llm.config.num_hidden_layers)
    width = encoder.get_embedding_dimension()

    # texts of exactly the wanted length, from the demo's passages in random order
    passages = [
        row["text"]
        for path in sorted((ROOT / "workflow/benchmarks/demo/Target").glob("*/passage.json"))
        for row in json.loads(path.read_text())
    ]
    rng = random.Random(0)
    texts = [" ".join(rng.sample(passages, 6)) for _ in range(options.batch)]
    corpus = build_corpus(texts, tokenizer, encoder, K, options.tokens)
    tokenized = []
    for text in texts:
        _, llm_ends = token_ends(tokenizer, text, truncation=True, max_length=options.tokens)
        encoder_ids, encoder_ends = token_ends(encoder.tokenizer, text, add_special_tokens=False)
        tokenized.append((llm_ends, encoder_ids, encoder_ends))
    input_ids, mask = pad([corpus.input_ids[corpus.text(i)].long() for i in range(len(corpus))])
    everything = list(range(len(corpus)))

    sizes = {"input_size": llm.config.hidden_size, "output_size": width, "width": width, "layers": 6, "heads": 8}
    released, ours = EmbeddingPredictor(**sizes, released_attention=True), EmbeddingPredictor(**sizes)
    optimizers = {model: torch.optim.Adam(model.parameters(), lr=1e-4) for model in (released, ours)}
    target = torch.randn(width)

    def step(model, predicted_loss):
        predicted_loss.backward()
        optimizers[model].step()
        optimizers[model].zero_grad()

    def align_released():
        with torch.no_grad():
            windows = np.concatenate([windows_by_loop(*row) for row in tokenized])
            embeddings = embed_windows(encoder, windows, batch_size=len(windows)).view(*input_ids.shape, width)
            states = llm(input_ids, attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states[
                layer
            ]
        step(released, align_loss(released(states), embeddings, mask))

    with tempfile.TemporaryDirectory() as scratch:
        write_hidden_states(llm, corpus, layer, Path(scratch, "states"))
        data = AlignmentData([AlignmentText(corpus, HiddenStates(Path(scratch, "states"), corpus))])

        def align_ours():
            states, _ = data.states(everything)
            step(ours, align_loss(ours(states), *data.targets(everything)))

        rows = [("alignment step", timed({"released": align_released, "ours": align_ours}, options.repeat))]

    def unlearn_released(hook):
        states = llm(input_ids, attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states[hook]
        unlearn_loss(released(states), target, 0.0, mask).backward()
        llm.zero_grad()

    def unlearn_ours(hook):
        with layers_up_to(llm, hook) as decoder:
            unlearn_loss(ours(hidden_states(decoder, input_ids, mask)), target, 0.0, mask).backward()
        llm.zero_grad()

    ours.requires_grad_(False)  # the released code keeps gradients of the predictor, unused
    for hook in (layer, llm.config.num_hidden_layers // 2):  # as deep as in the paper, and the demo's
        ways = {"released": partial(unlearn_released, hook), "ours": partial(unlearn_ours, hook)}
        rows.append((f"unlearning step, layer {hook}", timed(ways, options.repeat)))
    cut = {
        "released": lambda: [windows_by_loop(*row) for row in tokenized],
        "ours": lambda: [windows_by_search(*row) for row in tokenized],
    }
    rows.append(("windows of the batch", timed(cut, max(5, options.repeat))))
    print(f"\n{options.batch} x {options.tokens} tokens, {Path(options.llm).name}, hook layer {layer}")
    print(f"predictor 6 x {width}, {options.threads} threads")
    table = [(name, s["released"], s["ours"], s["released"] / s["ours"]) for name, s in rows]
    print(tabulate(table, headers=["seconds", "released", "ours", "ratio"], floatfmt=(".0f", ".4f", ".4f", ".1f")))

    counted = [(name, released, ours, released / ours) for name, released, ours in operations_at_paper_scale()]
    print("\nAt paper scale (Phi-3-mini, all-mpnet-base-v2, 16 x 256 tokens)")
    print(
        tabulate(counted, headers=["TFLOP a step", "released", "ours", "ratio"], floatfmt=(".0f", ".2f", ".2f", ".1f"))
    )

    probes, _ = build_probes(ROOT / "workflow/benchmarks/demo", "7_Aristotle", 0.5, 0)
    start = time.perf_counter()
    predictions = evaluate(engine, probes, ["forget_fb", "forget_qa", "forget_aa"], {})
    seconds = time.perf_counter() - start
    asked = sum(map(len, tokenizer(predictions["prompt"].tolist())["input_ids"]))
    answered = sum(map(len, tokenizer(predictions["prediction"].tolist())["input_ids"]))
    print(f"\nEvaluation: {len(predictions)} probes, {asked} tokens asked and {answered} answered in {seconds:.1f} s")
    print(f"{(asked + answered) / seconds:.0f} tokens/s, {len(predictions) / seconds:.1f} probes/s")


if __name__ == "__main__":
    main()
