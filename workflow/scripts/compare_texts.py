"""Scores of groups of texts by the kept models, beside the base model's."""

from atu.common.files import atomic_path
from atu.common.recipe import check_files, read_table, record
from atu.common.runtime import job_log
from atu.data.text_scores import SCORED
from atu.reporting.robustness import shares_at_end
from atu.reporting.tables import reported, reported_runs
from atu.reporting.texts import compare_texts, explained, text_scores_page

with job_log(snakemake.log[0]) as log:
    params, output = snakemake.params, snakemake.output
    check_files({path: recipe for run in params.runs for kind in SCORED for path, recipe in run[kind].items()})
    rates = read_table(snakemake.input.learning_rates, params.recipe)
    table = compare_texts(reported_runs(params.runs, rates, params.dev_targets), **params.bootstrap)
    shares = shares_at_end(reported(read_table(snakemake.input.collapsed, params.recipe), params.dev_targets))
    parts = []
    for name in table["group"].unique():
        page, said = text_scores_page(table, name, shares), explained(table, name, params.groups[name])
        log.info("%s: %s", name, said)
        parts.append(f"## {name}\n\n{said}\n\n{page.to_markdown(index=False)}\n")
    with atomic_path(output.long) as part:
        table.to_csv(part, index=False)
    with atomic_path(output.markdown) as part:
        part.write_text("\n".join(parts) or "No model was there to score texts with.\n", encoding="utf-8")
    record(output.long, params.recipe)
