# Before: what the base model can do, without any training.


rule before_table:
    input:
        of_experiment("base_evaluations"),
        published=ancient(config["published"]["file"]),
    output:
        long="{experiment_dir}/tables/before.csv",
        markdown=report(
            "{experiment_dir}/tables/before.md",
            caption="../report/before.rst",
            **placed("Tables"),
        ),
    log:
        "logs/before_table/{experiment_dir}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(mem_mb=4000),
    params:
        runs=of_experiment("before"),
        model=config["llm"],
        benchmark=config["benchmark"],
        measured_on=config["published"]["benchmark"],
        contents=checksum(config["published"]["file"]),
        dev_targets=config["dev_targets"],
        bootstrap=config["bootstrap"],
        recipe=of_experiment("recipe_of_before"),
    script:
        "../scripts/score_before.py"
