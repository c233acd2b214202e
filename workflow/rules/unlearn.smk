# Unlearn: one job a stage, at one tau. What is left of a run is a model that from_pretrained loads.


rule unlearn:
    input:
        llm=INPUTS.previous_llm,
        predictor=INPUTS.previous_predictor,
        target=lambda wildcards: PATHS.target_embedding(wildcards.target),
        windows=INPUTS.windows,
        retained=ancient(INPUTS.retained_states),
        # asking anew does not train anew
        guard=ancient(INPUTS.guard),
    output:
        llm=temp(directory(PATTERNS["stage"] + "/llm")),
        steps=PATTERNS["stage"] + "/steps.csv",
    log:
        log_of("unlearn", "stage"),
    wildcard_constraints:
        method=INPUTS.files_of("aligned"),
    priority: 1
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **model_job("unlearn"),
    params:
        **COMPUTE,
        settings=INPUTS.stage_settings,
        stage=lambda wildcards: INPUTS.stage(wildcards).number,
        collapse=config["collapse"],
        key=INPUTS.key,
        in_grid=INPUTS.in_grid,
        gradient_checkpointing=config["gradient_checkpointing"],
        recipe=lambda wildcards: RECIPES.stage(*INPUTS.stage(wildcards)),
    script:
        "../scripts/unlearn_stage.py"


rule keep_weights:
    # Of the last stage.
    input:
        llm=INPUTS.last_checkpoint,
        base=lambda wildcards: INPUTS.adapter_base(INPUTS.run(wildcards)),
    output:
        directory(PATTERNS["run"] + "/weights"),
    log:
        log_of("keep_weights", "run"),
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **model_job("keep_weights"),
    params:
        settings=lambda wildcards: INPUTS.settings(INPUTS.run(wildcards)),
        subfolder=lambda wildcards: INPUTS.epoch(INPUTS.run(wildcards)),
        base=INPUTS.base_on_hub(),
        recipe=lambda wildcards: RECIPES.kept(*INPUTS.run(wildcards)[:3]),
    script:
        "../scripts/keep_weights.py"


rule keep_model:
    # The weights, linked, with a card that says what they are and what they score.
    input:
        weights=PATTERNS["run"] + "/weights",
        before=INPUTS.before,
        after=INPUTS.last_evaluation,
    output:
        directory(PATTERNS["run"] + "/model"),
    log:
        log_of("keep_model", "run"),
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(),
    params:
        recipes=INPUTS.described,
        collapse=config["collapse"],
        base=INPUTS.base_model,
        dataset=INPUTS.source.get("repo"),
        recipe=lambda wildcards: RECIPES.kept(*INPUTS.run(wildcards)[:3]),
    script:
        "../scripts/keep_model.py"
