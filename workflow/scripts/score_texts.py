"""Scores of groups of texts by a kept model, beside the base model, or by the base model alone."""

from pathlib import Path

import pandas as pd
import torch
from numpy import average

from atu.common.divergence import divergence
from atu.common.files import atomic_path, read_jsonl
from atu.common.recipe import made_by
from atu.common.runtime import job_log, start
from atu.engine.engine import Engine
from atu.engine.intervention import Intervention
from atu.evaluation.texts import COLUMNS, score_texts
from atu.reporting.tables import NOT_RUN


def scores(job):
    """The scores of all texts; texts of one group come one behind the other."""
    inputs, params = job.input, job.params
    accelerator = start(0, job.threads, params.device, params.precision, params.deterministic)
    dtype = torch.bfloat16 if params.precision == "bf16" else torch.float32
    how = *params.batch_tokens, accelerator.device, dtype
    files = iter(inputs.texts)
    groups = {
        group: {subject: read_jsonl(next(files)) for subject in subjects}
        for group, subjects in params.text_groups.items()
    }
    engine = Engine.load(inputs.llm, *how, params.get("template_options"), inputs.get("adapter_base") or None)
    base = Engine.load(inputs.base, *how) if inputs.get("base") else None  # texts go through no template
    intervention = Intervention.load(inputs.intervention) if inputs.get("intervention") else Intervention()
    with intervention.applied(engine.llm):
        return score_texts(engine, base, groups, params.max_tokens)


inputs = snakemake.input
models = filter(None, [inputs.get(name) for name in ("adapter_base", "base", "intervention")])
with (
    job_log(snakemake.log[0]) as log,
    made_by(snakemake.params.recipe, dict.fromkeys([inputs.llm, *inputs.texts, *models]), snakemake.output),
):
    diverged = divergence(Path(inputs.llm))
    if diverged or Path(inputs.llm, NOT_RUN).exists():
        log.warning("%s: there is no model to score texts with", diverged or "this stage was not run")
        table = pd.DataFrame(columns=COLUMNS)
    else:
        table = scores(snakemake)
    for name, group in table.groupby("group", sort=False):
        tokens = group["tokens"]
        log.info(
            "%-14s %d texts, %d tokens, KL %.4f", name, len(group), tokens.sum(), average(group["kl"], weights=tokens)
        )
    with atomic_path(snakemake.output[0]) as part:
        table.to_parquet(part, index=False)
