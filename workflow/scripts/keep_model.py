"""Keep the last stage's model, with what made it."""

from pathlib import Path

from atu.files import atomic_path, link_tree, write_json
from atu.models import load_llm, save_llm
from atu.recipe import made_by
from atu.runtime import job_log, provenance

with (
    job_log(snakemake.log[0]) as log,
    made_by(snakemake.params.recipe, snakemake.input, snakemake.output),
    atomic_path(snakemake.output[0]) as part,
):
    checkpoint = Path(snakemake.input.llm, snakemake.params.inside)
    if snakemake.params.settings.get("lora", {}).get("merge") and Path(checkpoint, "adapter_config.json").exists():
        save_llm(*load_llm(checkpoint), part)
    else:
        link_tree(checkpoint, part)
    write_json(part / "provenance.json", provenance(run=dict(snakemake.wildcards), **snakemake.params.settings))
    log.info("kept %s", snakemake.output[0])
