# Unlearn: one job a stage. Each lowers tau, trains the model, and all but the last align the predictor on it again.


rule unlearn:
    input:
        llm=INPUTS.of_stage.previous_checkpoint,
        predictor=INPUTS.of_stage.previous_predictor,
        target=lambda wildcards: PATHS.target_embedding(wildcards.target),
        windows=INPUTS.of_stage.windows,
        retained=ancient(INPUTS.of_stage.retained_states),
        # asking anew does not train anew
        guard=ancient(INPUTS.of_stage.guard),
    output:
        llm=temp(directory(inside("stage", "llm"))),
        predictor=directory(inside("stage", "predictor")),
        steps=inside("stage", "steps.csv"),
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
        settings=INPUTS.of_stage.settings,
        stage=INPUTS.of_stage.number,
        tau=INPUTS.of_stage.tau,
        collapse=Covered(config["collapse"]),
        key=INPUTS.of_stage.key,
        in_grid=INPUTS.of_stage.in_grid,
        gradient_checkpointing=config["gradient_checkpointing"],
        recipe=lambda wildcards: RECIPES.passed_on(*INPUTS.stage(wildcards)),
    script:
        "../scripts/unlearn_stage.py"


use rule unlearn as unlearn_last with:
    # The model is kept, and nothing reads its predictor.
    input:
        llm=INPUTS.of_run.previous_checkpoint,
        predictor=INPUTS.of_run.previous_predictor,
        target=lambda wildcards: PATHS.target_embedding(wildcards.target),
        windows=INPUTS.of_run.windows,
        retained=ancient(INPUTS.of_run.retained_states),
        guard=ancient(INPUTS.of_run.guard),
    output:
        llm=directory(inside("run", "weights")),
        steps=inside("run", "steps.csv"),
    log:
        log_of("unlearn_last", "run"),
    params:
        **COMPUTE,
        settings=INPUTS.of_run.settings,
        stage=INPUTS.of_run.number,
        tau=INPUTS.of_run.tau,
        collapse=Covered(config["collapse"]),
        key=INPUTS.of_run.key,
        in_grid=INPUTS.of_run.in_grid,
        gradient_checkpointing=config["gradient_checkpointing"],
        recipe=lambda wildcards: RECIPES.kept(*INPUTS.run(wildcards)),


rule keep_weights:
    # Of the last epoch of what is trained.
    input:
        llm=INPUTS.of_run.epochs,
        base=INPUTS.of_run.adapter_base,
    output:
        directory(inside("run", "weights")),
    log:
        log_of("keep_weights", "run"),
    wildcard_constraints:
        method=INPUTS.files_of("trained"),
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **model_job("keep_weights"),
    params:
        settings=INPUTS.of_run.settings,
        checkpoint_subdir=INPUTS.of_run.epoch,
        base=INPUTS.base_on_hub(),
        recipe=lambda wildcards: RECIPES.kept(*INPUTS.run(wildcards)[:3]),
    script:
        "../scripts/keep_weights.py"


rule keep_model:
    # The weights, linked, with a card that says what they are and what they score.
    input:
        weights=inside("run", "weights"),
        before=INPUTS.before,
        after=INPUTS.last_evaluation,
    output:
        directory(inside("run", "model")),
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
