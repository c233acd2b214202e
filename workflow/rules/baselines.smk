# Baselines: the base model's likelihoods, training epoch by epoch, and what is applied at inference.


rule reference_log_probs:
    # Of the unmodified model, once: no method keeps a second model in memory for them.
    input:
        llm=PATHS.llm,
        texts=lambda wildcards: PATHS.texts(wildcards.target, wildcards.kind),
    output:
        PATTERNS["reference"],
    log:
        log_of("reference_log_probs", "reference"),
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **model_job("reference_log_probs"),
    params:
        **COMPUTE,
        **TEMPLATE,
        recipe=lambda wildcards: RECIPES.reference(
            wildcards.target, wildcards.kind, int(wildcards.max_tokens)
        ),
    script:
        "../scripts/compute_reference.py"


rule train:
    input:
        llm=PATHS.llm,
        texts=lambda wildcards: INPUTS.own_texts(INPUTS.stage(wildcards)),
        reference=INPUTS.reference,
        retain=INPUTS.retain_texts,
    output:
        epochs=temp(directory(PATTERNS["stage"] + "/epochs")),
        steps=PATTERNS["stage"] + "/steps.csv",
    log:
        log_of("train", "stage"),
    wildcard_constraints:
        method=INPUTS.files_of("trained"),
    priority: 1
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **model_job("train"),
    params:
        **COMPUTE,
        **TEMPLATE,
        settings=lambda wildcards: INPUTS.settings(INPUTS.stage(wildcards)),
        key=INPUTS.key,
        in_grid=INPUTS.in_grid,
        gradient_checkpointing=config["gradient_checkpointing"],
        recipe=lambda wildcards: RECIPES.stage(*INPUTS.stage(wildcards)),
    script:
        "../scripts/train_method.py"


rule find_intervention:
    # ICU's instruction or RepE's control vector: what the evaluation applies to the unmodified model.
    input:
        llm=PATHS.llm,
        texts=lambda wildcards: INPUTS.own_texts(INPUTS.run(wildcards)),
    output:
        directory(PATTERNS["run"] + "/intervention"),
    log:
        log_of("find_intervention", "run"),
    wildcard_constraints:
        method=INPUTS.files_of("applied"),
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **model_job("find_intervention"),
    params:
        **COMPUTE,
        **TEMPLATE,
        settings=lambda wildcards: INPUTS.settings(INPUTS.run(wildcards)),
        recipe=lambda wildcards: RECIPES.kept(*INPUTS.run(wildcards)[:3]),
    script:
        "../scripts/find_intervention.py"
