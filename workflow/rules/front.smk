# The first page: sentences, the main table and the trade-off.


rule front_page:
    input:
        long="{experiment_dir}/tables/main.csv",
        collapsed="{experiment_dir}/tables/collapsed.csv",
        learning_rates="{experiment_dir}/tables/learning_rates.csv",
        figure="{experiment_dir}/figures/tradeoff.svg",
    output:
        report(
            "{experiment_dir}/index.html",
            caption="../report/front.rst",
            **placed("Front page"),
        ),
    log:
        "logs/front_page/{experiment_dir}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(),
    params:
        name=of_experiment("name"),
        model=setting("llm"),
        benchmark=config["benchmark"],
        dev_targets=setting("dev_targets"),
        recipe=of_experiment("recipe"),
    script:
        "../scripts/write_front.py"
