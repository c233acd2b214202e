"""One stage of Align-then-Unlearn: train the model at tau, then align the predictor on it again, if a stage follows.

A stage after a collapsed one is not run: it passes the model on, with a mark. If training diverges at one rate of a
grid, this stage and later ones leave only a mark.
"""

from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open

from atu.alignment.hidden import HiddenStates
from atu.alignment.mentions import near_mentions
from atu.alignment.predictor import EmbeddingPredictor
from atu.alignment.windows import WindowedCorpus
from atu.common.divergence import DIVERGED, divergence, mark_diverged, rate_of
from atu.common.errors import DivergedError
from atu.common.files import atomic_path, link_tree, read_tensors, write_json
from atu.common.leftovers import scratch_folder
from atu.common.memory import Memory
from atu.common.recipe import made_by
from atu.common.runtime import job_log, provenance, stage_seed, start
from atu.engine.models import load_to_train, merge_adapters, save_llm
from atu.engine.parts import layer_range
from atu.evaluation.collapse import why_collapsed
from atu.methods import load
from atu.methods.atu import AlignmentData, AlignmentText, Mentions
from atu.reporting.tables import NOT_RUN, read_predictions
from atu.training.several import run


def collapsed_before(guard, normal, llm, fluency_share):
    """The reasons why the stage before has collapsed, in words; none if it has not."""
    if not guard or Path(llm, NOT_RUN).exists():
        return ["it was not run either"] if guard else []
    return why_collapsed(read_predictions(guard), read_predictions(normal), fluency_share)


def keep(job, write, steps=()):
    """Leave what ``write`` makes of a folder as the model, and the log of steps."""
    with atomic_path(job.output.llm) as part:
        write(part)
        if not job.output.get("predictor"):
            run = dict(job.wildcards)
            write_json(part / "provenance.json", provenance(run=run, **job.params.settings))
    steps = pd.DataFrame(steps, columns=None if len(steps) else ["step", "loss", "phase", "tau"])
    with atomic_path(job.output.steps) as part:
        steps.to_csv(part, index=False)


def keep_predictor(job, write):
    """Leave what ``write`` makes of a folder as the predictor, if a stage follows."""
    if job.output.get("predictor"):
        with atomic_path(job.output.predictor) as part:
            write(part)


def pass_on(job):
    """Leave the collapsed model, or the mark of one that diverged, to the next stage as it is."""

    def marked(part):
        link_tree(job.input.llm, part)
        (part / "provenance.json").unlink(missing_ok=True)  # linked, of a shorter run
        if not any((part / mark).exists() for mark in (NOT_RUN, DIVERGED)):
            write_json(part / NOT_RUN, {"first_stage_not_run": job.params.stage})

    keep(job, marked)
    keep_predictor(job, lambda part: link_tree(job.input.predictor, part))


def give_up(job, error):
    """Leave the mark of a rate at which training has diverged."""
    keep(job, lambda part: mark_diverged(part, error, job.params.stage))
    keep_predictor(job, lambda part: link_tree(job.input.predictor, part))


def retain_data(corpora, states):
    """Texts with hidden states of the model at the start; None if the loss does not read them."""
    if not states:
        return None
    pairs = zip(corpora, states, strict=True)
    return AlignmentData([AlignmentText(corpus, HiddenStates(path, corpus)) for corpus, path in pairs])


def mentions(job, corpora, tokenizer):
    """The tokens to which the loss keeps, for each person; None if it reads all of them."""
    width, own = job.params.settings["unlearn"]["near_mentions"], job.input.own
    if not width:
        return None
    found = []
    for i, (path, corpus) in enumerate(zip(job.input.targets, corpora, strict=True)):
        with safe_open(path, framework="pt") as file:
            name = file.metadata()["name"]
        near = near_mentions(corpus, tokenizer, name, width)
        found.append(Mentions.of(near, corpus, retain_data([corpus], own[i : i + 1])))
    return found


def run_stage(job, seed, accelerator, log):
    inputs, params = job.input, job.params
    settings, tau = params.settings, params.tau
    unlearning, memory = settings["unlearn"], Memory(**params.memory)
    layers = layer_range(unlearning["layers"])
    below = range(settings["layer"]) if layers is None else layers  # no adapter lies above the hook
    how = memory, unlearning["lora"], below
    # adapters draw their first weights; later draws must be as without adapters, and as in a job of its own
    with torch.random.fork_rng():
        llm, trained, tokenizer = load_to_train(inputs.llm, accelerator.device, *how)
    corpora = [WindowedCorpus.load(path) for path in inputs.windows]
    texts = [corpus.checksum for corpus in corpora]
    predictor = EmbeddingPredictor.load(inputs.predictor, texts, accelerator.device)

    method = load(settings["method"])
    # the alignment after it must draw as in a job of its own, since a longer run may continue from a kept model
    with rate_of(f"{params.key[0]}.unlearn.learning_rate"), torch.random.fork_rng():
        steps = method.unlearn(
            accelerator,
            llm,
            predictor,
            corpora[: len(inputs.targets)],
            torch.stack([read_tensors(path)["embedding"] for path in inputs.targets]),
            layer=settings["layer"],
            seed=seed,
            retain=retain_data(corpora[len(inputs.targets) :], inputs.retained),
            mentions=mentions(job, corpora[: len(inputs.targets)], tokenizer),
            memory=memory,
            **{key: value for key, value in unlearning.items() if key not in ("lora", "near_mentions")}
            | {"tau": tau, "layers": layers},
        )
    log.info("tau %s: similarity %.4f -> %.4f", tau, steps[0]["similarity"], steps[-1]["similarity"])
    adapts, several = bool(unlearning["lora"]["rank"]), accelerator.num_processes > 1
    if adapts and not several:  # before the alignment, which is on the model that is kept
        llm = merge_adapters(llm, trained, memory, accelerator.device)
    frames = [pd.DataFrame(steps).assign(phase="unlearn")]
    if job.output.get("predictor"):
        options = {"layer": settings["layer"], "precision": params.precision, "seed": seed}
        options |= {"tracked_before": len(steps)} | settings["align"]
        with (
            scratch_folder(job.resources.tmpdir, "states") as scratch,
            rate_of(f"{params.key[0]}.align.learning_rate"),
        ):
            steps = method.realign(accelerator, llm, predictor, corpora, scratch=scratch, **options)
        log.info("alignment loss %.4f -> %.4f", steps[0]["loss"], steps[-1]["loss"])
        frames.append(pd.DataFrame(steps).assign(phase="align"))
    if adapts and several:  # shards compute nothing any more once they are put together
        llm = merge_adapters(llm, trained, memory, accelerator.device)
    keep(job, lambda part: save_llm(llm, tokenizer, part), pd.concat(frames).assign(tau=tau))
    keep_predictor(job, predictor.save)


def unlearn(job, log):
    """One stage, in each of the processes that train one model."""
    params, seed = job.params, stage_seed(int(job.wildcards.seed), job.params.stage)
    tracking, title = job.config["tracking"], str(Path(job.output.steps).parent)
    accelerator = start(seed, job.threads, params.device, params.precision, params.deterministic, tracking, title)
    try:
        run_stage(job, seed, accelerator, log)
    except DivergedError as error:
        if not params.in_grid[0]:
            raise
        log.warning("%s: this rate of the grid is marked, and never chosen", error)
        give_up(job, error)
    accelerator.end_training()


# what the guard reads was asked of the stage before, and bears on nothing but whether this one is run
judged_by = [*snakemake.input.guard, *snakemake.input.normal]
read = [path for path in snakemake.input if path not in judged_by]
with (
    job_log(snakemake.log[0]) as log,
    made_by(snakemake.params.recipe, read, snakemake.output),
):
    job, inputs, params = snakemake, snakemake.input, snakemake.params
    if said := divergence(Path(inputs.llm)):
        log.warning("%s: stage %d is not run", said, params.stage)
        pass_on(job)
    elif said := divergence(Path(inputs.predictor)):
        log.warning("%s: stage %d has no predictor", said, params.stage)
        give_up(job, DivergedError(said))
    elif why := collapsed_before(inputs.guard, inputs.normal, inputs.llm, params.collapse["fluency_share"]):
        log.warning("the stage before has collapsed (%s): stage %d is not run", "; ".join(why), params.stage)
        pass_on(job)
    else:
        run(job.config["gpus_per_job"], unlearn, job, log, device=job.params.device, outputs=job.output)
