# Named experiments: targets of Snakemake, with tables and figures in folders of their own.

for name in config["experiments"]:
    if workflow.is_rule(name) or name in (
        "all",
        "download",
        "before",
        "forget",
        "paper",
    ):
        raise ConfigError(f"experiments.{name}: a rule has this name; choose another")

    rule:
        name:
            name
        input:
            all_of(folder_of(name)),
        localrule: True
