# Scores of texts: how well each run's kept model, and the base model, know them by heart; and the damage.


rule score_texts_before:
    input:
        llm=of("scored_before").llm,
        texts=of("scored_before").scored_texts,
    output:
        PATTERNS["scored_before"],
    log:
        log_of("score_texts_before", "scored_before"),
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **of("scored_before").resources("score_texts_before"),
    params:
        **COMPUTE,
        template_options=of("scored_before").template_options,
        batch_tokens=of("scored_before").batch_tokens,
        max_tokens=of("scored_before").most_tokens,
        text_groups=of("scored_before").text_groups,
        recipe=of("scored_before").recipe,
    script:
        "../scripts/score_texts.py"


use rule score_texts_before as score_texts_after with:
    # The base model beside the kept one, even if that is the base model with an intervention.
    input:
        llm=of("scored").finished_llm,
        adapter_base=of("scored").adapter_base,
        base=of("scored").llm,
        texts=of("scored").scored_texts,
        intervention=of("scored").intervention,
    output:
        PATTERNS["scored"],
    log:
        log_of("score_texts_after", "scored"),
    resources:
        **of("scored").resources("score_texts_after"),
    params:
        **COMPUTE,
        template_options=of("scored").template_options,
        batch_tokens=of("scored").batch_tokens,
        max_tokens=of("scored").most_tokens,
        text_groups=of("scored").text_groups,
        recipe=of("scored").recipe,


rule text_scores_table:
    input:
        of_experiment("scored_files"),
        collapsed="{experiment_dir}/tables/collapsed.csv",
        learning_rates="{experiment_dir}/tables/learning_rates.csv",
    output:
        long="{experiment_dir}/tables/text_scores.csv",
        markdown=report(
            "{experiment_dir}/tables/text_scores.md",
            caption="../report/text_scores_table.rst",
            **placed("Tables"),
        ),
    log:
        "logs/text_scores_table/{experiment_dir}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(mem_mb=4000),
    params:
        runs=of_experiment("scored"),
        groups=setting("text_scores"),
        dev_targets=setting("dev_targets"),
        bootstrap=setting("bootstrap"),
        recipe=of_experiment("recipe_of_scored"),
    script:
        "../scripts/compare_texts.py"
