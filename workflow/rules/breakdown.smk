# By type of probe: forgetting by type of adversarial probe, membership inference by score.


rule attack_table:
    input:
        of_experiment("evaluations"),
        collapsed="{experiment_dir}/tables/collapsed.csv",
        learning_rates="{experiment_dir}/tables/learning_rates.csv",
    output:
        long="{experiment_dir}/tables/adversarial_types.csv",
        markdown=report(
            "{experiment_dir}/tables/adversarial_types.md",
            caption="../report/adversarial_types.rst",
            **placed("Tables"),
        ),
    log:
        "logs/attack_table/{experiment_dir}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(mem_mb=4000),
    params:
        runs=of_experiment("ends"),
        dev_targets=setting("dev_targets"),
        bootstrap=setting("bootstrap"),
        recipe=of_experiment("recipe"),
        heading="Attack",
    script:
        "../scripts/break_down.py"


use rule attack_table as membership_table with:
    output:
        long="{experiment_dir}/tables/mia.csv",
        markdown=report(
            "{experiment_dir}/tables/mia.md",
            caption="../report/mia.rst",
            **placed("Tables"),
        ),
    log:
        "logs/membership_table/{experiment_dir}.log",
    params:
        runs=of_experiment("ends"),
        dev_targets=setting("dev_targets"),
        bootstrap=setting("bootstrap"),
        recipe=of_experiment("recipe"),
        heading="Texts, score",
