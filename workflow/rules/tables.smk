# Tables: all outcomes in long form, and the paper's table from it.


rule main_table:
    input:
        outcome_files(),
    output:
        long="results/tables/main.csv",
        collapsed=report(
            "results/tables/collapsed.csv",
            caption="../report/collapsed.rst",
            category="Tables",
        ),
        learning_rates=report(
            "results/tables/learning_rates.csv",
            caption="../report/learning_rates.rst",
            category="Tables",
        ),
        markdown=report(
            "results/tables/main.md",
            caption="../report/main_table.rst",
            category="Tables",
        ),
        latex="results/tables/main.tex",
        provenance=report(
            "results/tables/provenance.json",
            caption="../report/provenance.rst",
            category="Provenance",
        ),
        html=report(
            "results/tables/main.html",
            caption="../report/main_table.rst",
            category="Tables",
        ),
    log:
        "logs/main_table.log",
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(mem_mb=4000),
    params:
        runs=runs(),
        model=LLM,
        benchmark=BENCHMARK,
        dev_targets=config["dev_targets"],
        collapse=config["collapse"],
        grids=config["grids"],
    script:
        "../scripts/build_tables.py"


rule matched_table:
    # Methods forget at different depths: what neighbours keep where each has forgotten as much.
    input:
        outcome_files(),
        learning_rates="results/tables/learning_rates.csv",
    output:
        long="results/tables/matched.csv",
        markdown=report(
            "results/tables/matched.md",
            caption="../report/matched_table.rst",
            category="Tables",
        ),
    log:
        "logs/matched_table.log",
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(mem_mb=4000),
    params:
        runs=runs(),
        dev_targets=config["dev_targets"],
        bootstrap=config["bootstrap"],
    script:
        "../scripts/compare_methods.py"
