"""Ask a model the probes and keep every prompt, answer and score."""

from pathlib import Path

import pandas as pd
import torch

from atu.benchmark import read_primers
from atu.evaluation import evaluate
from atu.files import atomic_path
from atu.intervention import Intervention
from atu.models import load_llm
from atu.runtime import job_log, start
from atu.tables import NOT_RUN, summarize

with job_log(snakemake.log[0]) as log:
    params, checkpoint = snakemake.params, Path(snakemake.input.llm, snakemake.params.inside)
    sets = list(params.sets)
    if (checkpoint / NOT_RUN).exists():
        log.warning("this stage was not run, as one before it has collapsed: nothing is asked")
        sets = []
    accelerator = start(0, snakemake.threads, params.device, params.precision)
    dtype = torch.bfloat16 if params.precision == "bf16" else torch.float32
    llm, tokenizer = load_llm(checkpoint, accelerator.device, dtype, params.get("template_options"))
    folder = snakemake.input.get("intervention")
    intervention = Intervention.load(folder) if folder else Intervention()
    probes = pd.concat([pd.read_parquet(file) for file in snakemake.input.probes], ignore_index=True)
    primers = read_primers(next(iter(snakemake.input.primers), None))
    limits = (params.batch_tokens, params.max_new_tokens)
    with intervention.applied(llm):
        outcomes = evaluate(llm, tokenizer, probes, sets, primers, *limits, intervention.instruction)
    for row in summarize(outcomes).query("split == 'all'").itertuples():
        log.info("%-14s %8.2f  (n=%d)", row.metric, row.value, row.n)
    with atomic_path(snakemake.output[0]) as part:
        outcomes.to_parquet(part, index=False)
