# Evaluate: the unmodified model once a subject, every stage of every run.


rule evaluate_before:
    input:
        llm="resources/models/{llm}",
        probes=["results/{benchmark}/probes/{subject}.parquet"],
        primers=primers_file,
    output:
        "results/{llm}/{benchmark}/before/{subject}.parquet",
    log:
        "logs/evaluate/{llm}/{benchmark}/before/{subject}.log",
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **needs("evaluate_before"),
    params:
        **COMPUTE,
        **ASKING,
        sets=probe_specs("before_and_after"),
        inside=".",
    script:
        "../scripts/evaluate_model.py"


use rule evaluate_before as evaluate_stage with:
    input:
        llm=evaluated_llm,
        probes=lambda wildcards: [
            f"results/{wildcards.benchmark}/probes/{subject}.parquet"
            for subject in [wildcards.target] + [UTILITY] * SHARED_UTILITY
        ],
        primers=primers_file,
        intervention=applied_intervention,
        before=asked_before,
    output:
        f"{RUN}/stage{{stage}}/probes.parquet",
    log:
        f"logs/evaluate/{RUN}/stage{{stage}}.log",
    resources:
        **needs("evaluate_stage"),
    params:
        **COMPUTE,
        **ASKING,
        sets=lambda wildcards: probe_specs(
            asked_when(wildcards.method, int(wildcards.stage))
        ),
        inside=checkpoint_inside,


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
        **light(),
    params:
        targets=TARGETS,
    script:
        "../scripts/list_known.py"
