"""The model answers, in a chat, the questions that it has asked itself about a subject."""

from atu.alignment.corpus import answer_questions
from atu.common.files import read_jsonl, write_jsonl
from atu.common.recipe import made_by
from atu.common.runtime import job_log, start
from atu.data.benchmark import BenchmarkError
from atu.engine.engine import Engine

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    params, subject = snakemake.params, snakemake.wildcards.subject
    accelerator = start(0, snakemake.threads, params.device, deterministic=params.deterministic)
    template = params.template_options
    engine = Engine.load(snakemake.input.llm, params.batch_tokens[0], accelerator.device, template_options=template)
    rows = answer_questions(engine, read_jsonl(snakemake.input.questions), params.max_new_tokens)
    if not rows:
        raise BenchmarkError(f"the model answered no question about {subject}: nothing could be trained on")
    log.info("%d answers about %s", len(rows), subject)
    write_jsonl(snakemake.output[0], rows)
