"""Fetch few-shot primers: strings of the benchmark's own source files, at a pinned commit."""

from atu.common.files import write_json
from atu.common.recipe import made_by
from atu.common.runtime import job_log
from atu.data.sources import fetch_literal

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, [], snakemake.output):
    primers = {}
    for name, source in snakemake.params.primers.items():
        primers[name] = fetch_literal(**source)
        log.info("%s: %d characters from %s", name, len(primers[name]), source["url"])
    write_json(snakemake.output[0], primers)
