"""Count a benchmark's probes and compare them with the published counts."""

from atu.common.files import atomic_path
from atu.common.runtime import job_log
from atu.data.benchmark import BenchmarkError, count_probes, difference_from_published

with job_log(snakemake.log[0]) as log:
    counts = count_probes(snakemake.params.folder[0], snakemake.params.targets)
    log.info("\n%s", counts.to_string(index=False))
    if fault := difference_from_published(counts):
        if snakemake.params.refuse:
            raise BenchmarkError(f"{fault}. Restore the data, or set the benchmark's check_totals to false to go on")
        log.warning("%s; going on, as check_totals is false", fault)
    with atomic_path(snakemake.output[0]) as part:
        counts.to_csv(part, index=False)
