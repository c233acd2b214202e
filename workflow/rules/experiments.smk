# Experiments beside the config's own targets and methods: named targets, tables and figures in folders of their own.

for name in config["experiments"]:
    if workflow.is_rule(name) or name in ("all", "before", "forget", "paper"):
        raise ConfigError(f"experiments.{name}: a rule has this name; choose another")

    rule:
        name:
            name
        input:
            shown_by(name),
