"""One stage of Align-then-Unlearn: train the model at tau, then re-align the predictor on it."""

import tempfile
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file

from atu.files import atomic_path
from atu.hidden import HiddenStates, write_hidden_states
from atu.methods.atu import AlignmentData, AlignmentText, align, unlearn
from atu.models import load_llm, save_llm
from atu.predictor import EmbeddingPredictor
from atu.runtime import job_log, start
from atu.windows import WindowedCorpus


def realign(llm, corpora, seed):
    """Align the predictor on hidden states of the changed model, kept on local scratch meanwhile."""
    options = {key: value for key, value in params.align.items() if key not in ("steps", "steps_between")}
    with tempfile.TemporaryDirectory(dir=snakemake.resources.tmpdir) as scratch:
        parts = []
        for i, corpus in enumerate(corpora):
            with accelerator.autocast():
                write_hidden_states(llm, corpus, params.layer, Path(scratch, str(i)), params.precision)
            parts.append(AlignmentText(corpus, HiddenStates(Path(scratch, str(i)))))
        steps = params.align["steps_between"]
        return align(accelerator, predictor, AlignmentData(parts), seed=seed, steps=steps, **options)


with job_log(snakemake.log[0]) as log:
    params, stage = snakemake.params, int(snakemake.wildcards.stage)
    seed = 1000 * int(snakemake.wildcards.seed) + stage  # another order of batches in every stage
    accelerator = start(seed, snakemake.threads, params.device, params.precision)
    llm, tokenizer = load_llm(snakemake.input.llm, accelerator.device)
    predictor = EmbeddingPredictor.load(snakemake.input.predictor, accelerator.device)
    corpora = [WindowedCorpus.load(path) for path in snakemake.input.windows]
    if params.gradient_checkpointing:
        llm.gradient_checkpointing_enable()

    retain = None
    if snakemake.input.retained:
        pairs = zip(corpora[1:], snakemake.input.retained, strict=True)
        retain = AlignmentData([AlignmentText(corpus, HiddenStates(states)) for corpus, states in pairs])
    steps = unlearn(
        accelerator,
        llm,
        predictor,
        corpora[0],
        load_file(snakemake.input.target)["embedding"],
        layer=params.layer,
        tau=params.tau,
        seed=seed,
        retain=retain,
        **params.unlearn,
    )
    log.info("tau %s: similarity %.4f -> %.4f", params.tau, steps[0]["similarity"], steps[-1]["similarity"])
    frames = [pd.DataFrame(steps).assign(phase="unlearn")]
    with atomic_path(snakemake.output.llm) as part:
        save_llm(llm, tokenizer, part)
    if not params.last:  # nothing reads the predictor of the last stage
        steps = realign(llm, corpora, seed)
        log.info("alignment loss %.4f -> %.4f", steps[0]["loss"], steps[-1]["loss"])
        frames.append(pd.DataFrame(steps).assign(phase="align"))
    with atomic_path(snakemake.output.predictor) as part:
        predictor.save(part)
    with atomic_path(snakemake.output.steps) as part:
        pd.concat(frames).assign(tau=params.tau).to_csv(part, index=False)
