# Layers: do hidden states still tell the target from its neighbours? Prompts of both are run through the base model and
# the kept model of each run; classifiers of the base model's states are applied to the kept model's.


rule probe_layers_before:
    input:
        llm=of("layers_before").llm,
        probes=of("layers_before").person_probes,
        primers=INPUTS.primers(),
    output:
        PATTERNS["layers_before"],
    log:
        log_of("probe_layers_before", "layers_before"),
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **of("layers_before").resources("probe_layers_before"),
    params:
        **COMPUTE,
        template_options=of("layers_before").template_options,
        asking=of("layers_before").asking,
        sets=of("layers_before").layer_sets,
        recipe=of("layers_before").recipe,
    script:
        "../scripts/probe_layers.py"


use rule probe_layers_before as probe_layers_after with:
    input:
        llm=of("layers").finished_llm,
        base=of("layers").adapter_base,
        probes=of("layers").person_probes,
        primers=INPUTS.primers(),
        intervention=of("layers").intervention,
    output:
        PATTERNS["layers"],
    log:
        log_of("probe_layers_after", "layers"),
    resources:
        **of("layers").resources("probe_layers_after"),
    params:
        **COMPUTE,
        template_options=of("layers").template_options,
        asking=of("layers").asking,
        sets=of("layers").layer_sets,
        recipe=of("layers").recipe,


rule layers_table:
    input:
        of_experiment("layer_files"),
        collapsed="{experiment_dir}/tables/collapsed.csv",
        learning_rates="{experiment_dir}/tables/learning_rates.csv",
    output:
        "{experiment_dir}/tables/layer_probe.csv",
    log:
        "logs/layers_table/{experiment_dir}.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(mem_mb=8000),
    params:
        runs=of_experiment("layers"),
        dev_targets=setting("dev_targets"),
        bootstrap=setting("bootstrap"),
        classifiers=of_experiment("classifiers"),
        recipe=of_experiment("recipe_of_layers"),
    script:
        "../scripts/compare_layers.py"
