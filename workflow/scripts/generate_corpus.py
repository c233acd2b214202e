"""The model writes about a subject: biographies, made-up ones, or questions with refusals."""

from atu.alignment.corpus import write_texts
from atu.common.files import write_jsonl
from atu.common.recipe import fetched, made_by
from atu.common.runtime import job_log, start
from atu.data.benchmark import BenchmarkError, read_intro, target_name
from atu.engine.engine import Engine

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, fetched(snakemake.input), snakemake.output):
    params, subject = snakemake.params, snakemake.wildcards.subject
    kind = snakemake.wildcards.get("kind", "positive")
    options = dict(params.corpus)
    intro = read_intro(params.folder[0], subject)
    accelerator = start(options["seed"], snakemake.threads, params.device, deterministic=params.deterministic)
    template = params.get("template_options")
    engine = Engine.load(snakemake.input.llm, params.batch_tokens[0], accelerator.device, template_options=template)
    rows = write_texts(engine, kind, target_name(subject), intro, **options)
    if not rows:
        raise BenchmarkError(f"the model wrote no word about {target_name(subject)}: nothing could be trained on")
    log.info("%d %s texts about %s", len(rows), kind, target_name(subject))
    write_jsonl(snakemake.output[0], rows)
