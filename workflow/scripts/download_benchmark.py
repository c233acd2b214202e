"""Fetch tables of a benchmark from the hub into RWKU's folder-per-target form."""

from atu.common.files import atomic_path
from atu.common.recipe import made_by
from atu.common.runtime import job_log
from atu.data.sources import fetch_tables

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, [], snakemake.output):
    params = snakemake.params
    log.info("%s at %s", params.source["repo"], params.source["revision"])
    with atomic_path(snakemake.output[0]) as part:
        part.mkdir()
        missing = fetch_tables(params.source, params.tables, params.targets, part, params.required)
    if missing:
        log.info("the dataset has no table for %s: skipped", ", ".join(missing))
