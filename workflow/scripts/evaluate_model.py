"""Ask a model the probes and keep every prompt, answer and score."""

from pathlib import Path

import pandas as pd
import torch

from atu.common.divergence import divergence
from atu.common.files import atomic_path, read_parquet
from atu.common.recipe import fetched, made_by
from atu.common.runtime import job_log, start
from atu.data.benchmark import read_primers
from atu.engine.intervention import Intervention
from atu.engine.models import load_llm
from atu.evaluation.earlier import CODE, earlier_predictions, library
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
    llm, tokenizer = load_llm(checkpoint, accelerator.device, dtype, template, base)
    intervention = Intervention.load(folder) if folder else Intervention()
    limits = (params.batch_tokens, params.max_new_tokens)
    with intervention.applied(llm):
        return evaluate(llm, tokenizer, probes, sets, primers, *limits, intervention.instruction)


# the base model's answers are there to judge by; they are not read here
inputs, folder = snakemake.input, snakemake.input.get("intervention")
read = [inputs.llm, *inputs.probes, *fetched(inputs.primers), *filter(None, [folder, inputs.get("base")])]
with (
    job_log(snakemake.log[0]) as log,
    made_by(snakemake.params.recipe, read, snakemake.output),
):
    params, checkpoint = snakemake.params, Path(snakemake.input.llm, snakemake.params.checkpoint_subdir)
    sets, earlier = list(params.sets), earlier_predictions(snakemake.output[0], params.recipe)
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
        predictions.attrs[CODE] = library()
    for row in summarize(predictions).query("split == 'all'").itertuples():
        log.info("%-14s %8.2f  (n=%d)", row.metric, row.value, row.n)
    with atomic_path(snakemake.output[0]) as part:
        predictions.to_parquet(part, index=False)
