# Figures, drawn from tables; those of training are drawn from the steps of its stages.


rule plot:
    # FIGURES says what a figure reads. Its caption is a param, so that a changed caption draws the figure again.
    input:
        unpack(
            lambda wildcards: experiment(wildcards.experiment_dir).read_by(
                wildcards.figure
            )
        ),
    output:
        png=report(
            "{experiment_dir}/figures/{figure}.png",
            caption="../report/figure.rst",
            **placed("Figures"),
        ),
        pdf="{experiment_dir}/figures/{figure}.pdf",
        svg="{experiment_dir}/figures/{figure}.svg",
    log:
        "logs/plot/{experiment_dir}/{figure}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(),
    params:
        runs=lambda wildcards: experiment(wildcards.experiment_dir).drawn(
            wildcards.figure
        ),
        dev_targets=setting("dev_targets"),
        caption=lambda wildcards: caption_of(wildcards.figure),
        recipe=lambda wildcards: experiment(wildcards.experiment_dir).recipe_of_figure(
            wildcards.figure
        ),
    script:
        "../scripts/plot_figure.py"
