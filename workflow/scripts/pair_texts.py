"""Pairs for preference optimisation: the made-up biography is chosen, the real one rejected."""

from atu.common.files import read_jsonl, write_jsonl
from atu.common.recipe import made_by
from atu.common.runtime import job_log
from atu.data.pairs import pair_biographies

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    pairs = pair_biographies(read_jsonl(snakemake.input.chosen), read_jsonl(snakemake.input.rejected))
    log.info("%d pairs", len(pairs))
    write_jsonl(snakemake.output[0], pairs)
