"""Log-probabilities of a method's sequences under the model that its runs start from."""

from atu.common.files import read_jsonl
from atu.common.recipe import made_by
from atu.common.runtime import job_log, start
from atu.data.protocol import protocol_of
from atu.engine.batching import sorted_batches
from atu.engine.examples import read_items, reference_log_probs, save_reference
from atu.engine.models import load_llm

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    params = snakemake.params
    accelerator = start(0, snakemake.threads, params.device, params.precision, params.deterministic)
    llm, tokenizer = load_llm(snakemake.input.llm, accelerator.device, template_options=params.get("template_options"))
    (protocol,) = map(protocol_of, params.protocol)
    items = read_items(params.kind, read_jsonl(snakemake.input.texts), tokenizer, params.max_tokens, protocol)
    batches = sorted_batches([max(len(example.ids) for example in item) for item in items], 8)
    with accelerator.autocast():
        sums = reference_log_probs(llm, items, batches)
    log.info("%d items, mean log-probability %.1f", len(items), sums.mean())
    save_reference(snakemake.output[0], sums, items)
