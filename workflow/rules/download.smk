# Models and benchmarks, each once, checked, into resources/.


rule download_model:
    output:
        directory("resources/models/{model}"),
    log:
        "logs/download_model/{model}.log",
    priority: 10
    retries: 2
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **needs("download_model"),
        network=1,
    params:
        source=lambda wildcards: fetched_from(config["models"][wildcards.model]),
        recipe=recipe("model", "model"),
        # a model that cannot be used, or lacks what the config's own methods ask for, is refused with its download
        template_options=lambda _: Uncompared([TEMPLATE.get("template_options")]),
        needs=lambda _: Uncompared(model_needs(config, config["methods"])),
    script:
        "../scripts/download_model.py"


rule check_model:
    # Seconds, first in line: what the methods of an experiment ask of the LLM. What it finds is kept, and later
    # methods are compared with it when the config is read (check_methods_fit). Nothing is computed from it: an input,
    # even an ancient one, would have everything behind it done again, or left out unseen.
    input:
        llm="resources/models/{llm}",
    output:
        "resources/checks/{where}{llm}.json",
    log:
        "logs/check_model/{where}{llm}.log",
    priority: 10
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **light(mem_mb=4000),
    params:
        source=lambda wildcards: Uncompared(
            [fetched_from(config["models"][wildcards.llm])]
        ),
        template_options=lambda _: Uncompared([TEMPLATE.get("template_options")]),
        needs=lambda wildcards: Uncompared(
            model_needs(config, experiment(wildcards.where)["methods"])
        ),
    script:
        "../scripts/check_model.py"


rule download_benchmark:
    # The probes of all targets; sets that the dataset lacks are left out.
    output:
        directory("resources/benchmarks/{benchmark}"),
    log:
        "logs/download_benchmark/{benchmark}.log",
    retries: 2
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        network=1,
        mem_mb=8000,
        runtime=120,
    params:
        source=hub_source,
        targets=config["all_targets"],
        tables=PROBE_TABLES,
        required=False,
        recipe=lambda wildcards: RECIPES.raw("Target"),
    script:
        "../scripts/download_benchmark.py"


use rule download_benchmark as download_texts with:
    # One set of texts of all targets; only what a method reads is fetched.
    output:
        directory("resources/texts/{benchmark}/{text_set}"),
    log:
        "logs/download_texts/{benchmark}/{text_set}.log",
    params:
        source=hub_source,
        targets=config["all_targets"],
        tables=lambda wildcards: text_table(wildcards.text_set),
        required=True,
        recipe=lambda wildcards: RECIPES.raw("Target", wildcards.text_set),


rule download_primers:
    output:
        "resources/primers/{benchmark}.json",
    log:
        "logs/download_primers/{benchmark}.log",
    retries: 2
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        network=1,
        mem_mb=2000,
        runtime=10,
    params:
        primers=lambda wildcards: config["benchmarks"][wildcards.benchmark]["primers"],
        recipe=recipe("primers"),
    script:
        "../scripts/download_primers.py"
