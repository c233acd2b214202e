"""The figure of forgetting by type of attack, as PNG and PDF."""

from atu.breakdown import remarked
from atu.figures import attacks, save_figure
from atu.recipe import read_table
from atu.runtime import job_log

with job_log(snakemake.log[0]) as log:
    figure = attacks(remarked(read_table(snakemake.input[0], snakemake.params.recipe)))
    save_figure(figure, (snakemake.output.png, snakemake.output.pdf))
    log.info("drew %s", snakemake.output.png)
