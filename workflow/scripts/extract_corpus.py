"""The texts about a subject that ship with the benchmark, in the form the pipeline reads."""

from pathlib import Path

from atu.benchmark import BenchmarkError, read_rows
from atu.files import write_jsonl
from atu.runtime import job_log

FILES = ("positive_phi", "positive")

with job_log(snakemake.log[0]) as log:
    folder, subject = snakemake.params.folder, snakemake.wildcards.subject
    rows = next((rows for file in FILES if (rows := read_rows(folder, subject, file))), None)
    if rows is None:
        place = Path(folder, "Target", subject)
        raise BenchmarkError(f"{place} has neither {' nor '.join(FILES)}.json; set corpus.source to generate")
    log.info("%d texts about %s", len(rows), subject)
    write_jsonl(snakemake.output[0], rows)
