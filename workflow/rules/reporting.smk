# What tables and model cards are made of, beyond the rows that all tables share.


def kept_model_runs():
    """Target, method and seed of each run that keeps a model of its own."""
    return [
        run
        for run in itertools.product(TARGETS, METHODS, SEEDS)
        if KINDS[run[1]] != "applied"
    ]


def last_outcomes(wildcards):
    """Outcomes after the last stage, if anything is asked then."""
    stage = len(stages(wildcards.method))
    asked = config["evaluation"][asked_when(wildcards.method, stage)]
    return [f"{RUN}/stage{stage}/probes.parquet"] if asked else []


def base_model(wildcards):
    """The base model's name on the hub and its licence, where they are known."""
    source = config["models"][wildcards.llm]
    known = {"base_model": source["repo"]} if source["source"] == "hub" else {}
    return known | config["model_cards"].get(wildcards.llm, {})


def published_runs():
    """The rows that the tables are made of, each with its row in the published tables."""
    return Rows(
        run
        | {
            "published_row": published_row(
                run["method"],
                config["method_settings"][run["method"]],
                run["stage"],
                stages(run["method"]),
            )
        }
        for run in runs()
    )


def first_and_last_runs():
    """The rows that the tables are made of, of the unmodified model and the last stage of each method."""
    return Rows(
        run for run in runs() if run["stage"] in (0, len(stages(run["method"])))
    )


def experiment_runs(wildcards):
    """The rows of an experiment, which has targets and methods of its own."""
    name = wildcards.experiment
    methods = config["experiments"][name]["methods"]
    return runs(tuple(experiment_targets(name, config)), tuple(methods))


def experiment_outcomes(wildcards):
    """Outcomes of all evaluations of an experiment."""
    return sorted({file for row in experiment_runs(wildcards) for file in row["files"]})
