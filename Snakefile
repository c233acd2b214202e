# Align-then-Unlearn: every table and figure from raw data.
# Rules are included in the order in which data flows; `snakemake -n` prints what a run would do.

from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")


# also in a module, where workflow.basedir is the importer's folder
DEFAULTS = workflow.current_basedir.join("config.yaml")


configfile: DEFAULTS.get_path_or_uri(secret_free=True)


report: "workflow/report/workflow.rst"


container: "envs/workflow.sif"


include: "workflow/rules/common.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/align.smk"
include: "workflow/rules/unlearn.smk"
include: "workflow/rules/baselines.smk"
include: "workflow/rules/sequence.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/before.smk"
include: "workflow/rules/attacks.smk"
include: "workflow/rules/layers.smk"
include: "workflow/rules/texts.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/published.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/front.smk"
include: "workflow/rules/breakdown.smk"
include: "workflow/rules/answers.smk"
include: "workflow/rules/experiments.smk"


onstart:
    if workflow.execution_settings.lock:  # --nolock: the user knows better
        take_directory()
    check_modules(ROOT, workflow.deployment_settings.deployment_method)
    check_cluster(workflow.executor_settings)
    note_command(log, workflow.rundir)
    for line in [*clear_leftovers(), *old_results()]:
        logger.info(line)
    for note in notes(config):
        logger.info(f"note: {note}")


# A changed script makes its outputs again. Its content is compared, since a checkout sets dates. Excepted are
# evaluate_between, whose checkpoints would have to be trained again, and check_model, which makes nothing.
for made in own_rules():
    if made.script and not made.name.endswith(("evaluate_between", "check_model")):
        made.set_params(code=code_of(made.script))


rule all:
    default_target: True
    input:
        all_of(OWN),
        f"{OWN}/tables/known.csv",
        lambda wildcards: experiment().kept() if config["with_models"] else [],
    localrule: True


rule download:
    # Everything that needs a network: the models and the benchmark.
    input:
        PATHS.llm,
        PATHS.encoder,
        INPUTS.downloads(),
        lambda wildcards: experiment().checkpoints(config["llm"]),
    localrule: True


rule before:
    # What unmodified models can do, without any training; the table is printed.
    input:
        lambda wildcards: experiment().checked_before(),
        long=f"{OWN}/tables/before.csv",
        page=f"{OWN}/tables/before.md",
    log:
        "logs/before.log",
    localrule: True
    shell:
        "tee {log} < {input.page}"


rule forget:
    # The unlearned models and their evaluations, without tables and figures.
    input:
        experiment().checked(),
        lambda wildcards: experiment().kept(),
        lambda wildcards: experiment().evaluations,
    localrule: True


rule paper:
    # All tables and figures of the paper.
    input:
        [all_of(folder_of(name)) for name in config["paper"]],
        f"{OWN}/tables/known.csv",
    localrule: True


if MAIN and not IMPORTED:  # an importer's other rules are not known yet
    counted = (
        () if config["device"] == "cpu" else ("gpus_per_job", "gpus_per_evaluation")
    )
    check_resources(
        workflow.resource_settings,
        [rule.name for rule in workflow.rules],
        {key: config[key] for key in counted},
    )
