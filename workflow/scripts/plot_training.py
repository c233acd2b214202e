"""The figure of losses and similarities over the schedule, as PNG and PDF."""

import pandas as pd

from atu.common.recipe import check_files, read_table
from atu.common.runtime import job_log
from atu.reporting.figures import save_figure, training
from atu.reporting.tables import without_unchosen

with job_log(snakemake.log[0]) as log:
    params, output = snakemake.params, snakemake.output
    check_files(params.recipes)
    frames = [pd.read_csv(file).assign(**run) for file, run in zip(snakemake.input.steps, params.runs, strict=True)]
    columns = ["target", "method", "stage", "step", "phase"]
    steps = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    steps = without_unchosen(steps, read_table(snakemake.input.learning_rates, params.recipe))
    save_figure(training(steps, params.dev_targets), (output.png, output.pdf))
    log.info("drew %d steps of %d stages", len(steps), len(frames))
