"""The people whom a run forgets: one person, several at once, or one after others that its model has forgotten.

In a run's path, the name of such a group takes the place of the target. Its digest says who they are.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

from atu_pipeline.settings import ConfigError, experiment_of

GROUP = re.compile(r"(?:batch|sequence)\d+-[0-9a-f]{8}")


@dataclass(frozen=True)
class People:
    """The people whom a run forgets.

    Attributes:
        forgotten: ids of the people whom it forgets at once, by reading their texts.
        before: name of the group that its starting model has forgotten; None if it starts from the base model.
        asked: ids of the people about whom its model is asked, in the order in which they were forgotten.
    """

    forgotten: tuple[str, ...]
    before: str | None
    asked: tuple[str, ...]


def digest_of(targets: list[str]) -> str:
    """A digest of people and their order."""
    return hashlib.sha256("\n".join(targets).encode()).hexdigest()[:8]


class Groups:
    """The groups of a config's experiments, by name.

    Args:
        config: from ``check_config``.
    """

    def __init__(self, config: dict):
        self.config = config
        self.found: dict[str, People] = {}

    def batch(self, targets: list[str]) -> str:
        """The name of a group that one model forgets at once; for one person it is the id."""
        if len(targets) == 1:
            return targets[0]
        chosen = sorted(targets)
        name = f"batch{len(chosen)}-{digest_of(chosen)}"
        self.found[name] = People(tuple(chosen), None, tuple(chosen))
        return name

    def sequence(self, targets: list[str]) -> list[str]:
        """The names of the groups that a model has forgotten after each person of a sequence; the first is an id."""
        names = [targets[0]]
        for count in range(2, len(targets) + 1):
            name = f"sequence{count}-{digest_of(targets[:count])}"
            self.found[name] = People((targets[count - 1],), names[-1], tuple(targets[:count]))
            names.append(name)
        return names

    def of(self, target: str) -> People:
        """The people to whom a name refers.

        Raises:
            ConfigError: if it is the name of a group that no experiment of the config has.
        """
        if not GROUP.fullmatch(target):
            return People((target,), None, (target,))
        if target not in self.found and target not in self.declared:
            raise ConfigError(f"{target}: no experiment of this config forgets these people together; name its config")
        return self.found.get(target) or self.declared[target]

    @cached_property
    def declared(self) -> dict[str, People]:
        """The groups of all experiments; a job that Snakemake starts by itself needs them."""
        for name, experiment in self.config["experiments"].items():
            if experiment.get("at_once") or experiment.get("in_sequence"):
                try:
                    self.of_experiment(experiment_of(name, self.config))
                except ConfigError:  # reported when the experiment is requested
                    continue
        return self.found

    def of_experiment(self, chosen: dict) -> list[str]:
        """The targets of an experiment's runs: its own targets, or names of groups of them.

        Args:
            chosen: from ``experiment_of``.
        """
        if chosen.get("in_sequence"):
            return self.sequence(chosen["targets"])
        if chosen.get("at_once"):
            return [self.batch(chosen["targets"][:count]) for count in chosen["at_once"]]
        return chosen["targets"]
