"""Ask a model under an attack, and keep every prompt, answer and score, with the step at which it was asked."""

from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import torch

from atu.attacks import Asked, load
from atu.common.divergence import divergence
from atu.common.files import atomic_path, read_jsonl, read_parquet
from atu.common.memory import Memory
from atu.common.recipe import made_by
from atu.common.runtime import job_log, start
from atu.data.protocol import PROTOCOL, protocol_of
from atu.engine.engine import Engine
from atu.engine.intervention import Intervention
from atu.engine.models import load_kept_in
from atu.evaluation.evaluate import COLUMNS, evaluate
from atu.reporting.tables import NOT_RUN
from atu.training.several import run


def settings_of(job, accelerator):
    """What the attack takes besides what it asks.

    Raises:
        KeyError: for an attack of another kind.
    """
    block = {key: value for key, value in job.params.attack.items() if key not in ("attack", "ask")}
    texts = [row for file in job.input.texts for row in read_jsonl(file)]
    match job.params.attack["attack"]:
        case "relearn":
            own = {key: value for key, value in block.items() if key not in ("texts", "about", "subjects")}
            return own | {"texts": texts, "accelerator": accelerator, "memory": Memory(**job.params.memory)}
        case "few_shot":
            return block | {"facts": texts}
        case "paraphrase":
            return {"paraphrases": texts}
        case "quantize":
            return block
        case "adapter_off":
            return {"adapter": Path(job.input.llm)}
        case kind:
            raise KeyError(f"no settings of an attack of kind {kind}")


def answers(job):
    """The answers at every step at which the attack asks."""
    inputs, params, found = job.input, job.params, []
    accelerator = start(0, job.threads, params.device, params.precision, params.deterministic)
    base, kind, options = inputs.get("base") or None, params.attack["attack"], params.get("template_options")
    off = kind == "adapter_off" and base is not None  # the base model itself has none
    checkpoint, under = (base, None) if off else (inputs.llm, base)
    trains, budget = kind == "relearn", params.asking["batch_tokens"]
    if trains:  # and computes in the precision that is set
        engine = Engine(*load_kept_in(checkpoint, accelerator.device, Memory(**params.memory), options, under), budget)
    else:
        dtype = torch.bfloat16 if params.precision == "bf16" else torch.float32
        engine = Engine.load(checkpoint, budget, accelerator.device, dtype, options, under)
    probes = read_parquet(inputs.probes)
    intervention = Intervention.load(inputs.intervention) if inputs.get("intervention") else Intervention()

    def ask(step, asked):
        written = params.asking["max_new_tokens"], asked.instruction, protocol_of(params.asking["protocol"])
        with accelerator.autocast() if trains else nullcontext():
            now = evaluate(asked.engine, asked.probes, list(params.sets), {}, *written, probability=True)
        found.append(now.assign(step=step))

    with intervention.applied(engine.llm):
        asked = Asked(engine, probes, intervention.instruction)
        if kind == "adapter_off" and not off:
            ask(0, asked)
        else:
            load(kind)(asked, ask, **settings_of(job, accelerator))
    return pd.concat(found, ignore_index=True)


def write(job, log, predictions):
    """Keep the answers, and log their scores."""
    for (step, name), group in predictions.groupby(["step", "set"], sort=False):
        log.info("step %3d %-14s %6.1f  (n=%d)", step, name, 100 * group["score"].mean(), len(group))
    predictions.attrs[PROTOCOL] = job.params.asking["protocol"]
    with atomic_path(job.output[0]) as part:
        predictions.to_parquet(part, index=False)


inputs = snakemake.input
read = [inputs.llm, inputs.probes, *inputs.texts, *filter(None, [inputs.get("intervention"), inputs.get("base")])]
with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, read, snakemake.output):
    diverged = divergence(Path(inputs.llm))
    if diverged or Path(inputs.llm, NOT_RUN).exists():
        log.warning("%s: there is no model to attack", diverged or "this stage was not run")
        predictions = pd.DataFrame(columns=[*COLUMNS, "step"])
        write(snakemake, log, predictions)
    else:
        trains = snakemake.params.attack["attack"] == "relearn"
        count = snakemake.config["gpus_per_job"] if trains else 1
        places = {"device": snakemake.params.device, "outputs": snakemake.output}
        run(count, lambda: write(snakemake, log, answers(snakemake)), **places)
