"""Fetch a benchmark from the hub into RWKU's folder-per-target form."""

from atu.files import atomic_path
from atu.runtime import job_log
from atu.sources import fetch_benchmark

with job_log(snakemake.log[0]) as log:
    source = snakemake.params.source
    log.info("%s at %s", source["repo"], source["revision"])
    with atomic_path(snakemake.output[0]) as part:
        fetch_benchmark(source, snakemake.params.targets, part)
