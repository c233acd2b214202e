"""Tokenise a subject's texts and embed the future window of every token, each distinct window once."""

from transformers import AutoTokenizer

from atu.alignment.encoder import load_encoder
from atu.alignment.windows import build_corpus
from atu.common.files import read_jsonl
from atu.common.recipe import made_by
from atu.common.runtime import job_log, start

with job_log(snakemake.log[0]) as log, made_by(snakemake.params.recipe, snakemake.input, snakemake.output):
    params = snakemake.params
    accelerator = start(0, snakemake.threads, params.device, deterministic=params.deterministic)
    tokenizer = AutoTokenizer.from_pretrained(snakemake.input.llm, local_files_only=True)
    encoder = load_encoder(snakemake.input.encoder, accelerator.device)
    texts = [row["text"] for path in snakemake.input.corpora for row in read_jsonl(path)]
    corpus = build_corpus(texts, tokenizer, encoder, int(snakemake.wildcards.k), params.max_tokens)
    log.info("%d texts, %d tokens, %d distinct windows", len(corpus), len(corpus.input_ids), len(corpus.embeddings))
    corpus.save(snakemake.output[0])
