"""Hidden states of a model on one subject's texts, at the hook layer."""

from atu.alignment.hidden import write_hidden_states
from atu.alignment.windows import WindowedCorpus
from atu.common.recipe import made_by
from atu.common.runtime import job_log, start
from atu.engine.models import load_llm

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    params = snakemake.params
    accelerator = start(0, snakemake.threads, params.device, params.precision, params.deterministic)
    llm, _ = load_llm(snakemake.input.llm, accelerator.device)
    corpus = WindowedCorpus.load(snakemake.input.windows)
    with accelerator.autocast():
        write_hidden_states(llm, corpus, params.layer, snakemake.output[0], params.precision)
    log.info("%d tokens", len(corpus.input_ids))
