# Align: the predictor learns to see what the base model is about to say.


rule align:
    input:
        windows=of("alignment").windows,
        hidden_states=ancient(of("alignment").states),
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
        **of("alignment").resources("align"),
    params:
        **COMPUTE,
        settings=of("alignment").settings,
        key=of("alignment").key,
        recipe=of("alignment").recipe,
    script:
        "../scripts/align_predictor.py"


rule realign:
    # On the kept model of a shorter run, for a run that continues from it.
    input:
        llm=of("realignment").checkpoint,
        predictor=of("realignment").previous_predictor,
        windows=of("realignment").windows,
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
        **of("realignment").resources("realign"),
    params:
        **COMPUTE,
        settings=of("realignment").settings,
        stage=of("realignment").number,
        key=of("realignment").key,
        in_grid=of("realignment").in_grid,
        recipe=of("realignment").recipe,
    script:
        "../scripts/realign_predictor.py"
