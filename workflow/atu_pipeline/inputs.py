"""The inputs and settings of each rule's jobs, found from the names in the path of the job's output."""

import glob
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from statistics import mean

from atu import ROOT
from atu.common.earlier import earlier_files
from atu.data.attacks import ATTACK_TEXTS
from atu.data.benchmark import UTILITY
from atu.data.corpora import MADE_OF, TARGET_TEXTS, joined, kinds_of
from atu.data.probe_sets import PROBE_SETS, TEXT_SETS
from atu_pipeline.demands import memory_of, training_rule
from atu_pipeline.paths import Paths, Stage
from atu_pipeline.recipes import WRITTEN, Recipe, checksum, holds_probes
from atu_pipeline.requests import Requests
from atu_pipeline.settings import Covered, Uncompared, kind_of, owner_of


def code_of(script: str) -> str:
    """A checksum of a script's text, whatever its date."""
    return checksum(str(ROOT / "workflow/scripts" / Path(script).name))


def text_table(text_set: str) -> dict:
    """One set of texts as a table of the hub's dataset."""
    return {text_set: TEXT_SETS[text_set] | {"split": "train"}}


def probe_tables() -> dict:
    """The tables of the hub's dataset that hold probes, and the introductions of targets."""
    sets = {each.file: {"dataset": each.dataset, "split": "test"} for each in PROBE_SETS.values() if each.dataset}
    return text_table("intro") | sets


class Inputs:
    """The inputs and settings of jobs under one config."""

    def __init__(self, paths: Paths):
        self.paths, self.recipes, self.config = paths, paths.recipes, paths.config
        self.source = self.config["benchmarks"][self.config["benchmark"]]
        self.requests = Requests(self.config)

    # of any job

    def llm(self, about: "Stage | dict[str, str]") -> str:
        """The base model."""
        return self.paths.llm

    def template_options(self, about: "Stage | dict[str, str]") -> dict | None:
        """The options of the base model's chat template, or of that of a model from elsewhere."""
        model = self.external(about) if isinstance(about, Stage) else None
        return self.recipes.template(model)

    def external(self, stage: Stage) -> str | None:
        """The model of a method that uses one from elsewhere; None for other methods."""
        return self.config["method_settings"][stage.method].get("model")

    def recipe(self, kind: str, about: "Stage | dict[str, str]", subject: str = "", attack: str = "") -> Recipe:
        """The recipe of a job's output.

        Args:
            subject: the person about whom the model is asked.
            attack: the attack under which it is asked.

        Raises:
            KeyError: if no job with a model makes this kind.
        """
        if isinstance(about, Stage):
            run = about[:3]
            match kind:
                case "start_states" | "start_reference":
                    return self.recipes.at_start(*run)
                case "alignment":
                    return self.recipes.alignment(*run)
                case "stage" | "realignment":
                    return self.recipes.passed_on(*about)
                case "between":
                    return self.recipes.between(*about, subject)
                case "run":
                    return self.recipes.kept(*about)
                case "after":
                    return self.recipes.after(*run, subject)
                case "attacked":
                    return self.recipes.attacked(*run, attack, subject)
                case "layers":
                    return self.recipes.layers(*run, subject)
                case "scored":
                    return self.recipes.scored(*run, subject)
        else:
            names = about
            match kind:
                case "texts":
                    return self.recipes.texts(names["subject"], names["kind"])
                case "windows":
                    return self.recipes.windows(names["subject"], int(names["k"]), names["corpora"])
                case "states":
                    about = names["subject"], int(names["k"]), names["corpora"]
                    return self.recipes.states(*about, int(names["layer"]))
                case "reference":
                    return self.recipes.reference(names["target"], names["kind"], int(names["max_tokens"]))
                case "before":
                    return self.recipes.before(names["subject"])
                case "attacked_before":
                    return self.recipes.attacked_before(names["subject"], names["attack"])
                case "layers_before":
                    return self.recipes.layers_before(names["subject"])
                case "scored_before":
                    return self.recipes.scored_before(names["subject"])
                case "target_embedding":
                    return self.recipes.target(names["target"], names["described"])
                case "model":
                    return self.recipes.model(names["model"])
        raise KeyError(f"no recipe of a job that makes {kind}")

    def request(
        self, rule: str, about: "Stage | dict[str, str]", subject: str | None, threads: int, attack: str | None = None
    ) -> dict[str, int]:
        """What a job requests from the scheduler at its first attempt."""
        if attack:
            return self.requests.first(rule, attack, subject, threads)
        if isinstance(about, Stage):
            return self.requests.first(rule, about.method, subject, threads, len(self.forgotten(about)))
        return self.requests.first(rule, about.get("model"), subject, threads)

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

    def rows_of(self, subject: str) -> str | list[str]:
        """The files of a subject's probes, or the benchmark's whole folder if it is still to be downloaded."""
        found = self.subject_files(subject, "*.json")
        return list(filter(holds_probes, found)) if self.in_folder else found

    def primers(self) -> str | list[str]:
        """The few-shot primers: those fetched from their authors' source, the benchmark's own file, or none."""
        if self.source.get("primers"):
            return [self.paths.primers()]
        return self.benchmark_files("Utility/primers.json") if self.in_folder else []

    def downloads(self) -> list[str]:
        """The parts of the benchmark that are fetched."""
        texts = [] if self.in_folder else [self.paths.benchmark(), *map(self.paths.text_set, self.kinds())]
        return texts + ([self.paths.primers()] if self.source.get("primers") else [])

    def counts(self) -> list[str]:
        """The comparison of the benchmark's size with the published one, if its block has ``check_totals``."""
        return [self.paths.counts()] if "check_totals" in self.source else []

    def probes(self, target: str) -> list[str]:
        """The probes of one person, and the shared ones."""
        return [self.paths.probes(subject) for subject in self.recipes.subjects_of(target)]

    def own_probes(self, names: dict[str, str]) -> list[str]:
        """The probes of a subject, without the shared ones."""
        return [self.paths.probes(names["subject"])]

    def asking(self, about: "Stage | dict[str, str]") -> dict:
        """How a model is asked, whatever the probes."""
        kept = ("max_new_tokens", "protocol", "probability")
        return {key: self.config["evaluation"][key] for key in kept} | {"batch_tokens": self.budget()}

    def budget(self) -> int | None:
        """The most tokens of a batch of prompts; None if each prompt is read alone."""
        asked = self.config["evaluation"]
        return None if asked["batch_invariant"] else asked["batch_tokens"]

    def batch_tokens(self, about: "Stage | dict[str, str]") -> Uncompared:
        """The budget of a batch, which changes only last digits; the recipe says whether there is none."""
        return Uncompared([self.budget()])

    def protocol(self, about: "Stage | dict[str, str]") -> Uncompared:
        """The protocol for training on plain texts; the recipes of results that read such texts contain it."""
        return Uncompared([self.config["evaluation"]["protocol"]])

    def first_and_last_sets(self, about: "Stage | dict[str, str]") -> Covered:
        """How the probe sets for the base model and the last stage are asked and scored."""
        return self.specs("before_and_after")

    def sets_between(self, about: Stage) -> Covered:
        """How the probe sets for stages before the last are asked and scored."""
        return self.specs("between")

    def specs(self, when: str) -> Covered:
        """How the probe sets under a key of ``evaluation`` are asked and scored."""
        return Covered({name: PROBE_SETS[name].asking() for name in self.config["evaluation"][when]})

    # texts

    @property
    def generated(self) -> bool:
        """Whether the model writes the texts itself."""
        return self.config["corpus"]["source"] == "generate"

    def kinds(self) -> list[str]:
        """The kinds of texts that come from the benchmark."""
        of_attacks = ATTACK_TEXTS if self.in_folder else ()
        return ["passage", *of_attacks, *([] if self.generated else ["positive", "pair", "reject"])]

    def text_files(self, names: dict[str, str]) -> str | list[str]:
        """The benchmark's texts of a kind about a subject."""
        if self.in_folder:
            return self.subject_files(names["subject"], f"{self.text_set(names)}.json")
        return self.text_set_folder(names)

    def text_set(self, names: dict[str, str]) -> str:
        """The benchmark's text set of a kind."""
        return self.recipes.text_set(names["kind"])

    def text_set_folder(self, names: dict[str, str]) -> str:
        """The folder that contains the text set."""
        return self.paths.text_set(names["kind"])

    def text_folder(self, names: dict[str, str]) -> Uncompared:
        """The same folder as a param of the job, not compared since moving the same files changes nothing."""
        return Uncompared([self.text_set_folder(names)])

    def intro(self, names: dict[str, str]) -> str | list[str]:
        """The file with the sentence about a subject that the model gets when it writes texts itself."""
        return self.subject_files(names["subject"], "intro.json")

    def intro_of_target(self, names: dict[str, str]) -> str | list[str]:
        """The file with the sentence that introduces a target, if its embedding reads it."""
        read = "intro" in kinds_of(names["described"])
        return self.subject_files(names["target"], "intro.json") if read else []

    def sampling(self, names: dict[str, str]) -> Covered:
        """How the model writes texts."""
        return Covered({key: self.config["corpus"][key] for key in WRITTEN})

    def written_at_once(self, names: dict[str, str]) -> Uncompared:
        """The budget of a batch of written texts, which does not affect the texts."""
        return Uncompared([self.config["corpus"]["batch_tokens"]])

    def biographies(self, names: dict[str, str]) -> str:
        """Biographies of a subject."""
        return self.paths.texts(names["subject"])

    def corpora(self, names: dict[str, str]) -> list[str]:
        """All kinds of a subject's texts that alignment reads."""
        return [self.paths.texts(names["subject"], kind) for kind in kinds_of(names["corpora"])]

    def questions(self, names: dict[str, str]) -> str:
        """The questions about a subject that the model answers."""
        return self.paths.texts(names["subject"], MADE_OF[names["kind"]])

    def made_up(self, names: dict[str, str]) -> str:
        """Made-up biographies of a subject."""
        return self.paths.texts(names["subject"], "negative")

    def most_tokens(self, names: dict[str, str]) -> int:
        """The number of tokens after which texts are cut."""
        return self.config["corpus"]["max_tokens"]

    def own_windows(self, names: dict[str, str]) -> str:
        """The windows of a subject's texts."""
        return self.paths.windows(names["subject"], int(names["k"]), names["corpora"])

    def texts_of(self, names: dict[str, str]) -> str:
        """The texts whose log-probabilities are computed."""
        return self.paths.texts(names["target"], names["kind"])

    # attacks

    def attack(self, attack: str) -> Covered:
        """The settings of an attack."""
        return Covered(self.config["attacks"][attack])

    def attack_memory(self, attack: str) -> Covered:
        """How an attack that trains keeps weights and optimiser state; empty for other attacks."""
        trains = self.config["attacks"][attack]["attack"] == "relearn"
        return Covered(asdict(memory_of(self.config, "attack_after", attack)) if trains else {})

    def attack_sets(self, attack: str) -> Covered:
        """How the probe sets of an attack are asked and scored."""
        return Covered({name: PROBE_SETS[name].asking() for name in self.config["attacks"][attack]["ask"]})

    def attack_texts(self, attack: str, person: str) -> list[str]:
        """The texts that an attack reads."""
        return [self.paths.texts(*each) for each in self.recipes.attack_texts(attack, person)]

    # hidden states of layers

    def layer_sets(self, about: "Stage | dict[str, str]") -> Covered:
        """How the probe sets whose prompts are read are asked and scored."""
        return Covered({name: PROBE_SETS[name].asking() for name in self.config["layer_probe"]["ask"]})

    # scores of texts

    def scored_texts(self, person: str) -> list[str]:
        """The texts that are scored for one person, group by group."""
        return [self.paths.texts(*each) for group in self.recipes.text_groups(person).values() for each in group]

    def text_groups(self, person: str) -> Covered:
        """The subjects of the scored texts, by group."""
        groups = self.recipes.text_groups(person)
        return Covered({name: [subject for subject, _ in group] for name, group in groups.items()})

    def seen(self, stage: Stage, person: str) -> dict[str, float]:
        """By group, the share of its files that a run, or a run before it in a sequence, has read; NaN if unknown."""
        groups = self.recipes.text_groups(person)
        if self.external(stage):
            return dict.fromkeys(groups, float("nan"))
        read = set(self.texts_read(stage))
        return {name: mean(self.paths.texts(*each) in read for each in group) for name, group in groups.items()}

    def texts_read(self, stage: Stage) -> list[str]:
        """All texts that a run and those before it in a sequence read, about forgotten people and the retain set."""
        block, before = self.settings(stage), self.recipes.groups.of(stage.target).before
        earlier = self.texts_read(stage._replace(target=before)) if before else []
        if "align" in block:
            subjects = (*self.forgotten(stage), *self.retain_set(stage))
            return [*earlier, *map(self.paths.texts, subjects)]
        if self.is_trained(stage):
            earlier += self.retain_texts(stage)
        if block.get("texts") == "pair" and self.generated:  # pairs are made from these texts
            earlier += map(self.paths.texts, self.forgotten(stage))
        return [*earlier, *self.own_texts(stage)]

    # runs

    def people(self, stage: Stage) -> list[str]:
        """All people whom a run's model has forgotten."""
        block = self.config["method_settings"][stage.method]
        return list(block.get("forgot") or self.recipes.groups.of(stage.target).asked)

    def start(self, stage: Stage) -> str:
        """The model from which a run starts: the base model, or the kept model of the previous run in a sequence."""
        target, method, seed, _ = stage
        before = self.recipes.groups.of(target).before
        return f"{self.paths.run(before, method, seed)}/weights" if before else self.paths.llm

    def forgotten(self, stage: Stage) -> list[str]:
        """The people whom a run forgets."""
        return list(self.recipes.groups.of(stage.target).forgotten)

    def settings(self, stage: Stage) -> Covered:
        """The settings of a run's method."""
        return Covered(self.config["method_settings"][stage.method])

    def memory(self, stage: Stage) -> Covered:
        """How a run's training keeps weights and optimiser state."""
        return Covered(asdict(memory_of(self.config, training_rule(self.config, stage.method), stage.method)))

    def key(self, stage: Stage) -> Uncompared:
        """The config key of a run's settings; variants of a grid have that of their method."""
        return Uncompared([f"method_settings.{owner_of(stage.method)}"])

    def in_grid(self, stage: Stage) -> Uncompared:
        """Whether the method is a variant of a grid; if it diverges, the others continue."""
        return Uncompared([any(stage.method in variants for variants in self.config["grids"].values())])

    def layer(self, stage: Stage) -> int:
        """The hook layer."""
        return self.settings(stage)["layer"]

    def kind_of_texts(self, stage: Stage) -> str:
        """The kind of texts that the method reads."""
        return self.settings(stage)["texts"]

    def most_of_method(self, stage: Stage) -> int:
        """The number of tokens after which the method cuts its texts."""
        return self.settings(stage)["max_tokens"]

    def retain_set(self, stage: Stage) -> list[str]:
        """The other subjects, whose texts a run reads."""
        return self.recipes.others(stage.target, stage.method, stage.seed)

    def windows(self, stage: Stage) -> list[str]:
        """Windows of the forgotten people, followed by those of the retain set."""
        block, subjects = self.settings(stage), (*self.forgotten(stage), *self.retain_set(stage))
        return [self.paths.windows(subject, block["k"], joined(block["corpora"])) for subject in subjects]

    def states(self, stage: Stage) -> list[str]:
        """Hidden states on the same texts, of the model from which the run starts."""
        block = self.settings(stage)
        subjects = (*self.forgotten(stage), *self.retain_set(stage))
        if self.recipes.groups.of(stage.target).before:
            return [self.paths.at_start("start_states", *stage[:3], subject) for subject in subjects]
        read = block["k"], joined(block["corpora"]), block["layer"]
        return [self.paths.states(subject, *read) for subject in subjects]

    def retained_states(self, stage: Stage) -> list[str]:
        """Hidden states on the texts of the retain set, if the loss reads them."""
        count = len(self.forgotten(stage))
        return self.states(stage)[count:] if self.settings(stage)["unlearn"]["retain_weight"] else []

    def own_states(self, stage: Stage) -> list[str]:
        """Hidden states on the texts about the forgotten people, if the loss reads them."""
        count = len(self.forgotten(stage))
        return self.states(stage)[:count] if self.settings(stage)["unlearn"]["elsewhere_weight"] else []

    def target_embeddings(self, stage: Stage) -> list[str]:
        """The embedding of each forgotten person."""
        described = joined(self.settings(stage)["described_by"], TARGET_TEXTS)
        return [self.paths.target_embedding(name, described) for name in self.forgotten(stage)]

    def retain_texts(self, stage: Stage) -> list[str]:
        """Texts of the retain set, if the method's loss or its retain term reads them."""
        reads = self.recipes.reads_retain_set(stage.method)
        return [self.paths.texts(subject) for subject in self.retain_set(stage)] if reads else []

    def own_texts(self, stage: Stage) -> list[str]:
        """The method's texts about each forgotten person, if it reads any."""
        kind = self.settings(stage).get("texts")
        return [self.paths.texts(name, kind) for name in self.forgotten(stage)] if kind else []

    def reference(self, stage: Stage) -> list[str]:
        """Log-probabilities of these texts under the model from which the run starts, if the loss reads them."""
        if not self.recipes.reads_reference(stage.method):
            return []
        kind, length = (self.settings(stage)[key] for key in ("texts", "max_tokens"))
        if self.recipes.groups.of(stage.target).before:
            return [self.paths.at_start("start_reference", *stage[:3], name) for name in self.forgotten(stage)]
        return [self.paths.reference(name, kind, length) for name in self.forgotten(stage)]

    def checkpoint(self, stage: Stage) -> str:
        """The model after a stage of Align-then-Unlearn before the last; stage 0 is the run's starting model."""
        if stage.number == 0:
            return self.start(stage)
        shorter = self.paths.shorter_run(*stage)
        return f"{shorter}/weights" if shorter else f"{self.paths.stage(*stage)}/llm"

    def predictor(self, stage: Stage) -> str:
        """The predictor aligned on the model of a stage before the last."""
        if stage.number == 0:
            return f"{self.paths.alignment(*stage[:3])}/predictor"
        realigned = self.paths.shorter_run(*stage)
        return f"{self.paths.realignment(*stage) if realigned else self.paths.stage(*stage)}/predictor"

    def previous_checkpoint(self, stage: Stage) -> str:
        """The model from which a stage starts."""
        return self.checkpoint(stage._replace(number=stage.number - 1))

    def previous_predictor(self, stage: Stage) -> str:
        """The predictor from which a stage, or the alignment after it, starts."""
        return self.predictor(stage._replace(number=stage.number - 1))

    @staticmethod
    def number(stage: Stage) -> int:
        """The number of a stage, from 1."""
        return stage.number

    def guard(self, stage: Stage) -> list[str]:
        """The answers that show a stage whether the previous one has collapsed."""
        target, method, seed, number = stage
        if number == 1 or not self.config["collapse"]["stop"] or not self.config["evaluation"]["between"]:
            return []
        asked = self.recipes.groups.of(target).asked
        return [self.paths.between(target, method, seed, number - 1, subject) for subject in asked]

    def normal(self, stage: Stage) -> list[str]:
        """The base model's answers, with which the guard's answers are compared.

        If the questions have changed and the base model has not answered them yet, earlier answers are used. For a
        missing file, ancient or not, Snakemake would train a finished stage again.
        """
        asked = self.recipes.groups.of(stage.target).asked if self.guard(stage) else ()
        before = {path: recipe for subject in asked for path, recipe in self.paths.before_recipes(subject).items()}
        return [self.answered(*each) for each in before.items()]

    def answered(self, path: str, recipe: Recipe) -> str:
        """The base model's answers, or earlier ones to all that is asked between stages, which no rule makes."""
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
        """Whether the method trains epoch by epoch; its checkpoints are then side by side in one folder."""
        return kind_of(self.settings(stage)) == "trained"

    def asked_llm(self, stage: Stage) -> str:
        """The model that is asked between stages."""
        return self.epochs(stage) if self.is_trained(stage) else self.checkpoint(stage)

    def epochs(self, stage: Stage) -> str:
        """The folder of all checkpoints of a trained method."""
        return f"{self.paths.stage(*stage)}/epochs"

    def epoch(self, stage: Stage) -> str:
        """The place of a stage's checkpoint in the folder that :meth:`asked_llm` returns."""
        return str(stage.number) if self.is_trained(stage) else "."

    def adapter_base(self, stage: Stage) -> str | list[str]:
        """The model under a LoRA adapter, which a method trains or a model from elsewhere may be; none otherwise."""
        if self.external(stage):
            return self.paths.llm
        return self.start(stage) if self.settings(stage).get("lora", {"rank": 0})["rank"] else []

    def intervention(self, stage: Stage) -> str | list[str]:
        """What the method applies to the base model, if it is an applied one."""
        return f"{self.paths.run(*stage[:3])}/intervention" if kind_of(self.settings(stage)) == "applied" else []

    def finished_llm(self, stage: Stage) -> str:
        """The kept model of a run, or the base model to which its intervention is applied."""
        return self.paths.llm if self.intervention(stage) else self.weights(stage)

    def weights(self, stage: Stage) -> str:
        """The kept model of a run; a model from elsewhere stays where it was fetched."""
        model = self.external(stage)
        return self.paths.model(model) if model else f"{self.paths.run(*stage[:3])}/weights"

    def before(self, stage: Stage) -> list[str]:
        """The base model's answers about all people about whom the run's model is asked."""
        people = self.recipes.groups.of(stage.target).asked
        return list(dict.fromkeys(file for name in people for file in self.paths.before_recipes(name)))

    def last_evaluation(self, stage: Stage) -> list[str]:
        """The answers of the kept model, if it is asked anything."""
        asked = self.config["evaluation"]["before_and_after"]
        people = self.recipes.groups.of(stage.target).asked if asked else ()
        return [self.paths.after(*stage[:3], subject) for subject in people]

    def described(self, stage: Stage) -> dict:
        """The files that a model card describes, each with its recipe."""
        run = stage[:3]
        model = self.external(stage)
        files = {self.weights(stage): self.recipes.model(model) if model else self.recipes.kept(*run)}
        for subject in self.recipes.groups.of(stage.target).asked:
            files |= self.paths.before_recipes(subject)
            if self.config["evaluation"]["before_and_after"]:
                files[self.paths.after(*run, subject)] = self.recipes.after(*run, subject)
        return files

    # what cards say of the base model

    def base_on_hub(self, stage: Stage) -> list:
        """Repository and revision of the base model on the hub; None and None if it comes from elsewhere."""
        source = self.config["models"][self.config["llm"]]
        return [source.get(key) for key in ("repo", "revision")]

    def card_of_base(self, stage: Stage) -> dict:
        """What model cards say about the base model."""
        return self.base_model

    @cached_property
    def base_model(self) -> dict:
        """The source of the base model's weights, plus its name on the hub and its licence if known."""
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
