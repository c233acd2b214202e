# Evaluate: the unmodified model once a subject, every stage of every run.


rule evaluate_before:
    input:
        llm="resources/models/{llm}",
        probes="results/{benchmark}/probes/{subject}.parquet",
        primers=primer_file,
    output:
        "results/{llm}/{benchmark}/before/{subject}.parquet",
    log:
        "logs/evaluate/{llm}/{benchmark}/before/{subject}.log",
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=24000,
        runtime=120,
    params:
        **COMPUTE,
        folder=lambda wildcards: benchmark_folder(wildcards.benchmark),
        sets=probe_specs("before_and_after"),
        batch_size=config["evaluation"]["batch_size"],
        max_new_tokens=config["evaluation"]["max_new_tokens"],
    script:
        "../scripts/evaluate_model.py"


use rule evaluate_before as evaluate_stage with:
    input:
        llm=evaluated_llm,
        probes=lambda wildcards: [
            f"results/{wildcards.benchmark}/probes/{subject}.parquet"
            for subject in [wildcards.target] + ["utility"] * SHARED_UTILITY
        ],
        primers=primer_file,
    output:
        f"{RUN}/stage{{stage}}/probes.parquet",
    log:
        f"logs/evaluate/{RUN}/stage{{stage}}.log",
    params:
        **COMPUTE,
        folder=lambda wildcards: benchmark_folder(wildcards.benchmark),
        sets=lambda wildcards: probe_specs(evaluated_when(wildcards)),
        batch_size=config["evaluation"]["batch_size"],
        max_new_tokens=config["evaluation"]["max_new_tokens"],


rule known:
    # Which probes the unmodified model can answer: what it never knew it cannot forget.
    input:
        expand("results/{{llm}}/{{benchmark}}/before/{target}.parquet", target=TARGETS),
    output:
        "results/{llm}/{benchmark}/known.csv",
    log:
        "logs/known/{llm}/{benchmark}.log",
    conda:
        "../../envs/workflow.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        targets=TARGETS,
    script:
        "../scripts/list_known.py"
