"""The figure of forgetting by type of attack, as PNG and PDF."""

import pandas as pd

from atu.figures import attacks
from atu.files import atomic_path
from atu.runtime import job_log

with job_log(snakemake.log[0]) as log:
    figure = attacks(pd.read_csv(snakemake.input[0]))
    for path in (snakemake.output.png, snakemake.output.pdf):
        with atomic_path(path) as part:
            # no creation date: the same table gives the same file
            figure.savefig(part, metadata={"CreationDate": None} if path.endswith(".pdf") else None)
    log.info("drew %s", snakemake.output.png)
