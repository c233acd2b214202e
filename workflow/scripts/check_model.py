"""Refuse models that the workflow cannot use, and methods that ask for what they lack, before anything is computed."""

from atu.checks import check_needs, describe_encoder, describe_llm
from atu.errors import ExplainedError
from atu.files import write_json
from atu.models import ModelError
from atu.recipe import made_by
from atu.runtime import job_log

# what is asked of a model makes nothing: the record says that the file is whole
with job_log(snakemake.log[0]) as log, made_by({}, [], snakemake.output):
    params, described = snakemake.params, {}
    for role, folder in snakemake.input.items():
        try:
            if role == "llm":
                described[role] = describe_llm(folder, params.get("template_options"))
            else:
                described[role] = describe_encoder(folder)
            check_needs(params.needs[role], described[role])
        except ExplainedError as error:
            raise ModelError(f"{folder}: {error}") from error
    log.info("%s: %d layers, context of %s tokens", *(described["llm"][key] for key in ("class", "layers", "context")))
    write_json(snakemake.output[0], described)
