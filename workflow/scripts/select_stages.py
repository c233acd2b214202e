"""The stage of each method that is chosen on dev probes, beside the last one."""

from atu.common.files import atomic_path
from atu.common.recipe import check_files, read_table, record
from atu.common.runtime import job_log
from atu.reporting.selection import choose_stages, explained, selected_table, settings_tried
from atu.reporting.tables import collect, damage_notes, guess_notes, mark_damaged, protocol_of_runs, without_unchosen

with job_log(snakemake.log[0]) as log:
    params, output = snakemake.params, snakemake.output
    check_files({path: recipe for run in params.runs for path, recipe in run["files"].items()})
    protocol = protocol_of_runs(params.runs)
    rates = read_table(snakemake.input.learning_rates, params.recipe)
    collapsed = read_table(snakemake.input.collapsed, params.recipe)
    long = without_unchosen(collect(params.runs, params.model, params.benchmark), rates)
    kept = params.selection["neighbour_kept"]
    choices = choose_stages(long, kept, params.dev_targets, settings_tried(rates))
    said = explained(long, choices, kept, params.dev_targets)
    log.info("%s\n%s", said, choices.to_string(index=False))
    table = mark_damaged(selected_table(long, choices, params.dev_targets, collapsed))
    blank = table.astype(object).where(table.notna(), None)  # tabulate prints None as missing, NaN as a number
    with atomic_path(output.long) as part:
        choices.to_csv(part, index=False)
    with atomic_path(output.markdown) as part:
        shown = blank.to_markdown(index=False, floatfmt=".1f", missingval="")
        notes = [*damage_notes(table), *guess_notes(params.runs, params.dev_targets)]
        paragraphs = [shown, said, protocol.sentence, *notes]
        part.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    record(output.long, params.recipe)
