"""Log-probabilities of a method's sequences under the unmodified model."""

import torch
from safetensors.torch import save_file

from atu.batching import sorted_batches
from atu.examples import read_items, reference_log_probs
from atu.files import atomic_path, read_jsonl
from atu.models import load_llm
from atu.runtime import job_log, start

with job_log(snakemake.log[0]) as log:
    params, wildcards = snakemake.params, snakemake.wildcards
    accelerator = start(0, snakemake.threads, params.device, params.precision)
    llm, tokenizer = load_llm(snakemake.input.llm, accelerator.device, template_options=params.get("template_options"))
    items = read_items(wildcards.kind, read_jsonl(snakemake.input.texts), tokenizer, int(wildcards.max_tokens))
    batches = sorted_batches([max(len(example.ids) for example in item) for item in items], 8)
    with accelerator.autocast():
        sums = reference_log_probs(llm, items, batches)
    log.info("%d items, mean log-probability %.1f", len(items), sums.mean())
    with atomic_path(snakemake.output[0]) as part:
        save_file({"log_probs": sums.to(torch.float32).contiguous()}, part)
