"""What a method without training applies at inference, kept in a folder that the evaluation reads."""

from atu.common.files import atomic_path, read_jsonl
from atu.common.recipe import made_by
from atu.common.runtime import job_log, start
from atu.data.benchmark import target_name
from atu.engine.models import load_llm
from atu.evaluation.intervention import Intervention
from atu.methods.icu import icu_instruction
from atu.methods.repe import find_control_vectors

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    params, name = snakemake.params, target_name(snakemake.wildcards.target)
    options = params.settings["options"]
    if params.settings["method"] == "icu":
        intervention = Intervention(instruction=icu_instruction(options["instruction"], name))
        log.info("instruction: %s", intervention.instruction)
    else:
        accelerator = start(0, snakemake.threads, params.device, params.precision)
        template = params.get("template_options")
        llm, tokenizer = load_llm(snakemake.input.llm, accelerator.device, template_options=template)
        questions = [row["instruction"] for row in read_jsonl(snakemake.input.texts)]
        vectors = find_control_vectors(llm, tokenizer, name, questions, options["layers"])
        log.info("control vectors of norm %s", [round(norm, 2) for norm in vectors.norm(dim=-1).tolist()])
        intervention = Intervention(vectors=vectors, layers=options["layers"], coefficient=options["coefficient"])
    with atomic_path(snakemake.output[0]) as part:
        intervention.save(part)
