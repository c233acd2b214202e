"""The texts about a subject that ship with the benchmark, in the form the pipeline reads."""

from atu.common.files import write_jsonl
from atu.common.recipe import fetched, made_by
from atu.common.runtime import job_log
from atu.data.benchmark import UTILITY, BenchmarkError, file_of, read_texts

with (
    job_log(snakemake.log[0]) as log,
    made_by(snakemake.params.recipe, fetched(snakemake.input), snakemake.output),
):
    params, subject = snakemake.params, snakemake.wildcards.subject
    target = None if subject == UTILITY else subject
    rows = read_texts(params.folder[0], target, params.text_set)
    if not rows:
        place = file_of(params.folder[0], target, params.text_set).parent
        raise BenchmarkError(
            f"{place} has no texts in {params.text_set}.json; set corpus.text_set to another set, or corpus.source "
            "to generate"
        )
    log.info("%d texts about %s", len(rows), subject)
    write_jsonl(snakemake.output[0], rows)
