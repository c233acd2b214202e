"""What a method without training applies at inference, kept in a folder that the evaluation reads."""

from atu.common.files import atomic_path, read_jsonl
from atu.common.names import in_words
from atu.common.recipe import made_by
from atu.common.runtime import job_log, start
from atu.data.benchmark import target_name
from atu.engine.models import load_llm
from atu.methods import load

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    params, settings = snakemake.params, snakemake.params.settings
    method = load(settings["method"], **settings["options"])
    llm = tokenizer = None
    if method.reads_model:
        accelerator = start(0, snakemake.threads, params.device, params.precision, params.deterministic)
        template = params.get("template_options")
        llm, tokenizer = load_llm(snakemake.input.llm, accelerator.device, template_options=template)
    texts = [row for file in snakemake.input.texts for row in read_jsonl(file)]
    intervention = method.find(llm, tokenizer, in_words(map(target_name, params.forgotten)), texts)
    if intervention.instruction:
        log.info("instruction: %s", intervention.instruction)
    if len(intervention.layers):
        log.info("control vectors of norm %s", [round(norm, 2) for norm in intervention.vectors.norm(dim=-1).tolist()])
    with atomic_path(snakemake.output[0]) as part:
        intervention.save(part)
