# Reproduced against published: each published number beside ours.


rule published_table:
    input:
        of_experiment("evaluations"),
        published=ancient(config["published"]["file"]),
        collapsed="{experiment_dir}/tables/collapsed.csv",
        learning_rates="{experiment_dir}/tables/learning_rates.csv",
    output:
        long="{experiment_dir}/tables/published.csv",
        markdown="{experiment_dir}/tables/published.md",
        html=report(
            "{experiment_dir}/tables/published.html",
            caption="../report/published_table.rst",
            **placed("Tables"),
        ),
    log:
        "logs/published_table/{experiment_dir}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(mem_mb=4000),
    params:
        runs=of_experiment("published"),
        source=lambda wildcards, input: input.published.removeprefix(f"{ROOT}/"),
        model=setting("llm"),
        benchmark=config["benchmark"],
        measured_on=config["published"]["benchmark"],
        contents=checksum(config["published"]["file"]),
        dev_targets=setting("dev_targets"),
        bootstrap=setting("bootstrap"),
        recipe=of_experiment("recipe_of_published"),
    script:
        "../scripts/compare_published.py"
