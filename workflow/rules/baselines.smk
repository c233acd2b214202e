# Baselines: their texts, the reference's likelihoods, training epoch by epoch, and what is applied at inference.


if config["corpus"]["source"] == "generate":

    use rule generate_corpus as write_texts with:
        # Made-up biographies (negative) and questions with refusals (reject), as RWKU made its own.
        output:
            "results/{llm}/{benchmark}/texts/{kind}/{subject}.jsonl",
        log:
            "logs/write_texts/{llm}/{benchmark}/{kind}/{subject}.log",
        wildcard_constraints:
            kind="negative|reject",
        priority: 0

    rule pair_texts:
        # A made-up biography is chosen, the real one rejected.
        input:
            chosen="results/{llm}/{benchmark}/texts/negative/{subject}.jsonl",
            rejected="results/{llm}/{benchmark}/corpus/{subject}.jsonl",
        output:
            "results/{llm}/{benchmark}/texts/pair/{subject}.jsonl",
        log:
            "logs/pair_texts/{llm}/{benchmark}/{subject}.log",
        localrule: True
        conda:
            "../../envs/workflow.yaml"
        resources:
            **light(),
        params:
            recipe=lambda wildcards: RECIPES.texts(wildcards.subject, "pair"),
        script:
            "../scripts/pair_texts.py"


rule extract_texts:
    # Texts that ship with the benchmark.
    input:
        texts=lambda wildcards: text_files(wildcards, wildcards.kind),
    output:
        "results/{llm}/{benchmark}/texts/{kind}/{subject}.jsonl",
    log:
        "logs/extract_texts/{llm}/{benchmark}/{kind}/{subject}.log",
    wildcard_constraints:
        kind="|".join(EXTRACTED),
    priority: 3
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(),
    params:
        folder=lambda wildcards: texts_folder(wildcards, wildcards.kind),
        text_set=lambda wildcards: text_set(wildcards.kind),
        recipe=recipe("texts", "subject", "kind"),
    script:
        "../scripts/extract_corpus.py"


rule reference_log_probs:
    # Of the unmodified model, once: no method keeps a second model in memory for them.
    input:
        llm="resources/models/{llm}",
        texts=lambda wildcards: method_texts(wildcards, wildcards.kind),
    output:
        "results/{llm}/{benchmark}/reference/{kind}/tokens{max_tokens}/{target}.safetensors",
    log:
        "logs/reference/{llm}/{benchmark}/{kind}/tokens{max_tokens}/{target}.log",
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **needs("reference_log_probs"),
    params:
        **COMPUTE,
        **TEMPLATE,
        recipe=recipe("reference", "target", "kind", "max_tokens"),
    script:
        "../scripts/compute_reference.py"


rule train:
    input:
        llm="resources/models/{llm}",
        texts=lambda wildcards: method_texts(wildcards, settings(wildcards)["texts"]),
        reference=reference_file,
        retain=retain_texts,
    output:
        epochs=temp(directory(f"{RUN}/epochs")),
        steps=f"{RUN}/steps.csv",
    log:
        f"logs/train/{RUN}.log",
    wildcard_constraints:
        method=names_of("trained"),
    priority: 1
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **needs("train"),
    params:
        **COMPUTE,
        **TEMPLATE,
        settings=settings,
        key=settings_key,
        in_grid=in_grid,
        gradient_checkpointing=config["gradient_checkpointing"],
        recipe=lambda wildcards: RECIPES.stage(
            wildcards.target, wildcards.method, wildcards.seed, 1
        ),
    script:
        "../scripts/train_method.py"


rule find_intervention:
    # ICU's instruction or RepE's control vector: what the evaluation applies to the unmodified model.
    input:
        llm="resources/models/{llm}",
        texts=lambda wildcards: (
            method_texts(wildcards, settings(wildcards)["texts"])
            if "texts" in settings(wildcards)
            else []
        ),
    output:
        directory(f"{RUN}/intervention"),
    log:
        f"logs/find_intervention/{RUN}.log",
    wildcard_constraints:
        method=names_of("applied"),
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **needs("find_intervention"),
    params:
        **COMPUTE,
        **TEMPLATE,
        settings=settings,
        recipe=lambda wildcards: RECIPES.stage(
            wildcards.target, wildcards.method, wildcards.seed, 1
        ),
    script:
        "../scripts/find_intervention.py"
