# By type of probe: forgetting by what an attack tries, membership inference by score.


rule attack_table:
    input:
        shown_outcomes,
        collapsed="results/{where}tables/collapsed.csv",
        learning_rates="results/{where}tables/learning_rates.csv",
    output:
        long="results/{where}tables/adversarial_types.csv",
        markdown=report(
            "results/{where}tables/adversarial_types.md",
            caption="../report/adversarial_types.rst",
            **placed("Tables"),
        ),
    log:
        "logs/{where}attack_table.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(mem_mb=4000),
    params:
        runs=first_and_last_runs,
        dev_targets=config["dev_targets"],
        bootstrap=config["bootstrap"],
        recipe=recipe_of_tables,
        heading="Attack",
    script:
        "../scripts/break_down.py"


use rule attack_table as membership_table with:
    output:
        long="results/{where}tables/mia.csv",
        markdown=report(
            "results/{where}tables/mia.md",
            caption="../report/mia.rst",
            **placed("Tables"),
        ),
    log:
        "logs/{where}membership_table.log",
    params:
        runs=first_and_last_runs,
        dev_targets=config["dev_targets"],
        bootstrap=config["bootstrap"],
        recipe=recipe_of_tables,
        heading="Texts, score",


rule plot_attacks:
    input:
        "results/{where}tables/adversarial_types.csv",
    output:
        png=report(
            "results/{where}figures/adversarial_types.png",
            caption="../report/adversarial_types.rst",
            **placed("Figures"),
        ),
        pdf="results/{where}figures/adversarial_types.pdf",
    log:
        "logs/{where}plot/adversarial_types.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(),
    params:
        recipe=recipe_of_tables,
    script:
        "../scripts/plot_attacks.py"
