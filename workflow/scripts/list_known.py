"""Which forget and neighbour probes the base model can answer."""

import pandas as pd

from atu.common.files import atomic_path
from atu.common.recipe import check_files, record
from atu.common.runtime import job_log
from atu.reporting.tables import known_probes, read_predictions

with job_log(snakemake.log[0]) as log:
    check_files(snakemake.params.recipes)
    frames = [
        known_probes(read_predictions([file])).assign(target=target)
        for target, file in zip(snakemake.params.targets, snakemake.input, strict=True)
    ]
    known = pd.concat(frames)
    log.info("answered before unlearning:\n%s", known.groupby(["target", "set"])["known"].mean().unstack().round(2))
    with atomic_path(snakemake.output[0]) as part:
        known.to_csv(part, index=False)
    record(snakemake.output[0], snakemake.params.recipe)
