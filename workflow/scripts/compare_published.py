"""The published numbers beside ours, with intervals; a sentence says so where there is nothing to compare."""

import pandas as pd

from atu.common.files import atomic_path
from atu.common.recipe import check_files, read_table, record
from atu.common.runtime import job_log
from atu.data.publications import read_published
from atu.reporting.pages import table_page
from atu.reporting.published import compare, measure, published_page, sentences, shares_of_rows, unlike_notes
from atu.reporting.tables import NO_SPEECH_NOTE, protocol_of_runs, reported, reported_runs

with job_log(snakemake.log[0]) as log:
    inputs, params, output = snakemake.input, snakemake.params, snakemake.output
    check_files({path: recipe for run in params.runs for path, recipe in run["files"].items()})
    protocol = protocol_of_runs(params.runs)
    published = pd.DataFrame(read_published(inputs.published))
    rates = read_table(inputs.learning_rates, params.recipe)
    same = published if params.benchmark == params.measured_on else published.head(0)
    rows = set(same.loc[same["model"] == params.model, "method"])
    comparable = [run for run in params.runs if run["published_row"] in rows]
    runs = reported_runs(comparable, rates, params.dev_targets)
    ours = measure(runs, **params.bootstrap)
    collapsed = reported(read_table(inputs.collapsed, params.recipe), params.dev_targets)
    table = compare(same, ours, params.model, shares_of_rows(runs, collapsed))
    said = sentences(table, published, params.model, params.benchmark, params.measured_on)
    said += unlike_notes([run for run in params.runs if run.get("unlike", [None])[0] in rows])
    said += [NO_SPEECH_NOTE] if (table[["degenerate", "empty"]] > 0).any(axis=None) else []
    log.info("%s", " ".join(said))
    with atomic_path(output.long) as part:
        table.to_csv(part, index=False)
    page, notes = published_page(table), [*said, protocol.sentence, f"Published numbers: {params.source}."]
    body = page.to_markdown(index=False, disable_numparse=True) + "\n\n" if len(page) else ""
    for path, text in (
        (output.markdown, body + "\n\n".join(notes) + "\n"),
        (output.html, table_page(page, "Reproduced against published", notes)),
    ):
        with atomic_path(path) as part:
            part.write_text(text, encoding="utf-8")
    record(output.long, params.recipe)
