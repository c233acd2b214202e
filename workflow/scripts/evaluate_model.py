"""Ask a model the probes and keep every prompt, answer and score."""

from pathlib import Path

import pandas as pd
import torch

from atu.common.divergence import divergence
from atu.common.files import atomic_path, read_parquet
from atu.common.recipe import fetched, made_by
from atu.common.runtime import job_log, start
from atu.data.benchmark import read_primers
from atu.data.protocol import PROTOCOL, protocol_of
from atu.engine.engine import Engine
from atu.engine.intervention import Intervention
from atu.evaluation.earlier import ASKED, asked_of, earlier_predictions
from atu.evaluation.evaluate import COLUMNS, evaluate
from atu.reporting.tables import NOT_RUN, summarize


def ask(sets, checkpoint):
    """The answers of the model to the probes of some sets."""
    inputs, params, folder = snakemake.input, snakemake.params, snakemake.input.get("intervention")
    probes = pd.concat([read_parquet(file) for file in inputs.probes], ignore_index=True)
    primers = read_primers(next(iter(inputs.primers), None))
    accelerator = start(0, snakemake.threads, params.device, params.precision)
    dtype = torch.bfloat16 if params.precision == "bf16" else torch.float32
    template, base = params.get("template_options"), inputs.get("base") or None
    engine = Engine.load(checkpoint, params.asking["batch_tokens"], accelerator.device, dtype, template, base)
    intervention = Intervention.load(folder) if folder else Intervention()
    with intervention.applied(engine.llm):
        protocol = protocol_of(params.asking["protocol"])
        written = params.asking["max_new_tokens"], intervention.instruction, protocol
        return evaluate(engine, probes, sets, primers, *written)


# the base model's answers are there to judge by; they are not read here
inputs, folder = snakemake.input, snakemake.input.get("intervention")
read = [inputs.llm, *inputs.probes, *fetched(inputs.primers), *filter(None, [folder, inputs.get("base")])]
with (
    job_log(snakemake.log[0]) as log,
    made_by(snakemake.params.recipe, read, snakemake.output),
):
    params, checkpoint = snakemake.params, Path(snakemake.input.llm, snakemake.params.checkpoint_subdir)
    device = "cpu" if params.device == "cpu" or not torch.cuda.is_available() else "cuda"
    answering = asked_of([inputs.llm, *filter(None, [folder, inputs.get("base")])], device)
    sets, earlier = list(params.sets), earlier_predictions(snakemake.output[0], params.recipe, answering)
    asked = [name for name in sets if name not in earlier]
    if earlier:
        log.info("answered before, and not asked again: %s", ", ".join(earlier))
    diverged = divergence(checkpoint)
    if (checkpoint / NOT_RUN).exists():
        log.warning("this stage was not run, as one before it has collapsed: nothing is asked")
        sets = asked = []
    if diverged:
        log.warning("%s: there is no model to ask", diverged)
        predictions = pd.DataFrame(columns=COLUMNS)
        predictions.attrs["diverged"] = diverged  # which goes into the file's metadata
    else:
        predictions = pd.DataFrame(columns=COLUMNS)
        if asked:
            predictions = ask(asked, checkpoint)
        parts = [earlier.get(name, predictions[predictions["set"] == name]) for name in sets]
        predictions = pd.concat(parts, ignore_index=True) if parts else predictions
        if sets:  # what was not asked is not answered
            predictions.attrs[ASKED] = answering
    predictions.attrs[PROTOCOL] = params.asking["protocol"]
    for row in summarize(predictions).query("split == 'all'").itertuples():
        log.info("%-14s %8.2f  (n=%d)", row.metric, row.value, row.n)
    with atomic_path(snakemake.output[0]) as part:
        predictions.to_parquet(part, index=False)
