"""Groups of texts about each person: their subjects, their faults, and which texts a benchmark must have."""

import random
from collections.abc import Iterator

from atu.data.attacks import ATTACK_TEXTS, UNRELATED
from atu.data.benchmark import UTILITY, file_of
from atu.data.probe_sets import TEXT_SETS
from atu_pipeline.settings.fit import described_model, unmet_needs


def told_about(block: dict, person: str, everyone: list[str]) -> list[str]:
    """The subjects of a group's texts, for one person.

    Args:
        block: has about and, if that is others, seed and subjects.
        everyone: all people of the benchmark.

    Raises:
        KeyError: if about is a word that the config may not have.
    """
    match block["about"]:
        case "target":
            return [person]
        case "shared":
            return [UTILITY]
        case "others":
            others = [name for name in everyone if name != person]
            return sorted(random.Random(f"{block['seed']} {person}").sample(others, block["subjects"]))
        case word:
            raise KeyError(f"no texts about {word}")


def check_about(key: str, block: dict, config: dict) -> Iterator[str]:
    """Faults of the subjects that a group's block sets.

    Args:
        key: the block's key.
    """
    shared, subjects = block["texts"] == UNRELATED, block.get("subjects")
    if shared != (block["about"] == "shared"):
        mend = "set it to shared" if shared else f"that is {UNRELATED} alone"
        yield f"{key}.about: {block['about']}, and texts is {block['texts']}; {mend}"
    if (block["about"] == "others") != (subjects is not None):
        yield f"{key}.subjects: says of how many others texts are, so with about: others it is needed, and else not"
    elif subjects is not None and subjects >= len(config["all_targets"]):
        others = len(config["all_targets"]) - 1
        yield f"{key}.subjects: {subjects}, and besides the target the benchmark has {others}; set it lower"


def check_there(key: str, block: dict, targets: list[str], config: dict) -> Iterator[str]:
    """Faults of a benchmark that lacks the texts of a group; the group's subjects must be valid."""
    people = {name: None for target in targets for name in told_about(block, target, config["all_targets"])}
    if block["texts"] == "positive":
        generated, file = config["corpus"]["source"] == "generate", config["corpus"]["text_set"]
    else:
        generated, file = False, block["texts"]
    if not generated:
        yield from check_file(key, file, list(people), config)


def check_file(key: str, file: str, people: list[str], config: dict) -> Iterator[str]:
    """The fault of the first of some people for whom the benchmark lacks a file of texts.

    Args:
        key: the key of the block that reads it.
        people: ids, or ``UTILITY`` for the shared texts.
    """
    source = config["benchmarks"][config["benchmark"]]
    if source["source"] == "path":
        paths = [file_of(source["path"], None if name == UTILITY else name, file) for name in people]
        if missing := next((path for path in paths if not path.is_file()), None):
            yield f"{key}: {missing} is missing; write it, or take {key} out"
    elif file in ATTACK_TEXTS or file not in TEXT_SETS:
        yield f"{key}: reads {file}.json, which a benchmark of the hub does not have; take {key} out"


def check_described(method: str, block: dict, targets: list[str], config: dict) -> Iterator[str]:
    """The fault of a target that the user's own benchmark does not introduce, though its embedding is to read that."""
    own = config["benchmarks"][config["benchmark"]]["source"] == "path"
    if own and "intro" in block.get("described_by", ()):
        yield from check_file(f"method_settings.{method}.described_by", "intro", targets, config)


def check_text_scores(where: str, chosen: dict, config: dict) -> Iterator[str]:
    """Faults of the groups whose scores an experiment shows.

    Args:
        chosen: the experiment, with its targets and what it shows.
    """
    if "text_scores" not in chosen["shows"]:
        return
    if not config["text_scores"]:
        yield f"{where}.shows: text_scores, and there are no groups; name some in text_scores, or take it out of shows"
    for name, block in config["text_scores"].items():
        key = f"text_scores.{name}"
        faults = list(check_about(key, block, config))
        yield from faults or check_there(key, block, chosen["targets"], config)
    if described := described_model(config):
        need = {"key": "corpus.max_tokens", "tokens": config["corpus"]["max_tokens"]}
        yield from unmet_needs([need], described)
