# Tables: all predictions in long form, and the paper's table from it.


rule overall_table:
    input:
        of_experiment("evaluations"),
    output:
        long="{experiment_dir}/tables/main.csv",
        collapsed=report(
            "{experiment_dir}/tables/collapsed.csv",
            caption="../report/collapsed.rst",
            **placed("Tables"),
        ),
        learning_rates=report(
            "{experiment_dir}/tables/learning_rates.csv",
            caption="../report/learning_rates.rst",
            **placed("Tables"),
        ),
        markdown=report(
            "{experiment_dir}/tables/main.md",
            caption="../report/main_table.rst",
            **placed("Tables"),
        ),
        latex="{experiment_dir}/tables/main.tex",
        provenance=report(
            "{experiment_dir}/tables/provenance.json",
            caption="../report/provenance.rst",
            **placed("Provenance"),
        ),
        html=report(
            "{experiment_dir}/tables/main.html",
            caption="../report/main_table.rst",
            **placed("Tables"),
        ),
    log:
        "logs/overall_table/{experiment_dir}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(mem_mb=4000),
    params:
        runs=of_experiment("rows"),
        title=of_experiment("title"),
        chosen=of_experiment("own_runs"),
        config=of_experiment("covered"),
        model=setting("llm"),
        benchmark=config["benchmark"],
        dev_targets=setting("dev_targets"),
        collapse=setting("collapse"),
        grids=setting("grids"),
        steps=of_experiment("training"),
        recipe=of_experiment("recipe"),
    script:
        "../scripts/build_tables.py"


rule matched_table:
    # Methods forget to different depths, so compare what neighbours keep at equal forgetting.
    input:
        of_experiment("evaluations"),
        of_experiment("attack_files"),
        collapsed="{experiment_dir}/tables/collapsed.csv",
        learning_rates="{experiment_dir}/tables/learning_rates.csv",
    output:
        long="{experiment_dir}/tables/matched.csv",
        markdown=report(
            "{experiment_dir}/tables/matched.md",
            caption="../report/matched_table.rst",
            **placed("Tables"),
        ),
    log:
        "logs/matched_table/{experiment_dir}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(mem_mb=4000),
    params:
        runs=of_experiment("rows"),
        attacked=of_experiment("attacked"),
        dev_targets=setting("dev_targets"),
        bootstrap=setting("bootstrap"),
        recipe=of_experiment("recipe_of_attacked"),
    script:
        "../scripts/compare_methods.py"


rule selected_table:
    # How far to train each method: the stage that the budget of damage allows, beside the last stage.
    input:
        of_experiment("to_choose_from"),
        collapsed="{experiment_dir}/tables/collapsed.csv",
        learning_rates="{experiment_dir}/tables/learning_rates.csv",
    output:
        long="{experiment_dir}/tables/selected.csv",
        markdown=report(
            "{experiment_dir}/tables/selected.md",
            caption="../report/selected_table.rst",
            **placed("Tables"),
        ),
    log:
        "logs/selected_table/{experiment_dir}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(mem_mb=4000),
    params:
        runs=of_experiment("rows"),
        model=setting("llm"),
        benchmark=config["benchmark"],
        dev_targets=setting("dev_targets"),
        selection=setting("selection"),
        recipe=of_experiment("recipe_of_selected"),
    script:
        "../scripts/select_stages.py"
