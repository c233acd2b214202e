# From the benchmark to what the model reads: probes, texts, embeddings, hidden states.
# Rules on the way to the first unlearning stage have priority: evaluations fill what is left idle.


rule count_probes:
    # A benchmark that lacks probes is refused before anything is computed on it.
    input:
        lambda wildcards: benchmark_files(wildcards, "Target/*/*.json"),
    output:
        "results/{benchmark}/counts.csv",
    log:
        "logs/count_probes/{benchmark}.log",
    priority: 3
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(),
    params:
        folder=lambda wildcards: benchmark_folder(wildcards.benchmark),
        targets=config["all_targets"],
        refuse=lambda wildcards: config["benchmarks"][wildcards.benchmark].get(
            "check_totals", False
        ),
    script:
        "../scripts/count_probes.py"


rule prepare_probes:
    input:
        lambda wildcards: subject_files(wildcards, "*.json"),
        counts=probe_counts,
    output:
        "results/{benchmark}/probes/{subject}.parquet",
    log:
        "logs/prepare_probes/{benchmark}/{subject}.log",
    # before all that takes long: faults of the benchmark are found here
    priority: 3
    group:
        "prepare"
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(),
    params:
        folder=lambda wildcards: benchmark_folder(wildcards.benchmark),
        split=config["split"],
        recipe=recipe("probes", "subject"),
    script:
        "../scripts/prepare_probes.py"


if config["corpus"]["source"] == "generate":

    rule generate_corpus:
        input:
            intro=lambda wildcards: subject_files(wildcards, "intro.json"),
            llm="resources/models/{llm}",
        output:
            "results/{llm}/{benchmark}/corpus/{subject}.jsonl",
        log:
            "logs/generate_corpus/{llm}/{benchmark}/{subject}.log",
        priority: 2
        conda:
            "../../envs/workflow.yaml"
        threads: config["threads"]
        resources:
            **needs("generate_corpus"),
        params:
            **COMPUTE,
            **TEMPLATE,
            folder=lambda wildcards: benchmark_folder(wildcards.benchmark),
            corpus={
                key: value
                for key, value in config["corpus"].items()
                if key not in ("source", "text_set", "max_tokens")
            },
            recipe=lambda wildcards: RECIPES.texts(
                wildcards.subject, wildcards.get("kind", "positive")
            ),
        script:
            "../scripts/generate_corpus.py"

else:

    rule extract_corpus:
        input:
            texts=lambda wildcards: text_files(wildcards, "positive"),
        output:
            "results/{llm}/{benchmark}/corpus/{subject}.jsonl",
        log:
            "logs/extract_corpus/{llm}/{benchmark}/{subject}.log",
        priority: 3
        group:
            "prepare"
        conda:
            "../../envs/workflow.yaml"
        resources:
            **light(),
        params:
            folder=lambda wildcards: texts_folder(wildcards, "positive"),
            text_set=text_set("positive"),
            recipe=recipe("texts", "subject"),
        script:
            "../scripts/extract_corpus.py"


rule embed_target:
    input:
        encoder="resources/models/{encoder}",
    output:
        "results/{llm}/{benchmark}/target_embeddings/{encoder}/{target}.safetensors",
    log:
        "logs/embed_target/{llm}/{benchmark}/{encoder}/{target}.log",
    group:
        "prepare"
    conda:
        "../../envs/workflow.yaml"
    resources:
        **needs("embed_target"),
    params:
        recipe=recipe("target", "target"),
    script:
        "../scripts/embed_target.py"


rule embed_windows:
    input:
        corpus="results/{llm}/{benchmark}/corpus/{subject}.jsonl",
        llm="resources/models/{llm}",
        encoder="resources/models/{encoder}",
    output:
        "results/{llm}/{benchmark}/windows/{encoder}/k{k}/{subject}.safetensors",
    log:
        "logs/embed_windows/{llm}/{benchmark}/{encoder}/k{k}/{subject}.log",
    priority: 1
    group:
        "states"
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **needs("embed_windows"),
    params:
        **COMPUTE,
        max_tokens=config["corpus"]["max_tokens"],
        recipe=recipe("windows", "subject", "k"),
    script:
        "../scripts/embed_windows.py"


rule hidden_states:
    # Of the unmodified model: shared by all runs that read the subject's texts. A cache of its inputs:
    # it may be deleted to free disk, and making it again reruns nothing (ancient, in common.smk).
    input:
        llm="resources/models/{llm}",
        windows="results/{llm}/{benchmark}/windows/{encoder}/k{k}/{subject}.safetensors",
    output:
        directory(
            "results/{llm}/{benchmark}/hidden_states/{encoder}/k{k}/layer{layer}/{subject}"
        ),
    log:
        "logs/hidden_states/{llm}/{benchmark}/{encoder}/k{k}/layer{layer}/{subject}.log",
    priority: 1
    group:
        "states"
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **needs("hidden_states"),
    params:
        **COMPUTE,
        recipe=recipe("states", "subject", "k", "layer"),
    script:
        "../scripts/compute_hidden_states.py"
