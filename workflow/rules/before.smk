# Before: what unmodified models can do, without any training.


rule before_table:
    input:
        of_experiment("base_evaluations"),
        published=ancient(
            [config["published"]["file"], config["published"]["found_by_others"]]
        ),
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
        benchmark=config["benchmark"],
        measured_on=config["published"]["benchmark"],
        contents=checksum(
            config["published"]["file"], config["published"]["found_by_others"]
        ),
        dev_targets=setting("dev_targets"),
        bootstrap=setting("bootstrap"),
        recipe=of_experiment("recipe_of_before"),
    script:
        "../scripts/score_before.py"
