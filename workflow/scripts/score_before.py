"""What the base model can do, before anything is unlearned."""

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
    counted = reported(pd.DataFrame(params.runs), params.dev_targets)
    protocol = protocol_of_runs(params.runs)
    predictions = [read_predictions(files) for files in counted["files"]]
    published = pd.DataFrame(read_published(snakemake.input.published))
    same = published if params.benchmark == params.measured_on else published.head(0)
    table = score_before(predictions, same, params.model, **params.bootstrap)
    log.info("\n%s", table.to_string(index=False))
    with atomic_path(output.long) as part:
        table.to_csv(part, index=False)
    said = [*notes(table, predictions, params.model, params.benchmark), protocol.sentence]
    with atomic_path(output.markdown) as part:
        text = before_page(table).to_markdown(index=False, disable_numparse=True)
        part.write_text("\n\n".join([text, *said]) + "\n", encoding="utf-8")
    record(output.long, params.recipe)
