# Evaluate: the base model once a subject, every stage of every run. What is asked after the last stage is asked of the
# kept model, so that changed questions and changed code train nothing; checkpoints of the stages between are gone once
# they are asked.


rule evaluate_before:
    input:
        llm=PATHS.llm,
        probes=lambda wildcards: [PATHS.probes(wildcards.subject)],
        primers=INPUTS.primers(),
    output:
        PATTERNS["before"],
    log:
        log_of("evaluate_before", "before"),
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **model_job("evaluate_before"),
    params:
        **COMPUTE,
        **TEMPLATE,
        **ASKING,
        sets=INPUTS.specs("before_and_after"),
        checkpoint_subdir=".",
        recipe=lambda wildcards: RECIPES.before(wildcards.subject),
    script:
        "../scripts/evaluate_model.py"


use rule evaluate_before as evaluate_after with:
    input:
        llm=INPUTS.finished_llm,
        base=INPUTS.of_run.adapter_base,
        probes=lambda wildcards: INPUTS.probes(wildcards.target),
        primers=INPUTS.primers(),
        intervention=INPUTS.intervention,
        before=INPUTS.before,
    output:
        PATTERNS["after"],
    log:
        log_of("evaluate_after", "after"),
    resources:
        **model_job("evaluate_after"),
    params:
        **COMPUTE,
        **TEMPLATE,
        **ASKING,
        sets=INPUTS.specs("before_and_after"),
        checkpoint_subdir=".",
        recipe=lambda wildcards: RECIPES.after(*INPUTS.run(wildcards)[:3]),


use rule evaluate_before as evaluate_between with:
    input:
        llm=INPUTS.asked_llm,
        base=INPUTS.of_stage.adapter_base,
        probes=lambda wildcards: INPUTS.probes(wildcards.target),
        primers=INPUTS.primers(),
    output:
        PATTERNS["between"],
    log:
        log_of("evaluate_between", "between"),
    resources:
        **model_job("evaluate_between"),
    params:
        **COMPUTE,
        **TEMPLATE,
        **ASKING,
        sets=INPUTS.specs("between"),
        checkpoint_subdir=lambda wildcards: INPUTS.epoch(INPUTS.asked_stage(wildcards)),
        recipe=lambda wildcards: RECIPES.between(*INPUTS.asked_stage(wildcards)),


rule known:
    # Which probes the base model can answer: what it never knew it cannot forget.
    input:
        lambda wildcards: list(experiment(wildcards.experiment_dir).known),
    output:
        "{experiment_dir}/tables/known.csv",
    log:
        "logs/known/{experiment_dir}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(),
    params:
        targets=of_experiment("targets"),
        recipes=of_experiment("known"),
        recipe=of_experiment("recipe_of_known"),
    script:
        "../scripts/list_known.py"
