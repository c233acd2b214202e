"""Refuse a language model that the library cannot use, methods that ask for what it lacks, and models from elsewhere
that are not of it: no weights are read."""

import hashlib
from pathlib import Path

from atu.common.errors import ExplainedError
from atu.common.files import write_json
from atu.common.recipe import made_by
from atu.common.runtime import job_log
from atu.engine.checkpoints import check_adapter, checkpoint_kind
from atu.engine.checks import describe_llm
from atu.engine.models import ModelError
from atu_pipeline.settings import unmet_needs

# the recipe is empty, since nothing is made from this file; the record only says that the file is whole
with job_log(snakemake.log[0]) as log, made_by({}, [], snakemake.output):
    folder, (source,), (options,) = snakemake.input.llm, snakemake.params.source, snakemake.params.template_options
    try:
        described = describe_llm(folder, options)
    except ExplainedError as error:
        raise ModelError(f"{folder}: {error}") from error
    if faults := unmet_needs(snakemake.params.needs, described):
        raise ModelError("; ".join(faults))
    for checkpoint in map(Path, snakemake.input.checkpoints):
        if checkpoint_kind(checkpoint) == "adapter":
            check_adapter(checkpoint, Path(folder), *snakemake.params.repo)
        else:
            other = describe_llm(checkpoint, options)
            if facts := [key for key in ("class", "layers", "modules") if other[key] != described[key]]:
                raise ModelError(
                    f"{checkpoint} was not made of {folder} ({facts[0]}: {other[facts[0]]}, not "
                    f"{described[facts[0]]}): name the model that it was made of as llm"
                )
    log.info("%s: %d layers, context of %s tokens", *(described[key] for key in ("class", "layers", "context")))
    if described["plain"]:
        log.info("no rows share a prefix, and prompts take longer: %s", described["plain"])
    digest = hashlib.sha256(Path(folder, "config.json").read_bytes()).hexdigest()
    write_json(snakemake.output[0], described | {"source": source, "config_sha256": digest})
