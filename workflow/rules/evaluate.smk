# Evaluate: the unmodified model once a subject, every stage of every run. What is asked after the last stage is asked
# of the kept model, so that changed questions and changed code train nothing; checkpoints of the stages between are
# gone once they are asked.


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
        **TEMPLATE,
        **ASKING,
        sets=probe_specs("before_and_after"),
        inside=".",
        recipe=recipe("before", "subject"),
    script:
        "../scripts/evaluate_model.py"


use rule evaluate_before as evaluate_after with:
    input:
        llm=finished_llm,
        base=adapter_base,
        probes=asked_probes,
        primers=primers_file,
        intervention=applied_intervention,
        before=lambda wildcards: before_files(wildcards.target),
    output:
        f"{RUN}/stage{{stage}}/probes.parquet",
    log:
        f"logs/evaluate/{RUN}/stage{{stage}}.log",
    wildcard_constraints:
        method=LAST_STAGE,
    resources:
        **needs("evaluate_after"),
    params:
        **COMPUTE,
        **ASKING,
        sets=probe_specs("before_and_after"),
        inside=".",
        recipe=recipe("evaluation", *RUN_NAMES, "stage"),


rule evaluate_between:
    input:
        llm=stage_checkpoint,
        base=adapter_base,
        probes=asked_probes,
        primers=primers_file,
    output:
        f"{RUN}/stage{{stage}}/probes.parquet",
    log:
        f"logs/evaluate/{RUN}/stage{{stage}}.log",
    wildcard_constraints:
        method=f"(?!{LAST_STAGE})[^/]+",
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **needs("evaluate_between"),
    params:
        **COMPUTE,
        **TEMPLATE,
        **ASKING,
        sets=probe_specs("between"),
        inside=checkpoint_inside,
        recipe=recipe("evaluation", *RUN_NAMES, "stage"),
    script:
        "../scripts/evaluate_model.py"


rule known:
    # Which probes the unmodified model can answer: what it never knew it cannot forget.
    input:
        expand("results/{{llm}}/{{benchmark}}/before/{target}.parquet", target=TARGETS),
    output:
        "results/{llm}/{benchmark}/known.csv",
    log:
        "logs/known/{llm}/{benchmark}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(),
    params:
        targets=TARGETS,
        recipes=lambda wildcards: own_answers(),
        recipe=lambda wildcards: known_recipe(),
    script:
        "../scripts/list_known.py"
