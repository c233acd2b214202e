# Unlearn: one job per stage. Each lowers tau and trains the model; all but the last align the predictor on it again.


rule unlearn:
    input:
        llm=of("stage").previous_checkpoint,
        predictor=of("stage").previous_predictor,
        targets=of("stage").target_embeddings,
        windows=of("stage").windows,
        retained=ancient(of("stage").retained_states),
        own=ancient(of("stage").own_states),
        # ancient, so that asking again does not train again
        guard=ancient(of("stage").guard),
        normal=ancient(of("stage").normal),
    output:
        llm=temp(directory(inside("stage", "llm"))),
        predictor=directory(inside("stage", "predictor")),
        steps=inside("stage", "steps.csv"),
    log:
        log_of("unlearn", "stage"),
    wildcard_constraints:
        method=VARIANTS.files_of("aligned"),
    priority: 1
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **of("stage").resources("unlearn"),
    params:
        **COMPUTE,
        settings=of("stage").settings,
        stage=of("stage").number,
        tau=of("stage").tau,
        collapse=Covered(config["collapse"]),
        key=of("stage").key,
        in_grid=of("stage").in_grid,
        memory=of("stage").memory,
        recipe=of("stage").recipe,
    script:
        "../scripts/unlearn_stage.py"


use rule unlearn as unlearn_last with:
    # The last stage keeps the model, and nothing reads its predictor.
    input:
        llm=of("run").previous_checkpoint,
        predictor=of("run").previous_predictor,
        targets=of("run").target_embeddings,
        windows=of("run").windows,
        retained=ancient(of("run").retained_states),
        own=ancient(of("run").own_states),
        guard=ancient(of("run").guard),
        normal=ancient(of("run").normal),
    output:
        llm=weights_in("run"),
        steps=inside("run", "steps.csv"),
    log:
        log_of("unlearn_last", "run"),
    resources:
        **of("run").resources("unlearn_last"),
    params:
        **COMPUTE,
        settings=of("run").settings,
        stage=of("run").number,
        tau=of("run").tau,
        collapse=Covered(config["collapse"]),
        key=of("run").key,
        in_grid=of("run").in_grid,
        memory=of("run").memory,
        recipe=of("run").recipe,


rule keep_weights:
    # The weights of a trained method's last epoch.
    input:
        llm=of("run").epochs,
        base=of("run").adapter_base,
    output:
        weights_in("run"),
    log:
        log_of("keep_weights", "run"),
    wildcard_constraints:
        method=VARIANTS.files_of("trained"),
    priority: ASKED_FIRST
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **of("run").resources("keep_weights"),
    params:
        settings=of("run").settings,
        checkpoint_subdir=of("run").epoch,
        base=of("run").base_on_hub,
        recipe=of("run").recipe,
    script:
        "../scripts/keep_weights.py"


rule keep_model:
    # The weights, linked, with a card that says what they are and what they score.
    input:
        weights=of("run").weights,
        before=of("run").before,
        after=of("run").last_evaluation,
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
        settings=of("run").settings,
        forgotten=of("run").people,
        recipes=of("run").described,
        collapse=config["collapse"],
        base=of("run").card_of_base,
        dataset=INPUTS.source.get("repo"),
        recipe=of("run").recipe,
    script:
        "../scripts/keep_model.py"
