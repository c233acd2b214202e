# Evaluate: the base model once per subject, and every stage of every run. After the last stage the kept model is asked,
# so changed questions or code train nothing; checkpoints of earlier stages are deleted once they have been asked.


rule evaluate_before:
    input:
        llm=of("before").llm,
        probes=of("before").own_probes,
        primers=INPUTS.primers(),
    output:
        PATTERNS["before"],
    log:
        log_of("evaluate_before", "before"),
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **of("before").resources("evaluate_before"),
    params:
        **COMPUTE,
        template_options=of("before").template_options,
        asking=of("before").asking,
        sets=of("before").first_and_last_sets,
        checkpoint_subdir=".",
        recipe=of("before").recipe,
    script:
        "../scripts/evaluate_model.py"


use rule evaluate_before as evaluate_after with:
    input:
        llm=of("after").finished_llm,
        base=of("after").adapter_base,
        probes=of("after").probes,
        primers=INPUTS.primers(),
        intervention=of("after").intervention,
        unmodified=of("after").llm,
        before=of("after").before_subject,
    output:
        PATTERNS["after"],
    log:
        log_of("evaluate_after", "after"),
    priority: ASKED_FIRST
    resources:
        **of("after").resources("evaluate_after"),
    params:
        **COMPUTE,
        template_options=of("after").template_options,
        asking=of("after").asking,
        sets=of("after").first_and_last_sets,
        checkpoint_subdir=".",
        recipe=of("after").recipe,


use rule evaluate_before as evaluate_between with:
    input:
        llm=of("between").asked_llm,
        base=of("between").adapter_base,
        unmodified=of("between").llm,
        probes=of("between").probes,
        primers=INPUTS.primers(),
    output:
        PATTERNS["between"],
    log:
        log_of("evaluate_between", "between"),
    priority: ASKED_FIRST
    resources:
        **of("between").resources("evaluate_between"),
    params:
        **COMPUTE,
        template_options=of("between").template_options,
        asking=of("between").asking,
        sets=of("between").sets_between,
        checkpoint_subdir=of("between").epoch,
        recipe=of("between").recipe,


rule known:
    # Which probes the base model can answer, since it cannot forget what it never knew.
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
