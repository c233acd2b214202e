# Model cards: what each kept model is and what it scores.


rule model_card:
    # The evaluation reads the model's directory, so the card cannot be one of its outputs: it is written beside it,
    # and then into it, which Snakemake does not take for a change (it dates a directory by when its rule ended).
    input:
        model=f"{RUN}/model",
        before=lambda wildcards: before_files(wildcards.target),
        after=last_outcomes,
    output:
        f"{RUN}/model_card.md",
    log:
        f"logs/model_card/{RUN}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(),
    params:
        recipes=described,
        collapse=config["collapse"],
        base=base_model,
        dataset=lambda wildcards: config["benchmarks"][wildcards.benchmark].get("repo"),
    script:
        "../scripts/write_card.py"
