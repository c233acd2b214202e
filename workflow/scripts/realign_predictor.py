"""Align the predictor on the kept model of a shorter run, for a run that continues from it.

If training has diverged, or stopped after a collapse, before reaching that model, the predictor stays as it is.
"""

from pathlib import Path

import pandas as pd

from atu.alignment.predictor import EmbeddingPredictor
from atu.alignment.windows import WindowedCorpus
from atu.common.divergence import divergence, mark_diverged, rate_of
from atu.common.errors import DivergedError
from atu.common.files import atomic_path, link_tree
from atu.common.leftovers import scratch_folder
from atu.common.recipe import made_by
from atu.common.runtime import job_log, stage_seed, start
from atu.engine.models import load_llm
from atu.methods import load
from atu.reporting.tables import NOT_RUN


def realign(inputs, params, seed, accelerator, scratch):
    """The predictor, trained, and the log of its steps."""
    llm, _ = load_llm(inputs.llm, accelerator.device)
    corpora = [WindowedCorpus.load(path) for path in inputs.windows]
    texts = [corpus.checksum for corpus in corpora]
    predictor = EmbeddingPredictor.load(inputs.predictor, texts, accelerator.device)
    settings = params.settings
    options = {"layer": settings["layer"], "precision": params.precision, "seed": seed} | settings["align"]
    with scratch_folder(scratch, "states") as folder, rate_of(f"{params.key[0]}.align.learning_rate"):
        return predictor, load(settings["method"]).realign(
            accelerator, llm, predictor, corpora, scratch=folder, **options
        )


def keep(outputs, write, steps=()):
    """Leave what ``write`` makes of a folder as the predictor, and the log of steps."""
    with atomic_path(outputs.predictor) as part:
        write(part)
    steps = pd.DataFrame(steps, columns=None if steps else ["step", "loss"]).assign(phase="align")
    with atomic_path(outputs.steps) as part:
        steps.to_csv(part, index=False)


with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    inputs, outputs, params = snakemake.input, snakemake.output, snakemake.params
    if divergence(Path(inputs.llm)) or Path(inputs.llm, NOT_RUN).exists():
        log.warning("training did not reach this stage: the predictor stays as it is")
        keep(outputs, lambda part: link_tree(inputs.predictor, part))
    else:
        seed = stage_seed(int(snakemake.wildcards.seed), params.stage)
        tracking, run = snakemake.config["tracking"], str(Path(outputs.steps).parent)
        accelerator = start(
            seed, snakemake.threads, params.device, params.precision, params.deterministic, tracking, run
        )
        try:
            predictor, steps = realign(inputs, params, seed, accelerator, snakemake.resources.tmpdir)
            log.info("alignment loss %.4f -> %.4f", steps[0]["loss"], steps[-1]["loss"])
            keep(outputs, predictor.save, steps)
        except DivergedError as error:
            if not params.in_grid[0]:
                raise
            log.warning("%s: this rate of the grid is marked, and never chosen", error)
            said = error
            keep(outputs, lambda part: mark_diverged(part, said, params.stage + 1))
        accelerator.end_training()
