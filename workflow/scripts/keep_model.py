"""Keep the last stage's model, with what made it."""

import os
import shutil

from atu.files import atomic_path, write_json
from atu.runtime import job_log, provenance

with job_log(snakemake.log[0]) as log, atomic_path(snakemake.output[0]) as part:
    # A hard link where the file system has them: the checkpoint is not written twice.
    try:
        shutil.copytree(snakemake.input.llm, part, copy_function=os.link)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(snakemake.input.llm, part)
    write_json(part / "provenance.json", provenance(run=dict(snakemake.wildcards), **snakemake.params.settings))
    log.info("kept %s", snakemake.output[0])
