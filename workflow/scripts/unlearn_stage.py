"""One stage of Align-then-Unlearn: train the model at tau, then re-align the predictor on it.

A stage behind one that has collapsed is not run: it passes the model on, marked. Where training diverges at one rate
of a grid, this stage and later ones leave a mark alone.
"""

from pathlib import Path

import pandas as pd

from atu.alignment.hidden import HiddenStates, write_hidden_states
from atu.alignment.predictor import EmbeddingPredictor
from atu.alignment.windows import WindowedCorpus
from atu.common.divergence import DIVERGED, divergence, mark_diverged, rate_of
from atu.common.errors import DivergedError
from atu.common.files import atomic_path, link_tree, read_tensors, write_json
from atu.common.leftovers import scratch_folder
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
    for name in ("llm", "predictor"):
        with atomic_path(outputs[name]) as part:
            link_tree(inputs[name], part)
            if name == "llm" and not any((part / mark).exists() for mark in (NOT_RUN, DIVERGED)):
                write_json(part / NOT_RUN, {"first_stage_not_run": stage})
    no_steps(outputs)


def give_up(inputs, outputs, error, stage):
    """Leave the mark of a rate at which training has diverged."""
    with atomic_path(outputs.llm) as part:
        mark_diverged(part, error, stage)
    with atomic_path(outputs.predictor) as part:
        link_tree(inputs.predictor, part)
    no_steps(outputs)


def no_steps(outputs):
    with atomic_path(outputs.steps) as part:
        pd.DataFrame(columns=["step", "loss", "phase", "tau"]).to_csv(part, index=False)


def realign(accelerator, llm, predictor, corpora, seed, params, scratch, tracked_before):
    """Align the predictor on hidden states of the changed model, kept on local scratch meanwhile."""
    options = {key: value for key, value in params.align.items() if key not in ("steps", "steps_between")}
    with scratch_folder(scratch, "states") as folder:
        parts = []
        for i, corpus in enumerate(corpora):
            with accelerator.autocast():
                write_hidden_states(llm, corpus, params.layer, Path(folder, str(i)), params.precision)
            parts.append(AlignmentText(corpus, HiddenStates(Path(folder, str(i)), corpus)))
        options |= {"steps": params.align["steps_between"], "tracked_before": tracked_before}
        with rate_of(f"{params.key}.align.learning_rate"):
            steps = load(params.method).align(accelerator, predictor, AlignmentData(parts), seed=seed, **options)
        for part in parts:
            part.states.close()
        return steps


def run_stage(inputs, outputs, params, seed, accelerator, scratch, log):
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
    with rate_of(f"{params.key}.unlearn.learning_rate"):
        steps = load(params.method).unlearn(
            accelerator,
            llm,
            predictor,
            corpora[0],
            read_tensors(inputs.target)["embedding"],
            layer=params.layer,
            tau=params.tau,
            seed=seed,
            retain=retain,
            **params.unlearn,
        )
    log.info("tau %s: similarity %.4f -> %.4f", params.tau, steps[0]["similarity"], steps[-1]["similarity"])
    frames = [pd.DataFrame(steps).assign(phase="unlearn")]
    with atomic_path(outputs.llm) as part:
        save_llm(llm, tokenizer, part)
    if not params.last:  # nothing reads the predictor of the last stage
        steps = realign(accelerator, llm, predictor, corpora, seed, params, scratch, len(steps))
        log.info("alignment loss %.4f -> %.4f", steps[0]["loss"], steps[-1]["loss"])
        frames.append(pd.DataFrame(steps).assign(phase="align"))
    with atomic_path(outputs.predictor) as part:
        predictor.save(part)
    with atomic_path(outputs.steps) as part:
        pd.concat(frames).assign(tau=params.tau).to_csv(part, index=False)


# what the guard reads was asked of the stage before, and bears on nothing but whether this one is run
read = [path for path in snakemake.input if path not in snakemake.input.guard]
with (
    job_log(snakemake.log[0]) as log,
    made_by(snakemake.params.recipe, read, snakemake.output),
):
    params, stage = snakemake.params, int(snakemake.wildcards.stage)
    if said := divergence(Path(snakemake.input.llm)):
        log.warning("%s: stage %d is not run", said, stage)
        pass_on(snakemake.input, snakemake.output, stage)
    elif why := collapsed_before(snakemake.input.guard, snakemake.input.llm, params.collapse["fluency_share"]):
        log.warning("the stage before has collapsed (%s): stage %d is not run", "; ".join(why), stage)
        pass_on(snakemake.input, snakemake.output, stage)
    else:
        seed = stage_seed(int(snakemake.wildcards.seed), stage)
        tracking, run = snakemake.config["tracking"], str(Path(snakemake.output.steps).parent)
        accelerator = start(seed, snakemake.threads, params.device, params.precision, tracking, run)
        scratch = snakemake.resources.tmpdir
        try:
            run_stage(snakemake.input, snakemake.output, params, seed, accelerator, scratch, log)
        except DivergedError as error:
            if not params.in_grid:
                raise
            log.warning("%s: this rate of the grid is marked, and never chosen", error)
            give_up(snakemake.input, snakemake.output, error, stage)
        accelerator.end_training()
