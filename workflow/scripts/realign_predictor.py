"""Align the predictor on the model of a stage: its hidden states are kept on local scratch meanwhile.

Of a model that was not reached or has collapsed nothing is learned: the predictor stays as it is.
"""

from pathlib import Path

import pandas as pd

from atu.alignment.hidden import HiddenStates, write_hidden_states
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
from atu.methods.atu import AlignmentData, AlignmentText
from atu.reporting.tables import NOT_RUN


def realign(inputs, params, seed, accelerator, scratch):
    """The predictor, trained, and the log of its steps."""
    llm, _ = load_llm(inputs.llm, accelerator.device)
    corpora = [WindowedCorpus.load(path) for path in inputs.windows]
    texts = [corpus.checksum for corpus in corpora]
    predictor = EmbeddingPredictor.load(inputs.predictor, texts, accelerator.device)
    settings = params.settings
    options = {key: value for key, value in settings["align"].items() if key not in ("steps", "steps_between")}
    with scratch_folder(scratch, "states") as folder:
        parts = []
        for i, corpus in enumerate(corpora):
            with accelerator.autocast():
                write_hidden_states(llm, corpus, settings["layer"], Path(folder, str(i)), params.precision)
            parts.append(AlignmentText(corpus, HiddenStates(Path(folder, str(i)), corpus)))
        options |= {"steps": settings["align"]["steps_between"], "seed": seed}
        with rate_of(f"{params.key[0]}.align.learning_rate"):
            steps = load(settings["method"]).align(accelerator, predictor, AlignmentData(parts), **options)
        for part in parts:
            part.states.close()
    return predictor, steps


def keep(outputs, write, steps=()):
    """Leave what ``write`` makes of a folder as the predictor, and the log of steps."""
    with atomic_path(outputs.predictor) as part:
        write(part)
    steps = list(steps)
    with atomic_path(outputs.steps) as part:
        pd.DataFrame(steps, columns=None if steps else ["step", "loss"]).assign(phase="align").to_csv(part, index=False)


with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    inputs, outputs, params = snakemake.input, snakemake.output, snakemake.params
    if said := divergence(Path(inputs.llm)):
        log.warning("%s: there is no model to align on", said)
        keep(outputs, lambda part: link_tree(inputs.predictor, part))
    elif Path(inputs.llm, NOT_RUN).exists():
        log.warning("this stage was not run, as one before it has collapsed: the predictor stays as it is")
        keep(outputs, lambda part: link_tree(inputs.predictor, part))
    else:
        seed = stage_seed(int(snakemake.wildcards.seed), params.stage)
        tracking, run = snakemake.config["tracking"], str(Path(outputs.steps).parent)
        accelerator = start(seed, snakemake.threads, params.device, params.precision, tracking, run)
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
