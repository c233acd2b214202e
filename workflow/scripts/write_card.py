"""The model card of a kept model: beside the model, and the same as README.md inside it."""

import json
from pathlib import Path

import pandas as pd

from atu.common.divergence import divergence
from atu.common.files import atomic_path
from atu.common.recipe import check_files
from atu.common.runtime import job_log
from atu.reporting.cards import model_card, score_table
from atu.reporting.tables import NOT_RUN, read_outcomes, why_collapsed

with job_log(snakemake.log[0]) as log:
    inputs, params, model = snakemake.input, snakemake.params, Path(snakemake.input.model)
    check_files(params.recipes)
    scores, why = pd.DataFrame(), []
    if inputs.after:
        before, after = read_outcomes(inputs.before), read_outcomes(inputs.after)
        scores, why = score_table(before, after), why_collapsed(after, before, params.collapse["fluency_share"])
    stopped = model / NOT_RUN
    card = model_card(
        dict(snakemake.wildcards),
        json.loads((model / "provenance.json").read_text(encoding="utf-8")),
        scores,
        params.base,
        params.dataset,
        adapter=(model / "adapter_config.json").exists(),
        not_run=json.loads(stopped.read_text())["first_stage_not_run"] if stopped.exists() else None,
        collapsed=why,
        diverged=divergence(model),
    )
    for path in (model / "README.md", snakemake.output[0]):
        with atomic_path(path) as part:
            part.write_text(str(card), encoding="utf-8")
    log.info("described %s", model)
