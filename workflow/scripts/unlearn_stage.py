"""One stage of Align-then-Unlearn: train the model at tau.

A stage behind one that has collapsed is not run: it passes the model on, marked. Where training diverges at one rate
of a grid, this stage and later ones leave a mark alone.
"""

from pathlib import Path

import pandas as pd

from atu.alignment.hidden import HiddenStates
from atu.alignment.predictor import EmbeddingPredictor
from atu.alignment.windows import WindowedCorpus
from atu.common.divergence import DIVERGED, divergence, mark_diverged, rate_of
from atu.common.errors import DivergedError
from atu.common.files import atomic_path, link_tree, read_tensors, write_json
from atu.common.recipe import made_by
from atu.common.runtime import job_log, stage_seed, start
from atu.engine.models import load_llm, save_llm
from atu.methods import load
from atu.methods.atu import AlignmentData, AlignmentText
from atu.reporting.tables import NOT_RUN, read_outcomes, why_collapsed


def collapsed_before(guard, llm, fluency_share):
    """By what the stage before this one has collapsed, in words; nothing if it has not."""
    if not guard or Path(llm, NOT_RUN).exists():
        return ["it was not run either"] if guard else []
    return why_collapsed(read_outcomes(guard[:1]), read_outcomes(guard[1:]), fluency_share)


def pass_on(inputs, outputs, stage):
    """Leave the collapsed model, or the mark of one that diverged, to the next stage as it is."""
    with atomic_path(outputs.llm) as part:
        link_tree(inputs.llm, part)
        if not any((part / mark).exists() for mark in (NOT_RUN, DIVERGED)):
            write_json(part / NOT_RUN, {"first_stage_not_run": stage})
    no_steps(outputs)


def give_up(outputs, error, stage):
    """Leave the mark of a rate at which training has diverged."""
    with atomic_path(outputs.llm) as part:
        mark_diverged(part, error, stage)
    no_steps(outputs)


def no_steps(outputs):
    with atomic_path(outputs.steps) as part:
        pd.DataFrame(columns=["step", "loss", "phase", "tau"]).to_csv(part, index=False)


def run_stage(inputs, outputs, params, seed, accelerator, log):
    llm, tokenizer = load_llm(inputs.llm, accelerator.device)
    corpora = [WindowedCorpus.load(path) for path in inputs.windows]
    texts = [corpus.checksum for corpus in corpora]
    predictor = EmbeddingPredictor.load(inputs.predictor, texts, accelerator.device)
    if params.gradient_checkpointing:
        llm.gradient_checkpointing_enable()

    retain = None
    if inputs.retained:
        pairs = zip(corpora[1:], inputs.retained, strict=True)
        retain = AlignmentData([AlignmentText(corpus, HiddenStates(states, corpus)) for corpus, states in pairs])
    settings = params.settings
    with rate_of(f"{params.key[0]}.unlearn.learning_rate"):
        steps = load(settings["method"]).unlearn(
            accelerator,
            llm,
            predictor,
            corpora[0],
            read_tensors(inputs.target)["embedding"],
            layer=settings["layer"],
            seed=seed,
            retain=retain,
            **settings["unlearn"],
        )
    tau = settings["unlearn"]["tau"]
    log.info("tau %s: similarity %.4f -> %.4f", tau, steps[0]["similarity"], steps[-1]["similarity"])
    with atomic_path(outputs.llm) as part:
        save_llm(llm, tokenizer, part)
    with atomic_path(outputs.steps) as part:
        pd.DataFrame(steps).assign(phase="unlearn", tau=tau).to_csv(part, index=False)


# what the guard reads was asked of the stage before, and bears on nothing but whether this one is run
read = [path for path in snakemake.input if path not in snakemake.input.guard]
with (
    job_log(snakemake.log[0]) as log,
    made_by(snakemake.params.recipe, read, snakemake.output),
):
    params, stage = snakemake.params, snakemake.params.stage
    if said := divergence(Path(snakemake.input.llm)):
        log.warning("%s: stage %d is not run", said, stage)
        pass_on(snakemake.input, snakemake.output, stage)
    elif said := divergence(Path(snakemake.input.predictor)):
        log.warning("%s: stage %d has no predictor", said, stage)
        give_up(snakemake.output, DivergedError(said), stage)
    elif why := collapsed_before(snakemake.input.guard, snakemake.input.llm, params.collapse["fluency_share"]):
        log.warning("the stage before has collapsed (%s): stage %d is not run", "; ".join(why), stage)
        pass_on(snakemake.input, snakemake.output, stage)
    else:
        seed = stage_seed(int(snakemake.wildcards.seed), stage)
        tracking, run = snakemake.config["tracking"], str(Path(snakemake.output.steps).parent)
        accelerator = start(seed, snakemake.threads, params.device, params.precision, tracking, run)
        try:
            run_stage(snakemake.input, snakemake.output, params, seed, accelerator, log)
        except DivergedError as error:
            if not params.in_grid[0]:
                raise
            log.warning("%s: this rate of the grid is marked, and never chosen", error)
            give_up(snakemake.output, error, stage)
        accelerator.end_training()
