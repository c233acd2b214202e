"""What the jobs of each rule read, and the settings they take: from the names in the path of what they make."""

import glob
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from atu import ROOT
from atu.common.earlier import earlier_files
from atu.data.benchmark import UTILITY
from atu.data.probe_sets import PROBE_SETS, TEXT_SETS
from atu_pipeline.paths import Paths, Stage
from atu_pipeline.recipes import Recipe, checksum
from atu_pipeline.settings import Covered, Uncompared, kind_of


def code_of(script: str) -> str:
    """What a script says, whatever its date."""
    return checksum(str(ROOT / "workflow/scripts" / Path(script).name))


def text_table(text_set: str) -> dict:
    """One set of texts as a table of the hub's dataset."""
    return {text_set: TEXT_SETS[text_set] | {"split": "train"}}


def probe_tables() -> dict:
    """The tables of the hub's dataset that hold probes, and the introductions of targets."""
    sets = {each.file: {"dataset": each.dataset, "split": "test"} for each in PROBE_SETS.values() if each.dataset}
    return text_table("intro") | sets


class OfStage:
    """Methods of :class:`Inputs` that take a stage, as functions of wildcards."""

    def __init__(self, inputs: "Inputs", find: Callable[[object], Stage]):
        self.inputs, self.find = inputs, find

    def __getattr__(self, name: str) -> Callable[[object], object]:
        method = getattr(self.inputs, name)
        return lambda wildcards: method(self.find(wildcards))


class Inputs:
    """The inputs and settings of jobs under one config."""

    def __init__(self, paths: Paths):
        self.paths, self.recipes, self.config = paths, paths.recipes, paths.config
        self.source = self.config["benchmarks"][self.config["benchmark"]]

    # the benchmark

    @property
    def in_folder(self) -> bool:
        """Whether the benchmark is a folder of the user's own."""
        return self.source["source"] == "path"

    def benchmark_files(self, pattern: str) -> str | list[str]:
        """Files of the benchmark that exist, or its whole folder if it is still to be downloaded."""
        folder = self.paths.benchmark()
        return sorted(map(str, Path(folder).glob(pattern))) if self.in_folder else folder

    def subject_files(self, subject: str, pattern: str) -> str | list[str]:
        """Files of the benchmark about one subject."""
        place = "Utility" if subject == UTILITY else f"Target/{glob.escape(subject)}"
        return self.benchmark_files(f"{place}/{pattern}")

    def primers(self) -> str | list[str]:
        """The few-shot primers: fetched from their authors' source, or the benchmark's own file, or none."""
        if self.source.get("primers"):
            return [self.paths.primers()]
        return self.benchmark_files("Utility/primers.json") if self.in_folder else []

    def downloads(self) -> list[str]:
        """What is fetched of the benchmark."""
        texts = [] if self.in_folder else [self.paths.benchmark(), *map(self.paths.text_set, self.kinds())]
        return texts + ([self.paths.primers()] if self.source.get("primers") else [])

    def counts(self) -> list[str]:
        """The comparison of the benchmark's size with the published one, if its config speaks of it."""
        return [self.paths.counts()] if "check_totals" in self.source else []

    def probes(self, target: str) -> list[str]:
        """The probes of a target, and those that all targets share."""
        return [self.paths.probes(subject) for subject in self.recipes.subjects_of(target)]

    def specs(self, when: str) -> Covered:
        """How the sets are asked and scored."""
        return Covered({name: PROBE_SETS[name].asking() for name in self.config["evaluation"][when]})

    # texts

    @property
    def generated(self) -> bool:
        """Whether the model writes the texts itself."""
        return self.config["corpus"]["source"] == "generate"

    def kinds(self) -> list[str]:
        """The kinds of texts that are taken from the benchmark."""
        return ["passage"] if self.generated else ["positive", "passage", "pair", "reject"]

    def text_files(self, subject: str, kind: str) -> str | list[str]:
        """The benchmark's texts of a kind about a subject."""
        if self.in_folder:
            return self.subject_files(subject, f"{self.recipes.text_set(kind)}.json")
        return self.paths.text_set(kind)

    # runs

    def stage(self, wildcards: object) -> Stage:
        """The stage that the wildcards of its folder name."""
        return self.paths.find(wildcards)

    def run(self, wildcards: object) -> Stage:
        """The last stage of the run that the wildcards of its folder name."""
        return self.paths.find(wildcards, run=True)

    def settings(self, stage: Stage) -> Covered:
        """The settings of its method."""
        return Covered(self.config["method_settings"][stage.method])

    def key(self, stage: Stage) -> Uncompared:
        """Where in the config these settings are; variants of a grid share those of their method."""
        method = stage.method
        owner = next((name for name, variants in self.config["grids"].items() if method in variants), method)
        return Uncompared([f"method_settings.{owner}"])

    def in_grid(self, stage: Stage) -> Uncompared:
        """Whether the method is one rate of a grid: where it diverges, the others go on."""
        return Uncompared([any(stage.method in variants for variants in self.config["grids"].values())])

    @property
    def of_stage(self) -> "OfStage":
        """The same, as functions of wildcards that name a stage."""
        return OfStage(self, self.stage)

    @property
    def of_run(self) -> "OfStage":
        """The same, as functions of wildcards that name a run: its last stage."""
        return OfStage(self, self.run)

    def files_of(self, *kinds: str) -> str:
        """A pattern for the files of all methods of some kinds; it matches nothing if there are none."""
        blocks = self.config["method_settings"].values()
        return "|".join(sorted({block["method"] for block in blocks if kind_of(block) in kinds})) or "(?!)"

    def retain_set(self, stage: Stage) -> list[str]:
        """The other subjects whose texts a run reads."""
        return self.recipes.others(stage.target, stage.method, stage.seed)

    def windows(self, stage: Stage) -> list[str]:
        """Windows of the target and of the retain set, target first."""
        k = self.settings(stage)["k"]
        return [self.paths.windows(subject, k) for subject in (stage.target, *self.retain_set(stage))]

    def states(self, stage: Stage) -> list[str]:
        """Hidden states of the base model on the same texts."""
        k, layer = (self.settings(stage)[key] for key in ("k", "layer"))
        return [self.paths.states(subject, k, layer) for subject in (stage.target, *self.retain_set(stage))]

    def retained_states(self, stage: Stage) -> list[str]:
        """Those on the texts of the retain set, if the loss reads them."""
        return self.states(stage)[1:] if self.settings(stage)["unlearn"]["retain_weight"] else []

    def retain_texts(self, stage: Stage) -> list[str]:
        """Texts of the retain set, if the method's loss or its retain term reads them."""
        reads = self.recipes.reads_retain_set(stage.method)
        return [self.paths.texts(subject) for subject in self.retain_set(stage)] if reads else []

    def own_texts(self, stage: Stage) -> str | list[str]:
        """The texts about the target that the method reads, if it reads any."""
        kind = self.settings(stage).get("texts")
        return self.paths.texts(stage.target, kind) if kind else []

    def reference(self, stage: Stage) -> str | list[str]:
        """Log-probabilities of the method's texts under the base model, if its loss reads them."""
        if not self.recipes.reads_reference(stage.method):
            return []
        kind, length = (self.settings(stage)[key] for key in ("texts", "max_tokens"))
        return self.paths.reference(stage.target, kind, length)

    def checkpoint(self, stage: Stage) -> str:
        """The model after a stage of Align-then-Unlearn before the last; stage 0 is the base model."""
        if stage.number == 0:
            return self.paths.llm
        shorter = self.paths.shorter_run(*stage)
        return f"{shorter}/weights" if shorter else f"{self.paths.stage(*stage)}/llm"

    def predictor(self, stage: Stage) -> str:
        """The predictor that is aligned on the model of a stage before the last."""
        if stage.number == 0:
            return f"{self.paths.alignment(*stage[:3])}/predictor"
        realigned = self.paths.shorter_run(*stage)
        return f"{self.paths.realignment(*stage) if realigned else self.paths.stage(*stage)}/predictor"

    def previous_checkpoint(self, stage: Stage) -> str:
        """The model that a stage starts from."""
        return self.checkpoint(stage._replace(number=stage.number - 1))

    def previous_predictor(self, stage: Stage) -> str:
        """The predictor that a stage, or the alignment behind it, starts from."""
        return self.predictor(stage._replace(number=stage.number - 1))

    @staticmethod
    def number(stage: Stage) -> int:
        """The number of a stage, from 1."""
        return stage.number

    def guard(self, stage: Stage) -> list[str]:
        """The evaluations by which a stage sees whether the one before has collapsed; its own first.

        Where other questions are asked and the base model's answers to them are still to come, earlier ones will do:
        Snakemake would train a finished stage again for a file that is not there, ancient or not.
        """
        target, method, seed, number = stage
        if number == 1 or not self.config["collapse"]["stop"] or not self.config["evaluation"]["between"]:
            return []
        before = [self.answered(*each) for each in self.paths.before_recipes(target).items()]
        return [self.paths.between(target, method, seed, number - 1), *before]

    def answered(self, path: str, recipe: Recipe) -> str:
        """The base model's answers, or earlier ones to all that is asked between stages; no rule makes these."""
        asked = {name: recipe["probe_sets"][name] for name in self.config["evaluation"]["between"]}
        if not Path(path).exists():
            for earlier, made in earlier_files(Path(path), recipe):
                if asked.items() <= made["probe_sets"].items():
                    return str(earlier.resolve())  # a relative path would be one of evaluate_before
        return path

    def tau(self, stage: Stage) -> float:
        """The threshold of a stage."""
        return self.settings(stage)["unlearn"]["tau"][stage.number - 1]

    def is_trained(self, stage: Stage) -> bool:
        """Whether the method trains epoch by epoch; its checkpoints then are side by side in one folder."""
        return kind_of(self.settings(stage)) == "trained"

    def asked_stage(self, wildcards: object) -> Stage:
        """The stage whose model is asked; epochs share a folder."""
        return self.stage(wildcards)._replace(number=int(wildcards.stage))

    def asked_llm(self, wildcards: object) -> str:
        """The model that is asked between stages."""
        stage = self.asked_stage(wildcards)
        if self.is_trained(stage):
            return self.epochs(stage)
        return self.checkpoint(stage)

    def epochs(self, stage: Stage) -> str:
        """The folder of all checkpoints of what is trained."""
        return f"{self.paths.stage(*stage)}/epochs"

    def epoch(self, stage: Stage) -> str:
        """Where in its input the checkpoint of a stage is."""
        return str(stage.number) if self.is_trained(stage) else "."

    def adapter_base(self, stage: Stage) -> str | list[str]:
        """The base model of the LoRA adapter that a method trains; where it is merged, the kept model is whole."""
        return self.paths.llm if self.settings(stage).get("lora", {"rank": 0})["rank"] else []

    def intervention(self, wildcards: object) -> str | list[str]:
        """What is applied to the base model, if that is what the method does."""
        stage = self.run(wildcards)
        return f"{self.paths.run(*stage[:3])}/intervention" if kind_of(self.settings(stage)) == "applied" else []

    def finished_llm(self, wildcards: object) -> str:
        """The kept model of a run, or the base model to which its intervention is applied."""
        return self.paths.llm if self.intervention(wildcards) else f"{self.paths.run(*self.run(wildcards)[:3])}/weights"

    def before(self, wildcards: object) -> list[str]:
        """Answers of the base model that concern a target."""
        return list(self.paths.before_recipes(wildcards.target))

    def last_evaluation(self, wildcards: object) -> list[str]:
        """The answers of the kept model, if it is asked anything."""
        asked = self.config["evaluation"]["before_and_after"]
        return [self.paths.after(*self.run(wildcards)[:3])] if asked else []

    def described(self, wildcards: object) -> dict:
        """What a model card tells of, each file with its recipe."""
        run = self.run(wildcards)[:3]
        model = {f"{self.paths.run(*run)}/weights": self.recipes.kept(*run)}
        after = {file: self.recipes.after(*run) for file in self.last_evaluation(wildcards)}
        return model | self.paths.before_recipes(wildcards.target) | after

    # what cards say of the base model

    def base_on_hub(self) -> list:
        """Repository and revision of the base model on the hub; None and None where it comes from elsewhere."""
        source = self.config["models"][self.config["llm"]]
        return [source.get(key) for key in ("repo", "revision")]

    @cached_property
    def base_model(self) -> dict:
        """Where the base model's weights come from; its name on the hub and its licence, where they are known."""
        name = self.config["llm"]
        source = self.config["models"][name]
        match source["source"]:
            case "hub":
                weights = f"{source['repo']} at {source['revision']}"
                known = {"base_model": source["repo"], "revision": source["revision"], "weights": weights}
            case "pypi":
                wheels = ", ".join(f"{wheel['package']} {wheel['version']}" for wheel in source["wheels"])
                known = {"weights": f"{source['file']} in {wheels} on PyPI"}
            case "path":
                known = {"weights": f"the folder {Path(source['path']).name}"}
            case other:
                raise KeyError(f"no origin of a model of source {other}")
        return known | self.config["model_cards"].get(name, {})

    def about(self, wildcards: object) -> str | None:
        """The method or the model that a job is about, where it is about one."""
        if wildcards.get("digest") and wildcards.get("method"):
            names = (wildcards.target, wildcards.seed, wildcards.method, wildcards.digest)
            ends = names in self.paths.runs or names in self.paths.shorter
            return self.paths.find(wildcards, run=ends).method
        return wildcards.get("model")
