# Figures: each from the tables alone.


rule plot_tradeoff:
    input:
        long="results/{where}tables/main.csv",
        collapsed="results/{where}tables/collapsed.csv",
        learning_rates="results/{where}tables/learning_rates.csv",
    output:
        png=report(
            "results/{where}figures/tradeoff.png",
            caption="../report/tradeoff.rst",
            **placed("Figures"),
        ),
        pdf="results/{where}figures/tradeoff.pdf",
    log:
        "logs/{where}plot/tradeoff.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(),
    params:
        dev_targets=config["dev_targets"],
        caption=caption("tradeoff"),
        recipe=recipe_of_tables,
    script:
        "../scripts/plot_figure.py"


use rule plot_tradeoff as plot_stages with:
    output:
        png=report(
            "results/{where}figures/stages.png",
            caption="../report/stages.rst",
            **placed("Figures"),
        ),
        pdf="results/{where}figures/stages.pdf",
    log:
        "logs/{where}plot/stages.log",
    params:
        dev_targets=config["dev_targets"],
        caption=caption("stages"),
        recipe=recipe_of_tables,


use rule plot_tradeoff as plot_targets with:
    output:
        png=report(
            "results/{where}figures/targets.png",
            caption="../report/targets.rst",
            **placed("Figures"),
        ),
        pdf="results/{where}figures/targets.pdf",
    log:
        "logs/{where}plot/targets.log",
    params:
        dev_targets=config["dev_targets"],
        caption=caption("targets"),
        recipe=recipe_of_tables,


rule plot_training:
    # Losses and the predictor's similarity over the schedule of Align-then-Unlearn.
    input:
        steps=training_steps,
        learning_rates="results/{where}tables/learning_rates.csv",
    output:
        png=report(
            "results/{where}figures/training.png",
            caption="../report/training.rst",
            **placed("Figures"),
        ),
        pdf="results/{where}figures/training.pdf",
    log:
        "logs/{where}plot/training.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(),
    params:
        runs=training_runs,
        recipes=training_recipes,
        dev_targets=config["dev_targets"],
        caption=caption("training"),
        recipe=recipe_of_tables,
    script:
        "../scripts/plot_training.py"
