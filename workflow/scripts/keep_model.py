"""A kept model as from_pretrained loads it: the weights, linked, with a card of what they are and score."""

import json
from pathlib import Path

import pandas as pd

from atu.common.divergence import divergence
from atu.common.files import atomic_path, link_tree
from atu.common.recipe import check_files, record
from atu.common.runtime import job_log, provenance
from atu.evaluation.collapse import why_collapsed
from atu.reporting.cards import model_card, score_table
from atu.reporting.tables import NOT_RUN, protocol_of_runs, read_predictions

with job_log(snakemake.log[0]) as log:
    inputs, params, weights = snakemake.input, snakemake.params, Path(snakemake.input.weights)
    check_files(params.recipes)
    scores, why, asked = pd.DataFrame(), [], ""
    if inputs.after:
        asked = protocol_of_runs([{"files": [*inputs.before, *inputs.after]}]).sentence
        before, after = read_predictions(inputs.before), read_predictions(inputs.after)
        scores, why = score_table(before, after), why_collapsed(after, before, params.collapse["fluency_share"])
    stopped = weights / NOT_RUN
    run, made = dict(snakemake.wildcards) | {"forgotten": params.forgotten}, weights / "provenance.json"
    card = model_card(
        run,
        json.loads(made.read_text(encoding="utf-8")) if made.exists() else provenance(run=run, **params.settings),
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
        for name in ("recipe.json", "README.md"):  # linked: written to, they would change in both places
            (part / name).unlink(missing_ok=True)
        (part / "README.md").write_text(str(card), encoding="utf-8")
    record(snakemake.output[0], params.recipe)
    log.info("%s: %d metrics", snakemake.output[0], len(scores))
