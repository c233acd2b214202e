# Unlearn: one job a stage. Each lowers tau, trains the model, and re-aligns the predictor on it.


rule unlearn:
    input:
        llm=previous_llm,
        predictor=lambda wildcards: f"{RUN}/stage{int(wildcards.stage) - 1}/predictor",
        target=f"results/{{llm}}/{{benchmark}}/target_embeddings/{ENCODER}/{{target}}.safetensors",
        windows=lambda wildcards: alignment_inputs(wildcards, "windows"),
        retained=retained_states,
        guard=guarded_outcomes,
    output:
        llm=temp(directory(f"{RUN}/stage{{stage}}/llm")),
        predictor=temp(directory(f"{RUN}/stage{{stage}}/predictor")),
        steps=f"{RUN}/stage{{stage}}/steps.csv",
    log:
        f"logs/unlearn/{RUN}/stage{{stage}}.log",
    priority: 1
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **needs("unlearn"),
    params:
        **COMPUTE,
        method=lambda wildcards: settings(wildcards)["method"],
        tau=lambda wildcards: stages(wildcards.method)[int(wildcards.stage) - 1],
        last=is_last,
        layer=lambda wildcards: settings(wildcards)["layer"],
        unlearn=lambda wildcards: {
            key: value
            for key, value in settings(wildcards)["unlearn"].items()
            if key != "tau"
        },
        align=lambda wildcards: settings(wildcards)["align"],
        collapse=config["collapse"],
        key=settings_key,
        in_grid=in_grid,
        gradient_checkpointing=config["gradient_checkpointing"],
        recipe=recipe("stage", *RUN_NAMES, "stage"),
    script:
        "../scripts/unlearn_stage.py"


rule keep_model:
    # The last stage's model, as a directory that from_pretrained loads.
    input:
        llm=stage_checkpoint,
        base=adapter_base,
    output:
        directory(f"{RUN}/model"),
    log:
        f"logs/keep_model/{RUN}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **needs("keep_model"),
    params:
        settings=settings,
        inside=checkpoint_inside,
        base=base_on_hub,
        recipe=recipe("kept", *RUN_NAMES),
    script:
        "../scripts/keep_model.py"
