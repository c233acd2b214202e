# Attacks: is what was forgotten still there? Each run's kept model, and the base model for comparison, is changed or
# asked in another way; its answers are kept like any others.


rule attack_before:
    input:
        llm=of("attacked_before").llm,
        probes=of("attacked_before").person_probes,
        texts=of("attacked_before").attack_texts,
    output:
        PATTERNS["attacked_before"],
    log:
        log_of("attack_before", "attacked_before"),
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **of("attacked_before").resources("attack_before"),
    params:
        **COMPUTE,
        template_options=of("attacked_before").template_options,
        asking=of("attacked_before").asking,
        sets=of("attacked_before").attack_sets,
        attack=of("attacked_before").attack,
        memory=of("attacked_before").attack_memory,
        recipe=of("attacked_before").recipe,
    script:
        "../scripts/attack_model.py"


use rule attack_before as attack_after with:
    input:
        llm=of("attacked").finished_llm,
        base=of("attacked").adapter_base,
        probes=of("attacked").person_probes,
        texts=of("attacked").attack_texts,
        intervention=of("attacked").intervention,
    output:
        PATTERNS["attacked"],
    log:
        log_of("attack_after", "attacked"),
    resources:
        **of("attacked").resources("attack_after"),
    params:
        **COMPUTE,
        template_options=of("attacked").template_options,
        asking=of("attacked").asking,
        sets=of("attacked").attack_sets,
        attack=of("attacked").attack,
        memory=of("attacked").attack_memory,
        recipe=of("attacked").recipe,


rule robustness_table:
    # Recall before and after each attack, beside the base model under the same attack.
    input:
        of_experiment("attack_files"),
        collapsed="{experiment_dir}/tables/collapsed.csv",
        learning_rates="{experiment_dir}/tables/learning_rates.csv",
    output:
        long="{experiment_dir}/tables/robustness.csv",
        markdown=report(
            "{experiment_dir}/tables/robustness.md",
            caption="../report/robustness_table.rst",
            **placed("Tables"),
        ),
    log:
        "logs/robustness_table/{experiment_dir}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(mem_mb=4000),
    params:
        runs=of_experiment("attacked"),
        dev_targets=setting("dev_targets"),
        bootstrap=setting("bootstrap"),
        recipe=of_experiment("recipe_of_attacked"),
    script:
        "../scripts/compare_attacks.py"
