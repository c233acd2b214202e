"""Fetch one model, check it, and leave it as a plain safetensors directory."""

from atu.checks import check_encoder
from atu.files import atomic_path
from atu.recipe import made_by
from atu.runtime import job_log
from atu.sources import fetch_model

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, [], snakemake.output):
    source = snakemake.params.source
    log.info("%s from %s", snakemake.wildcards.model, source)
    with atomic_path(snakemake.output[0]) as part:
        fetch_model(source, part)
        if snakemake.wildcards.model == snakemake.config["encoder"]:
            check_encoder(part)
