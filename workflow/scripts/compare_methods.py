"""The methods at equal forgetting, with intervals."""

import math

from atu.common.files import atomic_path
from atu.common.names import display_name
from atu.common.recipe import check_files, read_table, record
from atu.common.runtime import job_log
from atu.reporting.curves import KEPT, foreign_shares, matched
from atu.reporting.tables import protocol_of_runs, remark, reported_runs

with job_log(snakemake.log[0]) as log:
    params, output = snakemake.params, snakemake.output
    check_files({path: recipe for run in params.runs for path, recipe in run["files"].items()})
    protocol_of_runs(params.runs)
    rates = read_table(snakemake.input.learning_rates, params.recipe)
    runs = reported_runs(params.runs, rates, params.dev_targets)
    table, foreign = matched(runs, **params.bootstrap), foreign_shares(runs)
    log.info("\n%s", table.to_string(index=False))
    with atomic_path(output.long) as part:
        table.to_csv(part, index=False)
    if table.empty:
        text = "Nothing that should be kept was asked both before and after, so methods cannot be compared."
    else:
        cells = [
            f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" if math.isfinite(row.value) else "never"
            for row in table.itertuples()
        ]
        called = {name: display_name(name) + remark({"foreign": share}) for name, share in foreign.items()}
        wide = table.assign(cell=cells, method=table["method"].map(called))
        wide = wide.pivot(index=["kept", "method"], columns="measure", values="cell")
        wide = wide[list(table["measure"].unique())]
        order = wide.sort_index(key=lambda names: names.map(KEPT.index) if names.name == "kept" else names)
        text = order.reset_index().to_markdown(index=False)
    with atomic_path(output.markdown) as part:
        part.write_text(text + "\n", encoding="utf-8")
    record(output.long, params.recipe)
