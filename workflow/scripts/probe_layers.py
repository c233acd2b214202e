"""Run the prompts about the target and its neighbours through a model, and keep the hidden states of every layer."""

from pathlib import Path

import pandas as pd
import torch

from atu.common.divergence import divergence
from atu.common.files import atomic_path, read_parquet
from atu.common.recipe import fetched, made_by
from atu.common.runtime import job_log, start
from atu.data.benchmark import read_primers
from atu.data.protocol import PROTOCOL, protocol_of
from atu.engine.engine import Engine
from atu.engine.intervention import Intervention
from atu.evaluation.layers import COLUMNS, read_layers
from atu.reporting.tables import NOT_RUN

inputs, params, folder = snakemake.input, snakemake.params, snakemake.input.get("intervention")
optional = [each for each in (folder, inputs.get("base")) if each]
read = [inputs.llm, inputs.probes, *fetched(inputs.primers), *optional]
with job_log(snakemake.log[0]) as log, made_by(params.recipe, read, snakemake.output):
    diverged = divergence(Path(inputs.llm))
    if diverged or Path(inputs.llm, NOT_RUN).exists():
        log.warning("%s: no states are read", diverged or "this stage was not run, as one before it has collapsed")
        states = pd.DataFrame(columns=COLUMNS)
        states.attrs[PROTOCOL] = params.asking["protocol"]
    else:
        accelerator = start(0, snakemake.threads, params.device, params.precision, params.deterministic)
        dtype = torch.bfloat16 if params.precision == "bf16" else torch.float32
        how = params.asking["batch_tokens"], accelerator.device, dtype, params.get("template_options")
        engine = Engine.load(inputs.llm, *how, inputs.get("base") or None)
        intervention = Intervention.load(folder) if folder else Intervention()
        primers = read_primers(next(iter(inputs.primers), None))
        protocol = protocol_of(params.asking["protocol"])
        with intervention.applied(engine.llm):
            asked = read_parquet(inputs.probes), list(params.sets), primers
            states = read_layers(engine, *asked, intervention.instruction, protocol)
    log.info("%d probes, %d layers", states["id"].nunique(), states["layer"].nunique())
    with atomic_path(snakemake.output[0]) as part:
        states.to_parquet(part, index=False)
