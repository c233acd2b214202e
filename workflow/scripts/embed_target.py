"""Embed the concept to forget: its name, as in the paper, or other texts that stand for it too."""

from safetensors.torch import save_file

from atu.alignment.encoder import embed_target, load_encoder
from atu.alignment.mentions import name_parts
from atu.common.files import atomic_path
from atu.common.recipe import fetched, made_by
from atu.common.runtime import job_log, start
from atu.data.benchmark import read_intro, target_name
from atu.data.corpora import kinds_of


def texts_of(kind, target, folder):
    """The texts of a kind that stand for a target."""
    match kind:
        case "name":
            return [target_name(target)]
        case "parts":
            return name_parts(target_name(target))
        case "intro":
            return [read_intro(folder, target)]
    raise KeyError(f"no texts of kind {kind} stand for a target")


with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, fetched(snakemake.input), snakemake.output):
    start(0, snakemake.threads, "cpu")
    encoder = load_encoder(snakemake.input.encoder, "cpu")
    target, folder = snakemake.wildcards.target, snakemake.params.folder[0]
    texts = [text for kind in kinds_of(snakemake.wildcards.described) for text in texts_of(kind, target, folder)]
    texts = list(dict.fromkeys(texts)) or [target_name(target)]
    log.info("embedding %s", "; ".join(map(repr, texts)))
    with atomic_path(snakemake.output[0]) as part:
        save_file({"embedding": embed_target(encoder, texts)}, part, metadata={"name": target_name(target)})
