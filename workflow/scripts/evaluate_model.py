"""Ask a model the probes and keep every prompt, answer and score, and how unlikely the base model finds the answers."""

from pathlib import Path

import pandas as pd
import torch

from atu.common.divergence import divergence
from atu.common.files import atomic_path, read_parquet
from atu.common.recipe import fetched, made_by
from atu.common.runtime import device_there, job_log, start
from atu.data.benchmark import read_primers
from atu.data.probe_sets import judged
from atu.data.protocol import PROTOCOL, protocol_of
from atu.engine.chat import of_rendered
from atu.engine.intervention import Intervention
from atu.engine.shared import SharedEngine
from atu.evaluation.earlier import ASKED, asked_of, earlier_predictions
from atu.evaluation.evaluate import COLUMNS, evaluate
from atu.evaluation.surprise import add_surprises
from atu.reporting.tables import NOT_RUN, summarize
from atu.training.several import run


def load(folder, accelerator, options, base=None):
    """The engine of a model, or of an adapter and the model under it."""
    params = snakemake.params
    dtype = torch.bfloat16 if params.precision == "bf16" else torch.float32
    return SharedEngine.load(folder, params.asking["batch_tokens"], accelerator.device, dtype, options, base)


def answers(engine, sets):
    """The answers of a model to the probes of some sets."""
    inputs, params, folder = snakemake.input, snakemake.params, snakemake.input.get("intervention")
    probes = pd.concat([read_parquet(file) for file in inputs.probes], ignore_index=True)
    primers = read_primers(next(iter(inputs.primers), None))
    intervention = Intervention.load(folder) if folder else Intervention()
    with intervention.applied(engine.llm):
        protocol = protocol_of(params.asking["protocol"])
        written = params.asking["max_new_tokens"], intervention.instruction, protocol
        return evaluate(engine, probes, sets, primers, *written, probability=params.asking["probability"])


def ask(sets, earlier, checkpoint):
    """The answers of the model to the probes of all sets, earlier ones among them, as the base model sees them."""
    inputs, params = snakemake.input, snakemake.params
    protocol, options = protocol_of(params.asking["protocol"]), params.get("template_options")
    accelerator = start(0, snakemake.threads, params.device, params.precision, params.deterministic)
    engine = load(checkpoint, accelerator, options, inputs.get("base") or None)
    asked, base = [name for name in sets if name not in earlier], inputs.get("unmodified")
    found = answers(engine, asked)
    if not base:  # what others are judged by is made of all its answers together
        return add_surprises(beside(found, earlier, sets), engine, protocol, own=True)
    if set(asked) & set(judged()):
        if base != inputs.llm:
            del engine  # one model in memory at a time
            engine = load(base, accelerator, of_rendered(options))
        found = add_surprises(found, engine, protocol, own=False)
    return beside(found, earlier, sets)


def beside(found, earlier, sets):
    """The answers to all sets in their order: earlier ones, and those of now."""
    parts = [earlier.get(name, found[found["set"] == name]) for name in sets]
    return pd.concat(parts, ignore_index=True)


def made(job, log):
    """The predictions of all sets, those that were made before among them; in each of the processes that ask."""
    inputs, params, checkpoint = job.input, job.params, Path(job.input.llm, job.params.checkpoint_subdir)
    answering = asked_of(MODELS, device_there(params.device), params.deterministic)
    sets, earlier = list(params.sets), earlier_predictions(job.output[0], params.recipe, answering)
    asked = [name for name in sets if name not in earlier]
    if earlier:
        log.info("answered before, and not asked again: %s", ", ".join(earlier))
    diverged = divergence(checkpoint)
    if (checkpoint / NOT_RUN).exists():
        log.warning("this stage was not run, as one before it has collapsed: nothing is asked")
        sets = asked = []
    predictions = pd.DataFrame(columns=COLUMNS)
    if diverged:
        log.warning("%s: there is no model to ask", diverged)
        predictions.attrs["diverged"] = diverged  # which goes into the file's metadata
        return predictions
    own = not inputs.get("unmodified") and set(earlier) & set(judged())  # what is made of its answers is made anew
    if asked or (sets and own):
        predictions = ask(sets, earlier, checkpoint)
    elif sets:
        predictions = beside(predictions, earlier, sets)
    if sets:  # what was not asked is not answered
        predictions.attrs[ASKED] = answering
    return predictions


def write(job, log):
    """Keep the predictions, and log their scores."""
    predictions = made(job, log)
    predictions.attrs[PROTOCOL] = job.params.asking["protocol"]
    for row in summarize(predictions).query("split == 'all'").itertuples():
        log.info("%-14s %8.2f  (n=%d)", row.metric, row.value, row.n)
    with atomic_path(job.output[0]) as part:
        predictions.to_parquet(part, index=False)


# the base model's answers are there to judge by; they are not read here
inputs, folder = snakemake.input, snakemake.input.get("intervention")
MODELS = [*filter(None, [inputs.llm, folder, inputs.get("base"), inputs.get("unmodified")])]
read = [*dict.fromkeys(MODELS), *inputs.probes, *fetched(inputs.primers)]
with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, read, snakemake.output):
    count, places = snakemake.config["gpus_per_evaluation"], {"device": snakemake.params.device}
    run(count, write, snakemake, log, **places, outputs=snakemake.output)
