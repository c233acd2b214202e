"""Count a benchmark's probes and compare them with the published counts."""

from atu.benchmark import check_counts, count_probes
from atu.files import atomic_path
from atu.runtime import job_log

with job_log(snakemake.log[0]) as log:
    counts = count_probes(snakemake.params.folder, snakemake.params.targets)
    log.info("\n%s", counts.to_string(index=False))
    check_counts(counts)
    with atomic_path(snakemake.output[0]) as part:
        counts.to_csv(part, index=False)
