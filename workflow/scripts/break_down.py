"""Scores by type of probe, with intervals."""

from pathlib import Path

import pandas as pd

from atu.common.files import atomic_path
from atu.common.recipe import check_files, read_table, record
from atu.common.runtime import job_log
from atu.reporting.breakdown import MEMBERSHIP, READERS, by_type, separations, types_page
from atu.reporting.published import shares_of_rows
from atu.reporting.tables import REMARKED, protocol_of_runs, reported, reported_runs

with job_log(snakemake.log[0]) as log:
    params, output = snakemake.params, snakemake.output
    check_files({path: recipe for run in params.runs for path, recipe in run["files"].items()})
    protocol_of_runs(params.runs)
    rates = read_table(snakemake.input.learning_rates, params.recipe)
    runs = reported_runs(params.runs, rates, params.dev_targets)
    collapsed = reported(read_table(snakemake.input.collapsed, params.recipe), params.dev_targets)
    shares = shares_of_rows(runs, collapsed)
    kind = Path(output.long).stem
    table = by_type(runs, **params.bootstrap, read=READERS[kind])
    if kind == MEMBERSHIP:
        table = pd.concat([table, separations(runs, **params.bootstrap)], ignore_index=True)
    table = table.assign(**{name: table["run"].map(lambda run, name=name: shares[run][name]) for name in REMARKED})
    log.info("%d types of probes", table["type"].nunique())
    with atomic_path(output.long) as part:
        table.to_csv(part, index=False)
    with atomic_path(output.markdown) as part:
        part.write_text(types_page(table, params.heading).to_markdown(index=False) + "\n", encoding="utf-8")
    record(output.long, params.recipe)
