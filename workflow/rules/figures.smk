# Figures: each from the tables alone.


rule plot_tradeoff:
    input:
        long="results/tables/main.csv",
        collapsed="results/tables/collapsed.csv",
        learning_rates="results/tables/learning_rates.csv",
    output:
        png=report(
            "results/figures/tradeoff.png",
            caption="../report/tradeoff.rst",
            category="Figures",
        ),
        pdf="results/figures/tradeoff.pdf",
    log:
        "logs/plot/tradeoff.log",
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(),
    params:
        dev_targets=config["dev_targets"],
        caption=caption("tradeoff"),
    script:
        "../scripts/plot_figure.py"


use rule plot_tradeoff as plot_stages with:
    output:
        png=report(
            "results/figures/stages.png",
            caption="../report/stages.rst",
            category="Figures",
        ),
        pdf="results/figures/stages.pdf",
    log:
        "logs/plot/stages.log",
    params:
        dev_targets=config["dev_targets"],
        caption=caption("stages"),


use rule plot_tradeoff as plot_targets with:
    output:
        png=report(
            "results/figures/targets.png",
            caption="../report/targets.rst",
            category="Figures",
        ),
        pdf="results/figures/targets.pdf",
    log:
        "logs/plot/targets.log",
    params:
        dev_targets=config["dev_targets"],
        caption=caption("targets"),
