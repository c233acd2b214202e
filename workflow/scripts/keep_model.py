"""A kept model as from_pretrained loads it: the weights, linked, with a card of what they are and score."""

import json
from pathlib import Path

import pandas as pd

from atu.common.divergence import divergence
from atu.common.files import atomic_path, link_tree
from atu.common.recipe import check_files, record
from atu.common.runtime import job_log
from atu.reporting.cards import model_card, score_table
from atu.reporting.tables import NOT_RUN, protocol_of_runs, read_predictions, why_collapsed

with job_log(snakemake.log[0]) as log:
    inputs, params, weights = snakemake.input, snakemake.params, Path(snakemake.input.weights)
    check_files(params.recipes)
    scores, why, asked = pd.DataFrame(), [], ""
    if inputs.after:
        asked = protocol_of_runs([{"files": [*inputs.before, *inputs.after]}]).sentence
        before, after = read_predictions(inputs.before), read_predictions(inputs.after)
        scores, why = score_table(before, after), why_collapsed(after, before, params.collapse["fluency_share"])
    stopped = weights / NOT_RUN
    card = model_card(
        dict(snakemake.wildcards),
        json.loads((weights / "provenance.json").read_text(encoding="utf-8")),
        scores,
        params.base,
        params.dataset,
        adapter=(weights / "adapter_config.json").exists(),
        not_run=json.loads(stopped.read_text())["first_stage_not_run"] if stopped.exists() else None,
        collapsed=why,
        diverged=divergence(weights),
        asked=asked,
    )
    with atomic_path(snakemake.output[0]) as part:
        link_tree(weights, part)
        (part / "recipe.json").unlink()  # linked: written to, it would change in both places
        (part / "README.md").write_text(str(card), encoding="utf-8")
    record(snakemake.output[0], params.recipe)
    log.info("%s: %d metrics", snakemake.output[0], len(scores))
