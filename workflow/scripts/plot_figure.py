"""One figure from the long table, as PNG and PDF."""

from pathlib import Path

from atu.common.recipe import read_table
from atu.common.runtime import job_log
from atu.reporting.figures import FIGURES, save_figure
from atu.reporting.tables import without_unchosen

with job_log(snakemake.log[0]) as log:
    name = Path(snakemake.output.png).stem
    recipe = snakemake.params.recipe
    long, collapsed, rates = (
        read_table(snakemake.input[key], recipe) for key in ("long", "collapsed", "learning_rates")
    )
    figure = FIGURES[name](without_unchosen(long, rates), snakemake.params.dev_targets, collapsed)
    save_figure(figure, (snakemake.output.png, snakemake.output.pdf))
    log.info("drew %s", name)
