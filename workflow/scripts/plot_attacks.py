"""The figure of forgetting by type of attack, as PNG and PDF."""

from atu.common.recipe import read_table
from atu.common.runtime import job_log
from atu.reporting.breakdown import remarked
from atu.reporting.figures import attacks, save_figure

with job_log(snakemake.log[0]) as log:
    figure = attacks(remarked(read_table(snakemake.input[0], snakemake.params.recipe)))
    save_figure(figure, (snakemake.output.png, snakemake.output.pdf))
    log.info("drew %s", snakemake.output.png)
