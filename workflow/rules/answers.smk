# Answers: what the model said before and after, and under attacks, question by question.


rule answers_page:
    input:
        before=lambda wildcards: experiment(wildcards.experiment_dir).base_answers(
            wildcards.target
        ),
        after=lambda wildcards: experiment(wildcards.experiment_dir).answered(
            wildcards.target
        ),
        attacked=lambda wildcards: experiment(
            wildcards.experiment_dir
        ).answered_attacked(wildcards.target),
    output:
        report(
            "{experiment_dir}/answers/{target}.html",
            caption="../report/answers.rst",
            **placed("Answers"),
            labels={"target": "{target}"},
        ),
    log:
        "logs/answers/{experiment_dir}/{target}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(mem_mb=4000),
    params:
        runs=lambda wildcards: experiment(wildcards.experiment_dir).answers(
            wildcards.target
        ),
        attacked=lambda wildcards: experiment(
            wildcards.experiment_dir
        ).answers_attacked(wildcards.target),
        model=setting("llm"),
        benchmark=config["benchmark"],
        collapse=setting("collapse"),
        recipe=lambda wildcards: experiment(
            wildcards.experiment_dir
        ).recipe_of_answers(wildcards.target),
    script:
        "../scripts/write_answers.py"
