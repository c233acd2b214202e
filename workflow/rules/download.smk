# Models and benchmarks, each once, checked, into resources/.


rule download_model:
    output:
        directory("resources/models/{model}"),
    log:
        "logs/download_model/{model}.log",
    retries: 2
    conda:
        "../../envs/workflow.yaml"
    resources:
        network=1,
        mem_mb=16000,
        runtime=120,
    params:
        source=lambda wildcards: config["models"][wildcards.model],
    script:
        "../scripts/download_model.py"


rule download_benchmark:
    output:
        directory("resources/benchmarks/{benchmark}"),
    log:
        "logs/download_benchmark/{benchmark}.log",
    retries: 2
    conda:
        "../../envs/workflow.yaml"
    resources:
        network=1,
        mem_mb=8000,
        runtime=120,
    params:
        source=lambda wildcards: config["benchmarks"][wildcards.benchmark],
        targets=config["all_targets"],
    script:
        "../scripts/download_benchmark.py"
