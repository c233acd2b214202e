"""Train the embedding predictor on stored hidden states of the base model."""

from pathlib import Path

import pandas as pd

from atu.alignment.predictor import EmbeddingPredictor
from atu.common.divergence import rate_of
from atu.common.files import atomic_path
from atu.common.recipe import made_by
from atu.common.runtime import job_log, start
from atu.methods import load
from atu.methods.atu import AlignmentData, AlignmentText

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    params, seed = snakemake.params, int(snakemake.wildcards.seed)
    tracking, run = snakemake.config["tracking"], str(Path(snakemake.output.steps).parent)
    accelerator = start(seed, snakemake.threads, params.device, params.precision, params.deterministic, tracking, run)
    parts = [
        AlignmentText.load(windows, states)
        for windows, states in zip(snakemake.input.windows, snakemake.input.hidden_states, strict=True)
    ]
    sizes = {"input_size": parts[0].states.size, "output_size": parts[0].corpus.embeddings.shape[1]}
    predictor = EmbeddingPredictor(**sizes, **params.settings["predictor"]).to(accelerator.device)
    predictor.texts = [part.corpus.checksum for part in parts]
    settings = params.settings
    options = {key: value for key, value in settings["align"].items() if key != "steps_between"}
    with rate_of(f"{params.key[0]}.align.learning_rate"):
        steps = load(settings["method"]).align(accelerator, predictor, AlignmentData(parts), seed=seed, **options)
    log.info("alignment loss %.4f -> %.4f", steps[0]["loss"], steps[-1]["loss"])
    with atomic_path(snakemake.output.predictor) as part:
        predictor.save(part)
    with atomic_path(snakemake.output.steps) as part:
        pd.DataFrame(steps).assign(phase="align").to_csv(part, index=False)
    accelerator.end_training()
