"""Suggest settings for a model of your own, from its config and a few passes through it.

    atu suggest DIRECTORY [--benchmark FOLDER] [--probes 20] [--device auto]

It prints blocks for a config: the model's own block, the hook layer, whether the predictor's input is normalised, and a
range of learning rates to search. It also says which abilities in a benchmark's shared sets the model has. The model is
read in float32 from a directory as save_pretrained writes it, and changes only in memory.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from atu import ROOT
from atu.common.errors import ExplainedError

if TYPE_CHECKING:
    from atu.engine.engine import Engine

# KL in nats per token on another text, after one step. Below the first, nothing changes in tens of steps; above the
# second, the first step breaks the model. The demo's rates are in between.
GENTLE, HARSH = 1e-4, 1e-1
RATES = [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2]
LONG = 20  # if a first token's state is this many times as long as the others, the predictor sees little else
LONGEST = 256  # tokens of a text
NEUTRAL = "relearn_unrelated"  # texts about nobody


def block_of_model(engine: "Engine", directory: Path) -> dict:
    """The model's block under `models`."""
    from atu.engine.models import decoder_layers
    from atu.evaluation.looks import cache_bytes

    llm = engine.llm
    own = {
        "source": "path",
        "path": str(directory),
        "parameters": float(f"{sum(p.numel() for p in llm.parameters()):.3g}"),
    }
    own |= {"layers": len(decoder_layers(llm)), "vocabulary": llm.config.vocab_size}
    return own | {"cache_bytes": float(f"{cache_bytes(llm.config):.3g}")}


def abilities(engine: "Engine", folder: Path, probes: int) -> Iterator[str]:
    """Say for each shared set whose answers are right or wrong whether the model does better than guessing."""
    from atu.data.benchmark import build_probes, read_primers
    from atu.data.probe_sets import of_role
    from atu.evaluation import guessing
    from atu.evaluation.evaluate import evaluate

    table, _ = build_probes(folder, None, 0.0, 0)
    for name in of_role("utility"):
        asked = table[table["set"] == name].head(probes)
        if not len(asked):
            continue
        try:
            found = evaluate(engine, asked, [name], read_primers(folder / "Utility/primers.json"), LONGEST)
        except ExplainedError as error:
            yield f"# {name} was not asked: {error}"
            continue
        for row in guessing.abilities(found).itertuples():
            verdict = "it can" if row.able else "no better than guessing, so that nothing can be seen to be lost"
            yield f"# {name}: {row.share:.0%} of {row.count} right, a guess {row.guess:.0%}: {verdict}"


def suggestions(engine: "Engine", directory: Path, folder: Path, probes: int) -> Iterator[str]:
    """Yield the output part by part."""
    from atu.data.benchmark import read_texts
    from atu.engine.plain import why_plain
    from atu.evaluation.looks import first_token_ratio, hook_layers, moved_by_a_step, rate_at

    llm, name = engine.llm, directory.name
    texts = [row["text"] for row in read_texts(folder, None, NEUTRAL)][:9]
    if len(texts) < 2:
        raise ExplainedError(f"{folder} has no two texts in Utility/{NEUTRAL}.json; name a benchmark that has")
    rows = [ids[:LONGEST] for ids in engine.encode(texts)]
    why = why_plain(llm)
    yield f"# {type(llm).__name__}; rows {f'are run apart, since {why}' if why else 'share their prefixes'}"
    yield yaml.safe_dump({"llm": name, "models": {name: block_of_model(engine, directory)}}, sort_keys=False).strip()
    if why and "layers" in why:
        yield (
            "# layers that are no attention may keep more for the backward pass than is planned: add activation_bytes, "
            "if memory is short (Qwen3.5-4B: 1.2e+7, thrice the usual)"
        )
    layers = hook_layers(llm)
    ratios = {layer: first_token_ratio(llm, rows, layer) for layer in layers}
    longest = max(ratios.values())
    said = ", ".join(f"{ratio:.0f} times at layer {layer}" for layer, ratio in ratios.items())
    yield f"# the state of a text's first token is {said} as long as the others'"
    atu = {
        "layer": layers[0],
        "predictor": {"normalize_input": longest > LONG},
        "grid": {"layer": [*dict.fromkeys(layers)]},
    }
    told = [*abilities(engine, folder, probes)] if (folder / "Utility/primers.json").exists() else []
    moved = moved_by_a_step(llm, rows, RATES)  # last: it changes the weights
    low, high = (float(f"{rate_at(RATES, moved, wanted):.1g}") for wanted in (GENTLE, HARSH))
    yield "# one step of Adam moves another text by KL " + ", ".join(
        f"{by:.1e} at {rate:g}" for rate, by in zip(RATES, moved, strict=True)
    )
    rates = {"low": low, "high": high}
    yield "# the range holds for Adam and AdamW on all weights; an adapter needs more. A grid needs dev probes"
    atu |= {"unlearn": {"optimizer": "adamw"}}
    atu["grid"] |= {"unlearn.learning_rate": rates}
    npo = {"grid": {"train.learning_rate": rates}}
    yield yaml.safe_dump({"method_settings": {"atu": atu, "npo": npo}}, sort_keys=False).strip()
    yield from told


def main(arguments: list[str] | None = None) -> int:
    """Print suggestions.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="atu suggest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument(
        "--benchmark", type=Path, default=ROOT / "workflow/benchmarks/demo", help="a folder with Utility"
    )
    parser.add_argument("--probes", type=int, default=20, help="of each shared set")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    options = parser.parse_args(arguments)
    from atu.common.runtime import device_there
    from atu.engine.engine import Engine

    try:
        engine = Engine.load(options.directory, 16384, device_there(options.device))
        for part in suggestions(engine, options.directory, options.benchmark, options.probes):
            print(part, flush=True)
    except ExplainedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
