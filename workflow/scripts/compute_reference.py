"""Log-probabilities of a method's sequences under the unmodified model."""

from atu.batching import sorted_batches
from atu.examples import read_items, reference_log_probs, save_reference
from atu.files import read_jsonl
from atu.models import load_llm
from atu.recipe import made_by
from atu.runtime import job_log, start

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    params, wildcards = snakemake.params, snakemake.wildcards
    accelerator = start(0, snakemake.threads, params.device, params.precision)
    llm, tokenizer = load_llm(snakemake.input.llm, accelerator.device, template_options=params.get("template_options"))
    items = read_items(wildcards.kind, read_jsonl(snakemake.input.texts), tokenizer, int(wildcards.max_tokens))
    batches = sorted_batches([max(len(example.ids) for example in item) for item in items], 8)
    with accelerator.autocast():
        sums = reference_log_probs(llm, items, batches)
    log.info("%d items, mean log-probability %.1f", len(items), sums.mean())
    save_reference(snakemake.output[0], sums, items)
