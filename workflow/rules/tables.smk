# Tables: all outcomes in long form, and the paper's table from it.


rule main_table:
    input:
        outcome_files(),
    output:
        long="results/tables/main.csv",
        markdown=report(
            "results/tables/main.md",
            caption="../report/main_table.rst",
            category="Tables",
        ),
        latex="results/tables/main.tex",
        provenance="results/tables/provenance.json",
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
        mem_mb=4000,
        runtime=30,
    params:
        runs=runs(),
        model=LLM,
        benchmark=BENCHMARK,
        dev_targets=config["dev_targets"],
    script:
        "../scripts/build_tables.py"
