# Reproduced against published: each published number beside ours.


rule published_table:
    input:
        shown_outcomes,
        published=ancient(config["published"]["file"]),
        collapsed="results/{where}tables/collapsed.csv",
        learning_rates="results/{where}tables/learning_rates.csv",
    output:
        long="results/{where}tables/published.csv",
        markdown="results/{where}tables/published.md",
        html=report(
            "results/{where}tables/published.html",
            caption="../report/published_table.rst",
            **placed("Tables"),
        ),
    log:
        "logs/{where}published_table.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(mem_mb=4000),
    params:
        runs=published_runs,
        source=lambda wildcards, input: input.published.removeprefix(f"{ROOT}/"),
        model=LLM,
        benchmark=BENCHMARK,
        measured_on=config["published"]["benchmark"],
        contents=checksum(config["published"]["file"]),
        dev_targets=config["dev_targets"],
        bootstrap=config["bootstrap"],
        recipe=recipe_of_tables,
    script:
        "../scripts/compare_published.py"
