"""The figure of forgetting by type of attack, as PNG and PDF."""

import pandas as pd

from atu.figures import attacks, save_figure
from atu.runtime import job_log

with job_log(snakemake.log[0]) as log:
    figure = attacks(pd.read_csv(snakemake.input[0]))
    save_figure(figure, (snakemake.output.png, snakemake.output.pdf))
    log.info("drew %s", snakemake.output.png)
