# Forgetting by type of attack: the adversarial probes, split by what is tried.


rule attack_table:
    input:
        outcome_files(),
        collapsed="results/tables/collapsed.csv",
        learning_rates="results/tables/learning_rates.csv",
    output:
        long="results/tables/adversarial_types.csv",
        markdown=report(
            "results/tables/adversarial_types.md",
            caption="../report/adversarial_types.rst",
            category="Tables",
        ),
    log:
        "logs/attack_table.log",
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(mem_mb=4000),
    params:
        runs=first_and_last_runs(),
        dev_targets=config["dev_targets"],
        bootstrap=config["bootstrap"],
    script:
        "../scripts/split_attacks.py"


rule plot_attacks:
    input:
        "results/tables/adversarial_types.csv",
    output:
        png=report(
            "results/figures/adversarial_types.png",
            caption="../report/adversarial_types.rst",
            category="Figures",
        ),
        pdf="results/figures/adversarial_types.pdf",
    log:
        "logs/plot/adversarial_types.log",
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(),
    script:
        "../scripts/plot_attacks.py"
