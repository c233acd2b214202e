# Reproduced against published: each published number beside ours.


rule published_table:
    input:
        outcome_files(),
        published=config["published"]["file"],
        collapsed="results/tables/collapsed.csv",
        learning_rates="results/tables/learning_rates.csv",
    output:
        long="results/tables/published.csv",
        markdown="results/tables/published.md",
        html=report(
            "results/tables/published.html",
            caption="../report/published_table.rst",
            category="Tables",
        ),
    log:
        "logs/published_table.log",
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(mem_mb=4000),
    params:
        runs=published_runs(),
        model=LLM,
        benchmark=BENCHMARK,
        measured_on=config["published"]["benchmark"],
        dev_targets=config["dev_targets"],
        bootstrap=config["bootstrap"],
    script:
        "../scripts/compare_published.py"
