"""All predictions in long form, and the paper's table in Markdown, LaTeX and HTML."""

from atu.common.files import atomic_path, write_json
from atu.common.recipe import check_files, record
from atu.common.runtime import job_log, provenance
from atu.reporting.pages import table_page
from atu.reporting.tables import (
    NO_SPEECH,
    NO_SPEECH_NOTE,
    choose_rates,
    collect,
    damage_notes,
    find_collapsed,
    find_diverged,
    find_fallen,
    find_unreached,
    guess_notes,
    main_table,
    mark_damaged,
    protocol_of_runs,
    to_latex,
    without_unchosen,
)

with job_log(snakemake.log[0]) as log:
    params, output = snakemake.params, snakemake.output
    check_files({path: recipe for run in params.runs for path, recipe in run["files"].items()})
    protocol = protocol_of_runs(params.runs)
    long = collect(params.runs, params.model, params.benchmark)
    log.info("%d numbers of %d runs", len(long), len(params.runs))
    collapsed = find_collapsed(params.runs, params.collapse["fluency_share"])
    for row in collapsed[collapsed["collapsed"]].itertuples():
        log.warning("collapsed: %s, %s, seed %s, stage %s (%s)", row.target, row.method, row.seed, row.stage, row.why)
    diverged = find_diverged(params.runs, params.grids, params.dev_targets)
    unreached = find_unreached(params.runs, params.grids, params.dev_targets)
    fallen = find_fallen(collapsed, params.grids, params.dev_targets)
    rates = choose_rates(long, params.grids, params.dev_targets, diverged, unreached, fallen)
    for variant in sorted(diverged):
        log.warning("%s: training has diverged; it is not among those that are chosen from", variant)
    for variant in sorted(fallen - diverged):
        log.warning("%s: a run has collapsed; it is chosen only if there is no other", variant)
    for row in rates[rates["chosen"]].itertuples():
        log.info("%s: %s, chosen on dev probes (score %.2f)", row.method, row.settings, row.score)
    table = mark_damaged(main_table(without_unchosen(long, rates), params.dev_targets, collapsed))
    blank = table.astype(object).where(table.notna(), None)  # tabulate prints None as missing, NaN as a number
    with atomic_path(output.long) as part:
        long.to_csv(part, index=False)
    with atomic_path(output.learning_rates) as part:
        rates.to_csv(part, index=False)
    with atomic_path(output.collapsed) as part:
        collapsed.to_csv(part, index=False)
    notes = [*damage_notes(table), *guess_notes(params.runs, params.dev_targets)]
    said = [protocol.sentence, *notes] + ([NO_SPEECH_NOTE] if {*NO_SPEECH.values()} & {*table} else [])
    shown = blank.to_markdown(index=False, floatfmt=".1f", missingval="")
    for path, text in (
        (output.markdown, "\n\n".join([shown, protocol.sentence, *notes]) + "\n"),
        (output.latex, to_latex(table)),
        (output.html, table_page(table, params.title, said)),
    ):
        with atomic_path(path) as part:
            part.write_text(text, encoding="utf-8")
    for path in (output.long, output.collapsed, output.learning_rates):
        record(path, params.recipe)
    kept = ("target", "method", "seed", "stage", "tau", "run")
    runs = [
        {key: run.get(key) for key in kept} | {"files": list(run["files"])} for run in [*params.runs, *params.steps]
    ]
    made = provenance(**params.config | params.chosen)
    write_json(output.provenance, made | {"protocol": protocol.name, "runs": runs})
