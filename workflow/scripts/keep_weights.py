"""Keep the weights of the last stage, with what made them."""

from pathlib import Path

from atu.common.files import atomic_path, link_tree, write_json
from atu.common.recipe import made_by
from atu.common.runtime import job_log, provenance

with (
    job_log(snakemake.log[0]) as log,
    made_by(snakemake.params.recipe, snakemake.input, snakemake.output),
    atomic_path(snakemake.output[0]) as part,
):
    checkpoint = Path(snakemake.input.llm, snakemake.params.checkpoint_subdir)
    adapter = (checkpoint / "adapter_config.json").exists()
    if adapter:  # whole weights are linked, which needs no torch
        from atu.engine.models import load_llm, name_base, save_llm
    if adapter and snakemake.params.settings["lora"]["merge"]:
        save_llm(*load_llm(checkpoint, base=snakemake.input.base), part)
    else:
        link_tree(checkpoint, part)
        if adapter:
            name_base(part, *snakemake.params.base)
    recipe = snakemake.params.recipe
    trained_by = recipe.get("evaluation", {})  # the protocol, where plain texts were read
    kept_in = {key: recipe[key] for key in ("memory",) if key in recipe}  # where it bears on the numbers
    settings = snakemake.params.settings | trained_by | kept_in
    write_json(part / "provenance.json", provenance(run=dict(snakemake.wildcards), **settings))
    log.info("kept %s", snakemake.output[0])
