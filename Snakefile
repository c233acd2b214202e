# Align-then-Unlearn: every table and figure from raw data.
# Rules are included in the order in which data flows; `snakemake -n` prints what a run would do.

from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")


configfile: Path(workflow.basedir) / "config.yaml"


report: "workflow/report/workflow.rst"


container: "envs/workflow.sif"


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/align.smk"
include: "workflow/rules/unlearn.smk"
include: "workflow/rules/baselines.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/reporting.smk"
include: "workflow/rules/cards.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/published.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/attacks.smk"
include: "workflow/rules/answers.smk"
include: "workflow/rules/experiments.smk"


onstart:
    check_cluster(workflow.executor_settings)


localrules:
    # Seconds each, or in need of the network that compute nodes often lack.
    all,
    forget,
    download_model,
    download_benchmark,
    download_texts,
    download_primers,
    count_probes,
    keep_model,
    model_card,
    extract_texts,
    known,
    main_table,
    matched_table,
    published_table,
    plot_tradeoff,
    plot_stages,
    plot_targets,
    attack_table,
    plot_attacks,
    answers_page,
    experiment_table,
    experiment_tradeoff,


rule all:
    default_target: True
    input:
        rules.main_table.output,
        rules.matched_table.output,
        rules.published_table.output,
        f"results/{LLM}/{BENCHMARK}/known.csv",
        rules.plot_tradeoff.output,
        rules.plot_stages.output,
        rules.plot_targets.output,
        rules.plot_attacks.output,
        [f"results/{LLM}/{BENCHMARK}/{target}/answers.html" for target in TARGETS],
        kept_models(),
        [run_path(*run, "model_card.md") for run in kept_model_runs()],


rule forget:
    # The unlearned models and their evaluations alone, without tables and figures.
    input:
        kept_models(),
        [run_path(*run, "model_card.md") for run in kept_model_runs()],
        outcome_files(),
