"""All outcomes in long form, and the paper's table in Markdown, LaTeX and HTML."""

from atu.files import atomic_path, write_json
from atu.runtime import job_log, provenance
from atu.tables import collect, layout, to_html

with job_log(snakemake.log[0]) as log:
    params, output = snakemake.params, snakemake.output
    long = collect(params.runs, params.model, params.benchmark)
    log.info("%d numbers of %d runs", len(long), len(params.runs))
    table = layout(long, params.dev_targets)
    blank = table.astype(object).where(table.notna(), None)  # tabulate prints None as missing, NaN as a number
    with atomic_path(output.long) as part:
        long.to_csv(part, index=False)
    for path, text in (
        (output.markdown, blank.to_markdown(index=False, floatfmt=".1f", missingval="") + "\n"),
        (output.latex, table.to_latex(index=False, float_format="%.1f", na_rep="--", escape=True)),
        (output.html, to_html(table)),
    ):
        with atomic_path(path) as part:
            part.write_text(text, encoding="utf-8")
    write_json(output.provenance, provenance(**snakemake.config))
