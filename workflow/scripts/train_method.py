"""Train the model with a method of one loss, epoch by epoch; every epoch's model is left for its evaluation.

If training diverges at one rate of a grid, each epoch is only a mark.
"""

import shutil
from pathlib import Path

import pandas as pd
import torch

from atu.common.divergence import mark_diverged, rate_of
from atu.common.errors import DivergedError
from atu.common.files import atomic_path, read_jsonl
from atu.common.memory import Memory
from atu.common.recipe import made_by
from atu.common.runtime import job_log, start
from atu.data.protocol import protocol_of
from atu.engine.examples import load_reference, read_items
from atu.engine.models import load_to_train, save_llm
from atu.engine.parts import layer_range
from atu.methods import load
from atu.training.epochs import train_epochs
from atu.training.several import run


def train(job, log):
    """All epochs, in each of the processes that train one model."""
    params, seed = job.params, int(job.wildcards.seed)
    settings = params.settings
    tracking, title = job.config["tracking"], str(Path(job.output.steps).parent)
    accelerator = start(seed, job.threads, params.device, params.precision, params.deterministic, tracking, title)
    layers, memory = layer_range(settings["layers"]), Memory(**params.memory)
    llm, trained, tokenizer = load_to_train(
        job.input.llm, accelerator.device, memory, settings["lora"], layers, params.get("template_options")
    )
    length, (protocol,) = settings["max_tokens"], map(protocol_of, params.protocol)
    rows = [read_jsonl(file) for file in job.input.texts]
    parts = [read_items(settings["texts"], of_person, tokenizer, length, protocol) for of_person in rows]
    items = [item for part in parts for item in part]
    others = [row for file in job.input.retain for row in read_jsonl(file)]
    files = job.input.reference
    references = [load_reference(*each) for each in zip(files, parts if files else [], strict=True)]
    name = job.wildcards.method
    with atomic_path(job.output.epochs) as part:
        try:
            with rate_of(f"{params.key[0]}.train.learning_rate"):
                steps = train_epochs(
                    accelerator,
                    llm,
                    load(settings["method"], **settings["options"]),
                    items,
                    texts=settings["texts"],
                    reference=torch.cat(references) if references else None,
                    retain_set=read_items("positive", others, tokenizer, length, protocol),
                    retain=settings["retain"],
                    seed=seed,
                    after_epoch=lambda epoch: save_llm(trained, tokenizer, part / str(epoch)),
                    title=name,
                    layers=layers,
                    memory=memory,
                    **settings["train"],
                )
        except DivergedError as error:
            if not params.in_grid[0]:
                raise
            log.warning("%s: this rate of the grid is marked, and never chosen", error)
            shutil.rmtree(part, ignore_errors=True)  # an epoch may have been kept after the step that broke it
            for epoch in range(1, settings["train"]["epochs"] + 1):
                mark_diverged(part / str(epoch), error, 1)
            steps = []
    if steps:
        log.info("loss %.4f -> %.4f", steps[0]["loss"], steps[-1]["loss"])
    with atomic_path(job.output.steps) as part:
        pd.DataFrame(steps, columns=None if steps else ["step", "loss", "epoch"]).to_csv(part, index=False)
    accelerator.end_training()


with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    count, places = snakemake.config["gpus_per_job"], {"device": snakemake.params.device}
    run(count, train, snakemake, log, **places, outputs=snakemake.output)
