# What tables and model cards are made of, beyond the rows that all tables share.


def cards(where=""):
    """The cards of the models that an experiment keeps; what is applied to the unmodified model keeps none."""
    return [
        run_path(*run, "model_card.md")
        for run in chosen_runs(where)
        if KINDS[run[1]] != "applied"
    ]


def last_outcomes(wildcards):
    """Outcomes after the last stage, if anything is asked then."""
    stage = len(stages(wildcards.method))
    asked = config["evaluation"][asked_when(wildcards.method, stage)]
    return [f"{RUN}/stage{stage}/probes.parquet"] if asked else []


def described(wildcards):
    """What a model card tells of, each file with its recipe."""
    target, method, seed = (wildcards[name] for name in RUN_NAMES)
    stage = len(stages(method))
    outcomes = {
        file.format(**wildcards): RECIPES.evaluation(target, method, seed, stage)
        for file in last_outcomes(wildcards)
    }
    model = {f"{RUN}/model".format(**wildcards): RECIPES.kept(target, method, seed)}
    return model | before_recipes(target) | outcomes


def base_model(wildcards):
    """Where the base model's weights come from; its name on the hub and its licence, where they are known."""
    source = config["models"][wildcards.llm]
    if source["source"] == "hub":
        known = {
            "base_model": source["repo"],
            "revision": source["revision"],
            "weights": f"{source['repo']} at {source['revision']}",
        }
    elif source["source"] == "pypi":
        wheels = [
            f"{wheel['package']} {wheel['version']}" for wheel in source["wheels"]
        ]
        known = {"weights": f"{source['file']} in {', '.join(wheels)} on PyPI"}
    else:
        known = {"weights": f"the folder {Path(source['path']).name}"}
    return known | config["model_cards"].get(wildcards.llm, {})


def shown(where=""):
    """The files of the tables, figures and pages that an experiment shows."""
    chosen = experiment(where)
    aligned = any(KINDS[method] == "aligned" for method in chosen["methods"])
    shows = [name for name in chosen["shows"] if name != "training" or aligned]
    files = [file for name in shows for file in SHOWN[name]]
    targets = chosen["targets"]
    return sorted(
        {
            f"results/{where}{file}".format(target=name)
            for file in files
            for name in targets
        }
    )


def placed(kind):
    """Where the report lists what is made: what is of all targets and methods by kind, the rest by experiment."""
    return {
        "category": lambda wildcards: " / ".join(
            [*Path(wildcards.where).parts[1:], kind]
        )
    }


def shown_runs(wildcards):
    """The rows that the tables are made of."""
    return runs(wildcards.where)


def shown_outcomes(wildcards):
    """The files that the tables are made of."""
    return outcome_files(wildcards.where)


def recipe_of_tables(wildcards):
    """What the tables depend on, and all that is drawn from them."""
    return table_recipe(runs(wildcards.where))


def unmodified_runs(wildcards):
    """The unmodified model's row of each target."""
    targets = experiment(wildcards.where)["targets"]
    rows = Rows(
        {"target": target, "stage": 0, "files": before_recipes(target)}
        for target in targets
    )
    table = {f"results/{wildcards.where}tables/before.csv": table_recipe(rows)}
    refuse_stale(*(row["files"] for row in rows), table)
    return rows


def published_runs(wildcards):
    """The rows that the tables are made of, each with its row in the published tables."""
    blocks = config["method_settings"]
    return Rows(
        run
        | {
            "published_row": published_row(
                run["method"], blocks, run["stage"], stages(run["method"])
            )
        }
        for run in runs(wildcards.where)
    )


def first_and_last_runs(wildcards):
    """The rows that the tables are made of, of the unmodified model and the last stage of each method."""
    return Rows(first_and_last(runs(wildcards.where)))


def training_runs(wildcards):
    """A row for each stage of each run of Align-then-Unlearn that an experiment shows; 0 is the first alignment."""
    return Rows(
        {"target": target, "method": method, "seed": seed, "stage": stage}
        for target, method, seed in chosen_runs(wildcards.where)
        if KINDS[method] == "aligned"
        for stage in range(len(stages(method)) + 1)
    )


def training_recipes(wildcards):
    """The files of training_steps, each with its recipe."""
    made = [
        (
            RECIPES.stage(run["target"], run["method"], str(run["seed"]), run["stage"])
            if run["stage"]
            else RECIPES.alignment(run["target"], run["method"], str(run["seed"]))
        )
        for run in training_runs(wildcards)
    ]
    return dict(zip(training_steps(wildcards), made, strict=True))


def training_steps(wildcards):
    """Losses and similarities of the rows of training_runs."""
    return [
        run_path(
            run["target"],
            run["method"],
            run["seed"],
            f"stage{run['stage']}",
            "steps.csv",
        )
        for run in training_runs(wildcards)
    ]


def answer_runs(wildcards):
    """The rows of one target that an answers page shows: the unmodified model and the last stage of each method."""
    if wildcards.target not in experiment(wildcards.where)["targets"]:
        raise ConfigError(f"{wildcards.target} is not run: add it to targets")
    return Rows(
        run
        for run in first_and_last_runs(wildcards)
        if run["target"] == wildcards.target
    )


def shown_by(name):
    """What an experiment shows, and the cards of its models, looked up when it is asked for: another benchmark may
    not have its targets."""
    where = f"experiments/{name}/"
    return lambda wildcards: [checked(where), *shown(where), *cards(where)]
