# Before: what the unmodified model can do, without any training.


rule before_table:
    input:
        lambda wildcards: [
            file for run in unmodified_runs(wildcards) for file in run["files"]
        ],
        published=ancient(config["published"]["file"]),
    output:
        long="results/{where}tables/before.csv",
        markdown=report(
            "results/{where}tables/before.md",
            caption="../report/before.rst",
            **placed("Tables"),
        ),
    log:
        "logs/{where}before_table.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(mem_mb=4000),
    params:
        runs=unmodified_runs,
        model=LLM,
        benchmark=BENCHMARK,
        measured_on=config["published"]["benchmark"],
        contents=checksum(config["published"]["file"]),
        dev_targets=config["dev_targets"],
        bootstrap=config["bootstrap"],
        recipe=lambda wildcards: table_recipe(unmodified_runs(wildcards)),
    script:
        "../scripts/score_before.py"
