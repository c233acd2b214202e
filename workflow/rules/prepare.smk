# From the benchmark to what the model reads: probes, texts, embeddings, hidden states.
# Rules on the way to the first unlearning stage have priority: evaluations fill what is left idle.


rule count_probes:
    # A benchmark that lacks probes is refused before anything is computed on it.
    input:
        lambda wildcards: INPUTS.benchmark_files("Target/*/*.json"),
    output:
        PATTERNS["counts"],
    log:
        log_of("count_probes", "counts"),
    priority: 3
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(),
    params:
        folder=PATHS.benchmark(),
        targets=config["all_targets"],
        refuse=INPUTS.source.get("check_totals", False),
    script:
        "../scripts/count_probes.py"


rule prepare_probes:
    input:
        lambda wildcards: INPUTS.subject_files(wildcards.subject, "*.json"),
        counts=INPUTS.counts(),
    output:
        PATTERNS["probes"],
    log:
        log_of("prepare_probes", "probes"),
    # before all that takes long: faults of the benchmark are found here
    priority: 3
    group:
        "prepare"
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(),
    params:
        folder=PATHS.benchmark(),
        split=config["split"],
        recipe=lambda wildcards: RECIPES.probes(wildcards.subject),
    script:
        "../scripts/prepare_probes.py"


if INPUTS.generated:

    rule write_texts:
        # Biographies (positive), made-up ones (negative), questions with refusals (reject), as RWKU made its own.
        input:
            intro=lambda wildcards: INPUTS.subject_files(
                wildcards.subject, "intro.json"
            ),
            llm=PATHS.llm,
        output:
            PATTERNS["texts"],
        log:
            log_of("write_texts", "texts"),
        wildcard_constraints:
            kind="positive|negative|reject",
        priority: 2
        conda:
            "../../envs/workflow.yaml"
        threads: config["threads"]
        resources:
            **model_job("write_texts"),
        params:
            **TEMPLATE,
            device=config["device"],  # texts are written in float32
            folder=PATHS.benchmark(),
            corpus=Covered(
                {
                    key: value
                    for key, value in config["corpus"].items()
                    if key not in ("source", "text_set", "max_tokens")
                }
            ),
            recipe=lambda wildcards: RECIPES.texts(wildcards.subject, wildcards.kind),
        script:
            "../scripts/generate_corpus.py"

    rule pair_texts:
        # A made-up biography is chosen, the real one rejected.
        input:
            chosen=lambda wildcards: PATHS.texts(wildcards.subject, "negative"),
            rejected=lambda wildcards: PATHS.texts(wildcards.subject),
        output:
            PATTERNS["texts"],
        log:
            log_of("pair_texts", "texts"),
        wildcard_constraints:
            kind="pair",
        localrule: True
        conda:
            "../../envs/workflow.yaml"
        resources:
            **small_job(),
        params:
            recipe=lambda wildcards: RECIPES.texts(wildcards.subject, "pair"),
        script:
            "../scripts/pair_texts.py"


rule extract_texts:
    # Texts that ship with the benchmark.
    input:
        texts=lambda wildcards: INPUTS.text_files(wildcards.subject, wildcards.kind),
    output:
        PATTERNS["texts"],
    log:
        log_of("extract_texts", "texts"),
    wildcard_constraints:
        kind="|".join(INPUTS.kinds()),
    priority: 3
    group:
        "prepare"
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(),
    params:
        folder=lambda wildcards: PATHS.text_set(wildcards.kind),
        text_set=lambda wildcards: RECIPES.text_set(wildcards.kind),
        recipe=lambda wildcards: RECIPES.texts(wildcards.subject, wildcards.kind),
    script:
        "../scripts/extract_corpus.py"


rule embed_target:
    input:
        encoder=PATHS.encoder,
    output:
        PATTERNS["target_embedding"],
    log:
        log_of("embed_target", "target_embedding"),
    group:
        "prepare"
    conda:
        "../../envs/workflow.yaml"
    resources:
        **model_job("embed_target"),
    params:
        recipe=lambda wildcards: RECIPES.target(wildcards.target),
    script:
        "../scripts/embed_target.py"


rule embed_windows:
    input:
        corpus=lambda wildcards: PATHS.texts(wildcards.subject),
        llm=PATHS.llm,
        encoder=PATHS.encoder,
    output:
        PATTERNS["windows"],
    log:
        log_of("embed_windows", "windows"),
    priority: 1
    group:
        "states"
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **model_job("embed_windows"),
    params:
        device=config["device"],  # embeddings are float32
        max_tokens=config["corpus"]["max_tokens"],
        recipe=lambda wildcards: RECIPES.windows(wildcards.subject, int(wildcards.k)),
    script:
        "../scripts/embed_windows.py"


rule hidden_states:
    # Of the base model: shared by all runs that read the subject's texts. A cache of its inputs:
    # it may be deleted to free disk, and making it again reruns nothing (its readers take it as ancient).
    input:
        llm=PATHS.llm,
        windows=lambda wildcards: PATHS.windows(wildcards.subject, int(wildcards.k)),
    output:
        directory(PATTERNS["states"]),
    log:
        log_of("hidden_states", "states"),
    priority: 1
    group:
        "states"
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **model_job("hidden_states"),
    params:
        **COMPUTE,
        recipe=lambda wildcards: RECIPES.states(
            wildcards.subject, int(wildcards.k), int(wildcards.layer)
        ),
    script:
        "../scripts/compute_hidden_states.py"
