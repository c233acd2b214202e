"""The config, its variants for experiments that override parts of it, and the variant to which a path belongs.

Rules get the inputs of their jobs from ``Variants.of_kind``, as functions of the names in the output's path.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from atu.common.declared import UnreadableError, declared, method_files
from atu.data.corpora import joined
from atu_pipeline.inputs import Inputs
from atu_pipeline.paths import PATTERNS, Paths, Stage, names_in
from atu_pipeline.recipes import Recipes
from atu_pipeline.requests import model_job
from atu_pipeline.settings import (
    ConfigError,
    check_benchmark,
    check_config,
    check_overrides,
    model_needs,
    overlay,
    overridden,
    refuse,
)

About = Stage | dict[str, str]


class OfKind:
    """The attributes of :class:`Inputs` for the jobs that make a kind of path, as functions of wildcards."""

    def __init__(self, kind: str, find: Callable[[str, Mapping[str, str]], tuple[Inputs, About]]):
        self.kind, self.find = kind, find

    def __getattr__(self, name: str) -> Callable[[Mapping[str, str]], Any]:
        def look_up(wildcards: Mapping[str, str]) -> Any:
            inputs, about = self.find(self.kind, wildcards)
            return getattr(inputs, name)(about)

        return look_up

    def recipe(self, wildcards: Mapping[str, str]) -> Any:
        """The recipe of the job's output."""
        inputs, about = self.find(self.kind, wildcards)
        return inputs.recipe(self.kind, about, wildcards.get("subject", ""), wildcards.get("attack", ""))

    def probes(self, wildcards: Mapping[str, str]) -> list[str]:
        """The probes of the person about whom a model is asked, and the shared ones."""
        inputs, _ = self.find(self.kind, wildcards)
        return inputs.probes(wildcards["subject"])

    def windows_of_subject(self, wildcards: Mapping[str, str]) -> str:
        """The windows of the subject whose hidden states a run of a sequence reads."""
        inputs, about = self.find(self.kind, wildcards)
        block = inputs.settings(about)
        return inputs.paths.windows(wildcards["subject"], block["k"], joined(block["corpora"]))

    def texts_of_subject(self, wildcards: Mapping[str, str]) -> str:
        """The texts of a person whose log-probabilities a run of a sequence reads."""
        inputs, about = self.find(self.kind, wildcards)
        return inputs.paths.texts(wildcards["subject"], inputs.settings(about)["texts"])

    def attack(self, wildcards: Mapping[str, str]) -> Any:
        """The settings of the attack under which a model is asked."""
        inputs, _ = self.find(self.kind, wildcards)
        return inputs.attack(wildcards["attack"])

    def attack_memory(self, wildcards: Mapping[str, str]) -> Any:
        """How the attack keeps weights and optimiser state, if it trains."""
        inputs, _ = self.find(self.kind, wildcards)
        return inputs.attack_memory(wildcards["attack"])

    def attack_sets(self, wildcards: Mapping[str, str]) -> Any:
        """The probe sets that are asked under the attack."""
        inputs, _ = self.find(self.kind, wildcards)
        return inputs.attack_sets(wildcards["attack"])

    def attack_texts(self, wildcards: Mapping[str, str]) -> list[str]:
        """The texts that the attack reads."""
        inputs, _ = self.find(self.kind, wildcards)
        return inputs.attack_texts(wildcards["attack"], wildcards["subject"])

    def scored_texts(self, wildcards: Mapping[str, str]) -> list[str]:
        """The texts that are scored."""
        inputs, _ = self.find(self.kind, wildcards)
        return inputs.scored_texts(wildcards["subject"])

    def text_groups(self, wildcards: Mapping[str, str]) -> Any:
        """The subjects of the scored texts, by group."""
        inputs, _ = self.find(self.kind, wildcards)
        return inputs.text_groups(wildcards["subject"])

    def person_probes(self, wildcards: Mapping[str, str]) -> str:
        """The probes of the person about whom a model is asked, without the shared ones."""
        inputs, _ = self.find(self.kind, wildcards)
        return inputs.paths.probes(wildcards["subject"])

    def before_subject(self, wildcards: Mapping[str, str]) -> list[str]:
        """The base model's answers that concern the same person."""
        inputs, _ = self.find(self.kind, wildcards)
        return list(inputs.paths.before_recipes(wildcards["subject"]))

    def resources(self, rule: str) -> dict[str, Callable]:
        """What the rule's jobs request from the scheduler."""

        def asked(wildcards: Mapping[str, str], rule: str, threads: int) -> dict[str, int]:
            inputs, about = self.find(self.kind, wildcards)
            return inputs.request(rule, about, wildcards.get("subject"), threads, wildcards.get("attack"))

        return model_job(rule, asked)


class Variants:
    """A config with its variants.

    Args:
        written: the config as Snakemake has read it, with defaults.
        config: the same, from ``check_config``.
        root: the checkout.
    """

    def __init__(self, written: dict, config: dict, root: Path):
        self.written, self.config, self.root = written, config, root
        self.own = Inputs(Paths(Recipes(config)))

    @cache  # noqa: B019 (one object a run)
    def of(self, experiment: str) -> Inputs:
        """The config under which an experiment runs.

        Args:
            experiment: its name; empty for the config's own.

        Raises:
            ConfigError: if its overrides make a faulty config.
        """
        if not self.config["experiments"].get(experiment, {}).get("overrides"):
            return self.own
        refuse(check_benchmark(experiment, self.config))
        try:
            config = check_config(overridden(self.written, experiment), self.root)
            refuse(check_overrides(experiment, self.config))
            return Inputs(Paths(Recipes(config)))
        except ConfigError as fault:
            lines = [f"experiments.{experiment}.overrides: {line}" for line in str(fault).splitlines()]
            raise ConfigError("\n".join(lines)) from fault

    @cache  # noqa: B019
    def asking(self, llm: str, protocol: str) -> Inputs:
        """The config with another model and protocol, to ask the model; settings of training are not checked."""
        over = {"llm": llm, "evaluation": {"protocol": protocol}}
        return Inputs(Paths(Recipes(overlay(self.config, over))))

    def unmodified(self) -> list[str]:
        """The language models that `before` asks."""
        own, together = self.config["llm"], self.config["before"]["llms"]
        return together if own in together else [own]

    def all(self) -> Iterator[Inputs]:
        """The config and its valid variants; a faulty variant is reported when it is requested."""
        yield self.own
        for name, experiment in self.config["experiments"].items():
            if experiment.get("overrides"):
                try:
                    yield self.of(name)
                except ConfigError:
                    continue
        for llm in self.unmodified():
            for protocol in self.config["before"]["protocols"]:
                yield self.asking(llm, protocol)

    def find(self, kind: str, names: Mapping[str, str]) -> tuple[Inputs, About]:
        """The settings under which the names in a path of a kind have a meaning, and that meaning.

        Raises:
            ConfigError: if no settings in force make the path.
        """
        return self.look_up(kind, tuple(names.items()))

    @cache  # noqa: B019
    def look_up(self, kind: str, items: tuple[tuple[str, str], ...]) -> tuple[Inputs, About]:
        names = dict(items)
        fault = None
        for inputs in self.all():
            if names.get("llm", inputs.config["llm"]) != inputs.config["llm"]:
                continue
            try:
                about = inputs.paths.means(kind, names)
            except ConfigError as error:
                fault = fault or error
                continue
            if about is not None:
                return inputs, about
        raise fault or ConfigError(f"{PATTERNS[kind].format(**names)} is of other settings than those in force")

    def of_kind(self, kind: str) -> OfKind:
        """The inputs of jobs that make a kind of path."""
        if kind not in PATTERNS:
            raise KeyError(f"no path of kind {kind}")
        return OfKind(kind, self.find)

    def check(self, paths: Iterable[str]) -> None:
        """Refuse requested paths that no settings in force make.

        Args:
            paths: the targets of the command line, including rule names.

        Raises:
            ConfigError: names the path and what is unknown in it.
        """
        for path in paths:
            _, names = names_in(path) or (None, {})
            llm = names.get("llm", self.config["llm"])
            faults = []
            for inputs in self.all():  # stop early, since each variant is a whole config to check
                if inputs.config["llm"] == llm:
                    if not (fault := self.fault(inputs, path)):
                        break
                    faults.append(fault)
            else:
                faults = faults or list(filter(None, [self.fault(self.own, path)]))
                if faults:
                    raise faults[0]

    @staticmethod
    def fault(inputs: Inputs, path: str) -> ConfigError | None:
        """The fault of a path under some settings; None if it has none."""
        try:
            inputs.paths.check(path)
        except ConfigError as fault:
            return fault
        return None

    def needs(self, model: str) -> list[dict]:
        """What the config's own methods need from a language model."""
        return model_needs(self.config, self.config["methods"]) if model == self.config["llm"] else []

    def roles(self, model: str) -> list[str]:
        """The roles of a model: encoder, llm."""
        overrides = (experiment.get("overrides", {}) for experiment in self.config["experiments"].values())
        llms = {self.config["llm"], *self.unmodified(), *(over["llm"] for over in overrides if "llm" in over)}
        return [role for role, there in (("encoder", model == self.config["encoder"]), ("llm", model in llms)) if there]

    def files_of(self, kind: str) -> str:
        """A pattern that matches the files of all methods of a kind, or nothing if there are none."""
        found = []
        for name in method_files(self.root):
            try:
                found += [name] if declared(self.root, name).kind == kind else []
            except UnreadableError:  # the check of the config reports it, if the method is used
                continue
        return "|".join(found) or "(?!)"
