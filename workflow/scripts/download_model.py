"""Fetch one model, check it, and leave it as a plain safetensors directory."""

from atu.common.files import atomic_path
from atu.common.recipe import made_by
from atu.common.runtime import job_log
from atu.data.sources import fetch_model
from atu.engine.checks import check_encoder, describe_llm
from atu.engine.models import ModelError
from atu_pipeline.settings import unmet_needs

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, [], snakemake.output):
    source = snakemake.params.source
    log.info("%s from %s", snakemake.wildcards.model, source)
    with atomic_path(snakemake.output[0]) as part:
        fetch_model(source, part)
        if "encoder" in snakemake.params.roles:
            check_encoder(part)
        if "llm" in snakemake.params.roles:
            described = describe_llm(part, *snakemake.params.template_options)
            if faults := unmet_needs(snakemake.params.needs, described):
                raise ModelError("; ".join(faults))
