"""The model writes short biographies of a subject: the texts on which it will be unlearned."""

from atu.benchmark import read_rows, target_name
from atu.corpus import write_biographies
from atu.files import write_jsonl
from atu.models import load_llm
from atu.runtime import job_log, start

with job_log(snakemake.log[0]) as log:
    params, subject = snakemake.params, snakemake.wildcards.subject
    options = params.corpus
    accelerator = start(options["seed"], snakemake.threads, params.device, params.precision)
    llm, tokenizer = load_llm(snakemake.input.llm, accelerator.device)
    intro = (read_rows(params.folder, subject, "intro") or [{}])[0].get("intro", "")
    rows = write_biographies(
        llm,
        tokenizer,
        target_name(subject),
        intro,
        count=options["texts"],
        **{key: options[key] for key in ("max_new_tokens", "temperature", "top_p", "batch_tokens")},
    )
    log.info("%d biographies of %s", len(rows), target_name(subject))
    write_jsonl(snakemake.output[0], rows)
