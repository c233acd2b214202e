# Align: the predictor learns to see what the unmodified model is about to say.


rule align:
    input:
        windows=lambda wildcards: alignment_inputs(wildcards, "windows"),
        hidden_states=lambda wildcards: alignment_inputs(wildcards, "hidden_states"),
    output:
        predictor=directory(f"{RUN}/stage0/predictor"),
        steps=f"{RUN}/stage0/steps.csv",
    log:
        f"logs/align/{RUN}.log",
    priority: 1
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **needs("align"),
    params:
        **COMPUTE,
        method=lambda wildcards: settings(wildcards)["method"],
        predictor=lambda wildcards: settings(wildcards)["predictor"],
        align=lambda wildcards: settings(wildcards)["align"],
        key=settings_key,
        recipe=recipe("alignment", *RUN_NAMES),
    script:
        "../scripts/align_predictor.py"
