# Download models and benchmarks into resources/, each once, and check them.


rule download_model:
    output:
        directory(PATTERNS["model"]),
    log:
        log_of("download_model", "model"),
    priority: 10
    retries: 2
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **of("model").resources("download_model"),
        network=1,
    params:
        source=lambda wildcards: fetched_from(config["models"][wildcards.model]),
        recipe=lambda wildcards: RECIPES.model(wildcards.model),
        # a model that cannot be used, or lacks what the config's own methods need, is refused during its download
        roles=lambda wildcards: Uncompared(VARIANTS.roles(wildcards.model)),
        template_options=lambda wildcards: Uncompared(
            [template_of(config["models"][wildcards.model]).get("template_options")]
        ),
        needs=lambda wildcards: Uncompared(VARIANTS.needs(wildcards.model)),
    script:
        "../scripts/download_model.py"


rule check_model:
    # A check that takes seconds and runs first: does the LLM have what an experiment's methods need? The result is
    # kept, and later methods are compared with it when the config is read (check_methods_fit). No computing
    # job has it as input: even an ancient input would make all later jobs run again, or be left out unseen.
    input:
        llm=lambda wildcards: PATHS.model(wildcards.llm),
        checkpoints=lambda wildcards: experiment(wildcards.experiment_dir).checkpoints(
            wildcards.llm
        ),
    output:
        "{experiment_dir}/checks/{llm}.json",
    log:
        "logs/check_model/{experiment_dir}/{llm}.log",
    priority: 10
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(mem_mb=4000),
    params:
        source=lambda wildcards: Uncompared(
            [fetched_from(config["models"][wildcards.llm])]
        ),
        template_options=lambda wildcards: Uncompared(
            [template_of(config["models"][wildcards.llm]).get("template_options")]
        ),
        needs=lambda wildcards: Uncompared(
            experiment(wildcards.experiment_dir).needs(wildcards.llm)
        ),
        repo=lambda wildcards: Uncompared([config["models"][wildcards.llm].get("repo")]),
    script:
        "../scripts/check_model.py"


rule download_benchmark:
    # The probes of all targets; sets that the dataset lacks are left out.
    output:
        directory(PATTERNS["benchmark"]),
    log:
        log_of("download_benchmark", "benchmark"),
    retries: 2
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        network=1,
        mem_mb=2000,
        runtime=120,
    params:
        source={key: INPUTS.source.get(key) for key in ("repo", "revision")},
        targets=config["all_targets"],
        tables=probe_tables(),
        required=False,
        recipe=lambda wildcards: RECIPES.raw("Target"),
    script:
        "../scripts/download_benchmark.py"


use rule download_benchmark as download_texts with:
    # One set of texts of all targets; only sets that a method reads are fetched.
    output:
        directory(PATTERNS["text_set"]),
    log:
        log_of("download_texts", "text_set"),
    params:
        source={key: INPUTS.source.get(key) for key in ("repo", "revision")},
        targets=config["all_targets"],
        tables=lambda wildcards: text_table(wildcards.text_set),
        required=True,
        recipe=lambda wildcards: RECIPES.raw("Target", wildcards.text_set),


rule download_primers:
    output:
        PATTERNS["primers"],
    log:
        log_of("download_primers", "primers"),
    retries: 2
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        network=1,
        mem_mb=2000,
        runtime=10,
    params:
        primers=INPUTS.source.get("primers"),
        recipe=lambda wildcards: RECIPES.primers(),
    script:
        "../scripts/download_primers.py"
