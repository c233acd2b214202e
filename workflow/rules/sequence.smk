# Sequences: what a run reads from a model that has forgotten others before, in place of the base model.


rule start_states:
    input:
        llm=of("start_states").start,
        windows=of("start_states").windows_of_subject,
    output:
        directory(PATTERNS["start_states"]),
    log:
        log_of("start_states", "start_states"),
    priority: 1
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **of("start_states").resources("hidden_states"),
    params:
        **COMPUTE,
        layer=of("start_states").layer,
        recipe=of("start_states").recipe,
    script:
        "../scripts/compute_hidden_states.py"


rule start_reference:
    input:
        llm=of("start_reference").start,
        texts=of("start_reference").texts_of_subject,
    output:
        PATTERNS["start_reference"],
    log:
        log_of("start_reference", "start_reference"),
    priority: 1
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **of("start_reference").resources("reference_log_probs"),
    params:
        **COMPUTE,
        template_options=of("start_reference").template_options,
        protocol=of("start_reference").protocol,
        kind=of("start_reference").kind_of_texts,
        max_tokens=of("start_reference").most_of_method,
        recipe=of("start_reference").recipe,
    script:
        "../scripts/compute_reference.py"
