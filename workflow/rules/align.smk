# Align: the predictor learns to see what the base model is about to say.


rule align:
    input:
        windows=INPUTS.of_stage.windows,
        hidden_states=ancient(INPUTS.of_stage.states),
    output:
        predictor=directory(inside("alignment", "predictor")),
        steps=inside("alignment", "steps.csv"),
    log:
        log_of("align", "alignment"),
    priority: 1
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **model_job("align"),
    params:
        **COMPUTE,
        settings=INPUTS.of_stage.settings,
        key=INPUTS.of_stage.key,
        recipe=lambda wildcards: RECIPES.alignment(*INPUTS.stage(wildcards)[:3]),
    script:
        "../scripts/align_predictor.py"


rule realign:
    # On what a shorter run has kept, for one that goes on from there.
    input:
        llm=INPUTS.of_stage.checkpoint,
        predictor=INPUTS.of_stage.previous_predictor,
        windows=INPUTS.of_stage.windows,
    output:
        predictor=directory(inside("realignment", "predictor")),
        steps=inside("realignment", "steps.csv"),
    log:
        log_of("realign", "realignment"),
    priority: 1
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **model_job("realign"),
    params:
        **COMPUTE,
        settings=INPUTS.of_stage.settings,
        stage=INPUTS.of_stage.number,
        key=INPUTS.of_stage.key,
        in_grid=INPUTS.of_stage.in_grid,
        recipe=lambda wildcards: RECIPES.passed_on(*INPUTS.stage(wildcards)),
    script:
        "../scripts/realign_predictor.py"
