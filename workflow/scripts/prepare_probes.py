"""Normalise the probes of one subject into a typed table, with dev and test marked."""

from atu.common.files import atomic_path
from atu.common.recipe import fetched, made_by
from atu.common.runtime import job_log
from atu.data.benchmark import UTILITY, build_probes
from atu.evaluation.doubts import doubts

with (
    job_log(snakemake.log[0]) as log,
    made_by(snakemake.params.recipe, fetched(snakemake.input), snakemake.output),
):
    subject = snakemake.wildcards.subject
    target = None if subject == UTILITY else subject
    probes, missing = build_probes(snakemake.params.folder[0], target, **snakemake.params.split)
    log.info("%s: %s", subject, probes["set"].value_counts(sort=False).to_dict())
    if dev := int((probes["split"] == "dev").sum()):
        log.info("%d of %d are dev probes: tables and figures show the others", dev, len(probes))
    if missing:
        log.info("no file for %s: skipped", ", ".join(missing))
    for line in doubts(probes):
        log.warning("%s", line)
    with atomic_path(snakemake.output[0]) as part:
        probes.to_parquet(part, index=False)
