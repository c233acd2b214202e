# From the benchmark to what the model reads: probes, texts, embeddings, hidden states.
# Rules on the way to the first unlearning stage have priority; evaluations use what would be idle.


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
        folder=Uncompared([PATHS.benchmark()]),
        targets=config["all_targets"],
        refuse=INPUTS.source.get("check_totals", False),
    script:
        "../scripts/count_probes.py"


rule prepare_probes:
    input:
        lambda wildcards: INPUTS.rows_of(wildcards.subject),
        counts=INPUTS.counts(),
    output:
        PATTERNS["probes"],
    log:
        log_of("prepare_probes", "probes"),
    # before everything slow, since faults of the benchmark are found here
    priority: 3
    group:
        "prepare"
    conda:
        "../../envs/workflow.yaml"
    resources:
        **small_job(),
    params:
        folder=Uncompared([PATHS.benchmark()]),
        split=lambda wildcards: RECIPES.split(wildcards.subject),
        recipe=lambda wildcards: RECIPES.probes(wildcards.subject),
    script:
        "../scripts/prepare_probes.py"


if INPUTS.generated:

    rule write_texts:
        # Biographies (positive), made-up ones (negative), questions with refusals (reject), as RWKU made its own.
        input:
            intro=of("texts").intro,
            llm=of("texts").llm,
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
            **of("texts").resources("write_texts"),
        params:
            template_options=of("texts").template_options,
            device=config["device"],  # texts are written in float32
            deterministic=config["deterministic"],
            folder=Uncompared([PATHS.benchmark()]),
            corpus=of("texts").sampling,
            batch_tokens=of("texts").written_at_once,
            recipe=of("texts").recipe,
        script:
            "../scripts/generate_corpus.py"

    rule pair_texts:
        # A made-up biography is chosen, the real one rejected.
        input:
            chosen=of("texts").made_up,
            rejected=of("texts").biographies,
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
            recipe=of("texts").recipe,
        script:
            "../scripts/pair_texts.py"


rule answer_questions:
    # The model's answers to the questions about a subject that it, or the benchmark's author, has written.
    input:
        questions=of("texts").questions,
        llm=of("texts").llm,
    output:
        PATTERNS["texts"],
    log:
        log_of("answer_questions", "texts"),
    wildcard_constraints:
        kind="answers",
    priority: 2
    conda:
        "../../envs/workflow.yaml"
    threads: config["threads"]
    resources:
        **of("texts").resources("answer_questions"),
    params:
        template_options=of("texts").template_options,
        device=config["device"],  # texts are written in float32
        deterministic=config["deterministic"],
        max_new_tokens=config["corpus"]["max_new_tokens"],
        batch_tokens=of("texts").written_at_once,
        recipe=of("texts").recipe,
    script:
        "../scripts/answer_questions.py"


rule extract_texts:
    # Texts that ship with the benchmark.
    input:
        texts=of("texts").text_files,
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
        folder=of("texts").text_folder,
        text_set=of("texts").text_set,
        recipe=of("texts").recipe,
    script:
        "../scripts/extract_corpus.py"


rule embed_target:
    # What unlearning moves away from.
    input:
        encoder=PATHS.encoder,
        intro=of("target_embedding").intro_of_target,
    output:
        PATTERNS["target_embedding"],
    log:
        log_of("embed_target", "target_embedding"),
    group:
        "prepare"
    conda:
        "../../envs/workflow.yaml"
    resources:
        **of("target_embedding").resources("embed_target"),
    params:
        folder=Uncompared([PATHS.benchmark()]),
        recipe=of("target_embedding").recipe,
    script:
        "../scripts/embed_target.py"


rule embed_windows:
    input:
        corpora=of("windows").corpora,
        llm=of("windows").llm,
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
        **of("windows").resources("embed_windows"),
    params:
        device=config["device"],  # embeddings are float32
        deterministic=config["deterministic"],
        max_tokens=of("windows").most_tokens,
        recipe=of("windows").recipe,
    script:
        "../scripts/embed_windows.py"


rule hidden_states:
    # The base model's, shared by all runs that read the subject's texts. They are a cache: they may be deleted to free
    # disk, and making them again reruns nothing, since their readers take them as ancient.
    input:
        llm=of("states").llm,
        windows=of("states").own_windows,
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
        **of("states").resources("hidden_states"),
    params:
        **COMPUTE,
        layer=lambda wildcards: int(wildcards.layer),
        recipe=of("states").recipe,
    script:
        "../scripts/compute_hidden_states.py"
