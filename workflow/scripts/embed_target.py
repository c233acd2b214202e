"""Embed the name of the concept to forget."""

from safetensors.torch import save_file

from atu.alignment.encoder import embed_name, load_encoder
from atu.common.files import atomic_path
from atu.common.recipe import made_by
from atu.common.runtime import job_log, start
from atu.data.benchmark import target_name

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    start(0, snakemake.threads, "cpu")
    encoder = load_encoder(snakemake.input.encoder, "cpu")
    name = target_name(snakemake.wildcards.target)
    log.info("embedding %r", name)
    with atomic_path(snakemake.output[0]) as part:
        save_file({"embedding": embed_name(encoder, name)}, part, metadata={"name": name})
