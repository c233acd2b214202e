# Experiments beside the main one: targets and methods of their own, tables and figures in folders of their own.


wildcard_constraints:
    experiment="|".join(map(re.escape, config["experiments"])) or "(?!)",


use rule main_table as experiment_table with:
    input:
        experiment_outcomes,
    output:
        long="results/experiments/{experiment}/main.csv",
        collapsed="results/experiments/{experiment}/collapsed.csv",
        learning_rates="results/experiments/{experiment}/learning_rates.csv",
        markdown="results/experiments/{experiment}/main.md",
        latex="results/experiments/{experiment}/main.tex",
        provenance="results/experiments/{experiment}/provenance.json",
        html="results/experiments/{experiment}/main.html",
    log:
        "logs/experiments/{experiment}.log",
    params:
        runs=experiment_runs,
        model=LLM,
        benchmark=BENCHMARK,
        dev_targets=config["dev_targets"],
        collapse=config["collapse"],
        grids={},


use rule plot_tradeoff as experiment_tradeoff with:
    input:
        long="results/experiments/{experiment}/main.csv",
        collapsed="results/experiments/{experiment}/collapsed.csv",
        learning_rates="results/experiments/{experiment}/learning_rates.csv",
    output:
        png="results/experiments/{experiment}/tradeoff.png",
        pdf="results/experiments/{experiment}/tradeoff.pdf",
    log:
        "logs/plot/{experiment}/tradeoff.log",


for experiment in config["experiments"]:

    rule:
        name:
            experiment
        input:
            f"results/experiments/{experiment}/main.csv",
            f"results/experiments/{experiment}/tradeoff.pdf",
