"""The first page of the report: what the tables show in sentences, the main table, and the trade-off."""

from pathlib import Path

from atu.common.files import atomic_path
from atu.common.recipe import read_table
from atu.common.runtime import job_log
from atu.reporting.front import findings, front_page
from atu.reporting.tables import damage_notes, main_table, mark_damaged, scope, without_unchosen

with job_log(snakemake.log[0]) as log:
    inputs, params = snakemake.input, snakemake.params
    tables = {key: read_table(inputs[key], params.recipe) for key in ("long", "collapsed", "learning_rates")}
    long, collapsed = (without_unchosen(tables[key], tables["learning_rates"]) for key in ("long", "collapsed"))
    said = findings(long, params.dev_targets, collapsed)
    log.info("%s", " ".join(said))
    table = mark_damaged(main_table(long, params.dev_targets, collapsed))
    notes = [scope(long, params.dev_targets), *damage_notes(table)]
    title = f"{params.name or 'Results'}: {params.model} on {params.benchmark}"
    page = front_page(title, said, table, notes, Path(inputs.figure).read_text(encoding="utf-8"))
    with atomic_path(snakemake.output[0]) as part:
        part.write_text(page, encoding="utf-8")
