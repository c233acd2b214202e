# Baselines: the base model's likelihoods, training epoch by epoch, and interventions at inference.


rule reference_log_probs:
    # Computed once with the base model, so that no method keeps a second model in memory for them.
    input:
        llm=of("reference").llm,
        texts=of("reference").texts_of,
    output:
        PATTERNS["reference"],
    log:
        log_of("reference_log_probs", "reference"),
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **of("reference").resources("reference_log_probs"),
    params:
        **COMPUTE,
        template_options=of("reference").template_options,
        protocol=of("reference").protocol,
        kind=lambda wildcards: wildcards.kind,
        max_tokens=lambda wildcards: int(wildcards.max_tokens),
        recipe=of("reference").recipe,
    script:
        "../scripts/compute_reference.py"


rule train:
    input:
        llm=of("stage").start,
        texts=of("stage").own_texts,
        reference=of("stage").reference,
        retain=of("stage").retain_texts,
    output:
        epochs=temp(directory(inside("stage", "epochs"))),
        steps=inside("stage", "steps.csv"),
    log:
        log_of("train", "stage"),
    wildcard_constraints:
        method=VARIANTS.files_of("trained"),
    priority: 1
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **of("stage").resources("train"),
    params:
        **COMPUTE,
        template_options=of("stage").template_options,
        protocol=of("stage").protocol,
        settings=of("stage").settings,
        key=of("stage").key,
        in_grid=of("stage").in_grid,
        memory=of("stage").memory,
        recipe=of("stage").recipe,
    script:
        "../scripts/train_method.py"


rule find_intervention:
    # ICU's instruction or RepE's control vector, which the evaluation applies to the base model.
    input:
        llm=of("run").llm,
        texts=of("run").own_texts,
    output:
        directory(inside("run", "intervention")),
    log:
        log_of("find_intervention", "run"),
    wildcard_constraints:
        method=VARIANTS.files_of("applied"),
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **of("run").resources("find_intervention"),
    params:
        **COMPUTE,
        template_options=of("run").template_options,
        settings=of("run").settings,
        forgotten=of("run").forgotten,
        recipe=of("run").recipe,
    script:
        "../scripts/find_intervention.py"
