"""The methods at equal forgetting, with intervals."""

import math

from atu.common.files import atomic_path
from atu.common.names import display_name
from atu.common.recipe import check_files, read_table, record
from atu.common.runtime import job_log
from atu.data.attacks import COMPARED
from atu.reporting.curves import (
    COLLAPSED_NOTE,
    KEPT,
    attacks_note,
    marks_of,
    matched,
    under_attacks,
    with_attacks,
)
from atu.reporting.robustness import compare_attacks, counted_note, of_primary
from atu.reporting.tables import protocol_of_runs, remark, reported, reported_runs

with job_log(snakemake.log[0]) as log:
    params, output = snakemake.params, snakemake.output
    read = [run["files"] for run in params.runs] + [run[kind] for run in params.attacked for kind in COMPARED]
    check_files({path: recipe for files in read for path, recipe in files.items()})
    protocol_of_runs([{"files": files} for files in read])
    rates = read_table(snakemake.input.learning_rates, params.recipe)
    runs = reported_runs(params.runs, rates, params.dev_targets)
    collapsed = reported(read_table(snakemake.input.collapsed, params.recipe), params.dev_targets)
    table, marks, notes = matched(runs, **params.bootstrap), marks_of(runs, collapsed), []
    measures = list(table["measure"].unique())
    if params.attacked:
        attacks = compare_attacks(reported_runs(params.attacked, rates, params.dev_targets), **params.bootstrap)
        table, silent = with_attacks(table, attacks, runs)
        notes = [attacks_note(silent), *counted_note(of_primary(attacks))]
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
        called = {name: display_name(name) + remark(shares) for name, shares in marks.items()}
        notes += [COLLAPSED_NOTE] if any(marks[name]["collapsed"] for name in table["method"]) else []
        named = table.assign(cell=cells, method=table["method"].map(called))
        wide = named.pivot(index=["kept", "method"], columns="measure", values="cell")[measures]
        order = wide.sort_index(key=lambda names: names.map(KEPT.index) if names.name == "kept" else names)
        attacked = under_attacks(named).rename_axis("Method")
        tables = [order.reset_index(), *([attacked.reset_index()] if len(attacked.columns) else [])]
        text = "\n\n".join([*(shown.to_markdown(index=False) for shown in tables), *notes])
    with atomic_path(output.markdown) as part:
        part.write_text(text + "\n", encoding="utf-8")
    record(output.long, params.recipe)
