"""One figure, as PNG, PDF and SVG: from the tables, or from the steps of training."""

import pandas as pd

from atu.common.recipe import check_files, read_table
from atu.common.runtime import job_log
from atu.reporting.figures import FIGURES, save_figure
from atu.reporting.tables import without_unchosen

with job_log(snakemake.log[0]) as log:
    params, inputs, name = snakemake.params, snakemake.input, snakemake.wildcards.figure
    check_files({path: recipe for run in params.runs for path, recipe in run["files"].items()})
    tables = {key: read_table(inputs[key], params.recipe) for key in dict(inputs.items()) if key != "steps"}
    if inputs.get("steps") is not None:
        runs = [{key: run[key] for key in ("target", "method", "seed", "stage")} for run in params.runs]
        files = [run["files"] for run in params.runs]
        frames = [pd.read_csv(file).assign(**run) for run, read in zip(runs, files, strict=True) for file in read]
        columns = ["target", "method", "stage", "step", "phase"]
        tables["steps"] = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    rates = tables.pop("learning_rates", None)
    for key in {"long", "steps"} & tables.keys():
        tables[key] = without_unchosen(tables[key], rates)
    save_figure(FIGURES[name](**tables, dev_targets=params.dev_targets), snakemake.output)
    log.info("drew %s", name)
