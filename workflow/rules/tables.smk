# Tables: all outcomes in long form, and the paper's table from it.


rule overall_table:
    input:
        shown_outcomes,
    output:
        long="results/{where}tables/main.csv",
        collapsed=report(
            "results/{where}tables/collapsed.csv",
            caption="../report/collapsed.rst",
            **placed("Tables"),
        ),
        learning_rates=report(
            "results/{where}tables/learning_rates.csv",
            caption="../report/learning_rates.rst",
            **placed("Tables"),
        ),
        markdown=report(
            "results/{where}tables/main.md",
            caption="../report/main_table.rst",
            **placed("Tables"),
        ),
        latex="results/{where}tables/main.tex",
        provenance=report(
            "results/{where}tables/provenance.json",
            caption="../report/provenance.rst",
            **placed("Provenance"),
        ),
        html=report(
            "results/{where}tables/main.html",
            caption="../report/main_table.rst",
            **placed("Tables"),
        ),
    log:
        "logs/{where}overall_table.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(mem_mb=4000),
    params:
        runs=shown_runs,
        title=lambda wildcards: Path(wildcards.where).name or "Main table",
        chosen=lambda wildcards: {
            key: experiment(wildcards.where)[key]
            for key in ("targets", "methods", "seeds")
        },
        model=LLM,
        benchmark=BENCHMARK,
        dev_targets=config["dev_targets"],
        collapse=config["collapse"],
        grids=config["grids"],
        recipe=recipe_of_tables,
    script:
        "../scripts/build_tables.py"


rule matched_table:
    # Methods forget at different depths: what neighbours keep where each has forgotten as much.
    input:
        shown_outcomes,
        learning_rates="results/{where}tables/learning_rates.csv",
    output:
        long="results/{where}tables/matched.csv",
        markdown=report(
            "results/{where}tables/matched.md",
            caption="../report/matched_table.rst",
            **placed("Tables"),
        ),
    log:
        "logs/{where}matched_table.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(mem_mb=4000),
    params:
        runs=shown_runs,
        dev_targets=config["dev_targets"],
        bootstrap=config["bootstrap"],
        recipe=recipe_of_tables,
    script:
        "../scripts/compare_methods.py"
