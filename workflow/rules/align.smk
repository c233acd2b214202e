# Align: the predictor learns to see what the unmodified model is about to say.


def alignment_inputs(wildcards, kind):
    """Windows or hidden states of the target and the others, target first."""
    chosen = settings(wildcards)
    folder = (
        f"results/{wildcards.llm}/{wildcards.benchmark}/{kind}/{ENCODER}/k{chosen['k']}"
    )
    subjects = alignment_subjects(wildcards.target, wildcards.method, wildcards.seed)
    if kind == "windows":
        return [f"{folder}/{subject}.safetensors" for subject in subjects]
    return [
        ancient(f"{folder}/layer{chosen['layer']}/{subject}") for subject in subjects
    ]


rule align:
    input:
        windows=lambda wildcards: alignment_inputs(wildcards, "windows"),
        hidden_states=lambda wildcards: alignment_inputs(wildcards, "hidden_states"),
    output:
        predictor=directory(f"{RUN}/stage0/predictor"),
        steps=f"{RUN}/stage0/steps.csv",
    log:
        f"logs/align/{RUN}.log",
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=240,
    params:
        **COMPUTE,
        predictor=lambda wildcards: settings(wildcards)["predictor"],
        align=lambda wildcards: settings(wildcards)["align"],
    script:
        "../scripts/align_predictor.py"
