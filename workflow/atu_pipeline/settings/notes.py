"""Consequences of a config that are easy to overlook, logged once when a run starts."""

import math

from atu.data.probe_sets import AUTHORS, generated, of_role, primary
from atu_pipeline.settings.blocks import kind_of


def notes(config: dict) -> list[str]:
    """Notes on a config, one line each.

    Args:
        config: from :func:`check_config`.
    """
    blocks = {name: config["method_settings"][name] for name in config["methods"]}
    slow = [slow_warmup(name, block, config["corpus"]) for name, block in blocks.items()]
    foreign = [not_forgotten(name, block, config["targets"]) for name, block in blocks.items()]
    told = [kept_probes(config), dev_alone(config), blind_stop(config, blocks), of_another(config), *slow, *foreign]
    return list(filter(None, told))


def not_forgotten(name: str, block: dict, targets: list[str]) -> str | None:
    """A note if a model from elsewhere is asked about people whom it has not forgotten."""
    if not (others := [target for target in targets if target not in block.get("forgot", targets)]):
        return None
    return (
        f"method_settings.{name} has not forgotten {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}: its "
        "rows of them are marked, and say what it has kept"
    )


def kept_probes(config: dict) -> str | None:
    share = config["split"]["dev_share"]
    if share == 0:
        return None
    return (
        f"split.dev_share is {share:g}: that share of the probes of each set is kept for choosing settings, and "
        "tables and figures show the rest alone; set it to 0 if nothing is chosen on them"
    )


def dev_alone(config: dict) -> str | None:
    if not set(config["targets"]) <= set(config["dev_targets"]):
        return None
    return "all targets are dev targets: tables average those on which settings were chosen"


def of_another(config: dict) -> str | None:
    """A note if the texts to unlearn were written by another model."""
    corpus, llm = config["corpus"], config["llm"]
    author = AUTHORS.get(corpus["text_set"]) if corpus["source"] == "benchmark" else None
    if author in (None, llm):
        return None
    own = [name for name, by in AUTHORS.items() if by == llm and name.startswith("positive")]
    mend = f"set it to {own[0]}" if own else "set corpus.source to generate"
    texts = f"{author} wrote the texts of {corpus['text_set']}, and llm is {llm}"
    return f"corpus.text_set: {texts}; to unlearn its own, {mend}"


def blind_stop(config: dict, blocks: dict[str, dict]) -> str | None:
    """A note if runs should stop after a collapse but no answers can show one."""
    written = set(generated()) & set(config["evaluation"]["between"])
    if not config["collapse"]["stop"] or written or "aligned" not in map(kind_of, blocks.values()):
        return None
    seen_by = " or ".join([*of_role("fluency"), primary("forget")])
    return (
        "collapse.stop is true, but the model writes no answer to any set of evaluation.between: no stage can be "
        f"seen to have collapsed, and all are run; ask {seen_by} there, say"
    )


def slow_warmup(name: str, block: dict, corpus: dict) -> str | None:
    """A note if a method ends before its learning rate is reached."""
    if kind_of(block) != "trained" or block["texts"] != "positive" or corpus["source"] != "generate":
        return None
    train, texts = block["train"], corpus["texts"]
    steps = train["epochs"] * math.ceil(texts / (min(train["batch_size"], texts) * train["accumulate"]))
    if train["warmup_steps"] < steps or train["schedule"] == "constant":
        return None
    return (
        f"method_settings.{name}.train.warmup_steps is {train['warmup_steps']}, and {texts} texts make {steps} "
        f"steps: the learning rate reaches {(steps - 1) / train['warmup_steps']:.0%} of what is set"
    )
