# Model cards: what each kept model is and what it scores.


def kept_model_runs():
    """Target, method and seed of each run that keeps a model of its own."""
    return [
        run
        for run in itertools.product(TARGETS, METHODS, SEEDS)
        if KINDS[run[1]] != "applied"
    ]


def last_outcomes(wildcards):
    """Outcomes after the last stage, if anything is asked then."""
    stage = len(stages(wildcards.method))
    asked = config["evaluation"][asked_when(wildcards.method, stage)]
    return [f"{RUN}/stage{stage}/probes.parquet"] if asked else []


def base_model(wildcards):
    """The base model's name on the hub and its licence, where they are known."""
    source = config["models"][wildcards.llm]
    known = {"base_model": source["repo"]} if source["source"] == "hub" else {}
    return known | config["model_cards"].get(wildcards.llm, {})


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
    conda:
        "../../envs/workflow.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        base=base_model,
        dataset=lambda wildcards: config["benchmarks"][wildcards.benchmark].get("repo"),
    script:
        "../scripts/write_card.py"
