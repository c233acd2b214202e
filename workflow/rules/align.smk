# Align: the predictor learns to see what the base model is about to say, and again what the model of a stage is.


rule align:
    input:
        windows=INPUTS.windows,
        hidden_states=ancient(INPUTS.states),
    output:
        predictor=directory(PATTERNS["alignment"] + "/predictor"),
        steps=PATTERNS["alignment"] + "/steps.csv",
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
        settings=INPUTS.alignment_settings,
        key=INPUTS.key,
        recipe=lambda wildcards: RECIPES.alignment(*INPUTS.stage(wildcards)[:3]),
    script:
        "../scripts/align_predictor.py"


rule realign:
    # On the model of a stage; its hidden states are kept on local scratch meanwhile.
    input:
        llm=INPUTS.unlearned_llm,
        predictor=INPUTS.previous_predictor,
        windows=INPUTS.windows,
    output:
        predictor=directory(PATTERNS["realignment"] + "/predictor"),
        steps=PATTERNS["realignment"] + "/steps.csv",
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
        settings=INPUTS.alignment_settings,
        stage=lambda wildcards: INPUTS.stage(wildcards).number,
        key=INPUTS.key,
        in_grid=INPUTS.in_grid,
        gradient_checkpointing=config["gradient_checkpointing"],
        recipe=lambda wildcards: RECIPES.realignment(*INPUTS.stage(wildcards)),
    script:
        "../scripts/realign_predictor.py"
