# Answers: what the model said before and after, question by question.


rule answers_page:
    input:
        before=lambda wildcards: before_files(wildcards.target),
        after=lambda wildcards: [
            file
            for run in answer_runs(wildcards)
            if run["stage"] > 0
            for file in run["files"]
        ],
    output:
        report(
            "results/{where}answers/{target}.html",
            caption="../report/answers.rst",
            **placed("Answers"),
            labels={"target": "{target}"},
        ),
    log:
        "logs/{where}answers/{target}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(mem_mb=4000),
    params:
        runs=answer_runs,
        recipe=lambda wildcards: table_recipe(answer_runs(wildcards)),
    script:
        "../scripts/write_answers.py"
