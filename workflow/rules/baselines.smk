# Baselines: the base model's likelihoods, training epoch by epoch, and what is applied at inference.


rule reference_log_probs:
    # Of the base model, once: no method keeps a second model in memory for them.
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
        protocol=PROTOCOL,
        recipe=lambda wildcards: RECIPES.reference(
            wildcards.target, wildcards.kind, int(wildcards.max_tokens)
        ),
    script:
        "../scripts/compute_reference.py"


rule train:
    input:
        llm=PATHS.llm,
        texts=INPUTS.of_stage.own_texts,
        reference=INPUTS.of_stage.reference,
        retain=INPUTS.of_stage.retain_texts,
    output:
        epochs=temp(directory(inside("stage", "epochs"))),
        steps=inside("stage", "steps.csv"),
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
        protocol=PROTOCOL,
        settings=INPUTS.of_stage.settings,
        key=INPUTS.of_stage.key,
        in_grid=INPUTS.of_stage.in_grid,
        gradient_checkpointing=config["gradient_checkpointing"],
        recipe=lambda wildcards: RECIPES.passed_on(*INPUTS.stage(wildcards)),
    script:
        "../scripts/train_method.py"


rule find_intervention:
    # ICU's instruction or RepE's control vector: what the evaluation applies to the base model.
    input:
        llm=PATHS.llm,
        texts=INPUTS.of_run.own_texts,
    output:
        directory(inside("run", "intervention")),
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
        settings=INPUTS.of_run.settings,
        recipe=lambda wildcards: RECIPES.kept(*INPUTS.run(wildcards)[:3]),
    script:
        "../scripts/find_intervention.py"
