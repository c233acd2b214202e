"""What unmodified models can do, before anything is unlearned: each model, by each protocol."""

import pandas as pd

from atu.common.files import atomic_path
from atu.common.recipe import check_files, record
from atu.common.runtime import job_log
from atu.data.publications import read_published
from atu.reporting.before import before_page, notes, score_before
from atu.reporting.tables import protocol_of_runs, read_predictions, reported

with job_log(snakemake.log[0]) as log:
    params, output = snakemake.params, snakemake.output
    check_files({path: recipe for run in params.runs for path, recipe in run["files"].items()})
    published, others = (pd.DataFrame(read_published(path)) for path in snakemake.input.published)
    if params.benchmark != params.measured_on:
        published, others = published.head(0), others.head(0)
    tables, said = [], []
    for (model, protocol), rows in reported(pd.DataFrame(params.runs), params.dev_targets).groupby(
        ["model", "protocol"], sort=False
    ):
        sentence = protocol_of_runs(rows.to_dict("records")).sentence
        predictions = [read_predictions(files) for files in rows["files"]]
        table = score_before(predictions, published, model, **params.bootstrap, others=others)
        tables.append(table.assign(model=model, protocol=protocol))
        # a paragraph each: what is said of one is not of the others
        said.append(" ".join([*notes(table, predictions, model, params.benchmark, protocol), sentence]))
    table = pd.concat(tables, ignore_index=True)
    log.info("\n%s", table.to_string(index=False))
    with atomic_path(output.long) as part:
        table.to_csv(part, index=False)
    with atomic_path(output.markdown) as part:
        text = before_page(table).to_markdown(index=False, disable_numparse=True)
        part.write_text("\n\n".join([text, *said]) + "\n", encoding="utf-8")
    record(output.long, params.recipe)
