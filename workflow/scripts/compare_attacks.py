"""Recall before and under each attack, beside the base model's."""

from atu.common.files import atomic_path
from atu.common.recipe import check_files, read_table, record
from atu.common.runtime import job_log
from atu.data.attacks import COMPARED
from atu.data.probe_sets import PROBE_SETS
from atu.reporting.robustness import compare_attacks, counted_note, robustness_page, shares_at_end, verdict
from atu.reporting.tables import protocol_of_runs, reported, reported_runs

with job_log(snakemake.log[0]) as log:
    params, output = snakemake.params, snakemake.output
    check_files({path: recipe for run in params.runs for kind in COMPARED for path, recipe in run[kind].items()})
    protocol = protocol_of_runs([{"files": run[kind]} for run in params.runs for kind in COMPARED])
    rates = read_table(snakemake.input.learning_rates, params.recipe)
    table = compare_attacks(reported_runs(params.runs, rates, params.dev_targets), **params.bootstrap)
    shares = shares_at_end(reported(read_table(snakemake.input.collapsed, params.recipe), params.dev_targets))
    said = [verdict(table, shares), *counted_note(table), protocol.sentence]
    log.info("%s", said[0])
    parts = []
    for name in table["set"].unique():
        page = robustness_page(table, name, shares)
        parts.append(f"## {PROBE_SETS[name].label}\n\n{page.to_markdown(index=False)}\n")
    with atomic_path(output.long) as part:
        table.to_csv(part, index=False)
    with atomic_path(output.markdown) as part:
        part.write_text("\n".join([*parts, "\n\n".join(said)]) + "\n", encoding="utf-8")
    record(output.long, params.recipe)
