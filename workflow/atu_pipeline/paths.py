"""Where every file is. Rules use the patterns, jobs and tables the paths; no other module builds or parses a path.

If settings affect a result, its name contains a digest of them. So two configs never write the same file, and a config
does not see the results of another one. Tables and figures have no digest, since they are views of the last run.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from atu.data.benchmark import UTILITY
from atu.data.corpora import TARGET_TEXTS, all_joined
from atu.data.probe_sets import TEXT_SETS
from atu_pipeline.people import GROUP
from atu_pipeline.recipes import Recipe, Recipes
from atu_pipeline.settings import ConfigError, has_grid, kind_of, unknown

DIGITS = 8  # of a digest in a path; two results with one name share them with a chance of one in four billion
OF_MODEL = "results/{llm}/{benchmark}"
OF_RUNS = OF_MODEL + "/{target}/seed{seed}"
START = OF_RUNS + "/starts/{method}-{digest}"
STAGE = OF_RUNS + "/stages/{method}-{digest}"
RUN = OF_RUNS + "/{method}-{digest}"
PATTERNS = {
    "model": "resources/models/{model}-{digest}",
    "benchmark": "resources/benchmarks/{benchmark}-{digest}",
    "text_set": "resources/texts/{benchmark}/{text_set}-{digest}",
    "primers": "resources/primers/{benchmark}-{digest}.json",
    "counts": "results/{benchmark}/counts-{digest}.csv",
    "probes": "results/{benchmark}/probes/{subject}-{digest}.parquet",
    "texts": OF_MODEL + "/texts/{kind}/{subject}-{digest}.jsonl",
    "target_embedding": OF_MODEL + "/target_embeddings/{encoder}/{described}/{target}-{digest}.safetensors",
    "windows": OF_MODEL + "/windows/{encoder}/k{k}/{corpora}/{subject}-{digest}.safetensors",
    "states": OF_MODEL + "/hidden_states/{encoder}/k{k}/{corpora}/layer{layer}/{subject}-{digest}",
    "reference": OF_MODEL + "/reference/{kind}/tokens{max_tokens}/{target}-{digest}.safetensors",
    "before": OF_MODEL + "/before/{subject}-{digest}.parquet",
    "attacked_before": OF_MODEL + "/attacked/{attack}/{subject}-{digest}.parquet",
    "layers_before": OF_MODEL + "/layers/{subject}-{digest}.parquet",
    "scored_before": OF_MODEL + "/text_scores/{subject}-{digest}.parquet",
    "start_states": START + "/hidden_states/{subject}",
    "start_reference": START + "/reference/{subject}.safetensors",
    "alignment": OF_RUNS + "/alignments/{method}-{digest}",
    "realignment": OF_RUNS + "/realignments/{method}-{digest}",
    "stage": STAGE,
    "between": STAGE + "/evaluations/{stage}-{subject}-{asked}.parquet",
    "run": RUN,
    "after": RUN + "/evaluations/{subject}-{asked}.parquet",
    "attacked": RUN + "/attacked/{attack}/{subject}-{asked}.parquet",
    "layers": RUN + "/layers/{subject}-{asked}.parquet",
    "scored": RUN + "/text_scores/{subject}-{asked}.parquet",
}
# Kinds that belong to a stage of a run.
OF_KEPT = ("after", "attacked", "layers", "scored")  # results of asking what a run keeps
ENDS = ("run", *OF_KEPT)
STAGES = ("start_states", "start_reference", "alignment", "realignment", "stage", "between", *ENDS)
CONSTRAINTS = {
    "digest": f"[0-9a-f]{{{DIGITS}}}",
    "asked": f"[0-9a-f]{{{DIGITS}}}",
    "target": rf"\d+_[^/]+|{GROUP.pattern}",
    "seed": r"\d+",
    "stage": r"[1-9]\d*",
    "layer": r"\d+",
    "k": r"\d+",
    "max_tokens": r"\d+",
    "corpora": "|".join(map(re.escape, all_joined())),
    "described": "|".join(map(re.escape, all_joined(TARGET_TEXTS))),
} | dict.fromkeys(("llm", "model", "benchmark", "encoder", "subject", "method", "text_set", "kind", "attack"), r"[^/]+")


VIEWS = ("tables", "figures", "answers", "index.html")  # in the folder of an experiment


def experiment_dir(path: str) -> str | None:
    """The folder of the experiment to which a table, figure or page belongs; None for other files."""
    parts = Path(path).parts
    end = next((i for i, part in enumerate(parts) if part in VIEWS), None)
    own = end == 1 or (end == 3 and parts[1] == "experiments")
    return "/".join(parts[:end]) if own and parts[0] == "results" else None


def short(recipe: Recipe) -> str:
    """The digest as paths contain it."""
    return recipe.digest[:DIGITS]


def inside(kind: str, name: str) -> str:
    """The pattern of a file or folder inside a folder of a kind."""
    return f"{PATTERNS[kind]}/{name}"


def log_of(rule: str, kind: str) -> str:
    """The pattern of a rule's log, which is named like the rule's output."""
    made = PATTERNS[kind]
    return f"logs/{rule}/{made.partition('/')[2].removesuffix(Path(made).suffix)}.log"


def names_in(path: str) -> tuple[str, dict[str, str]] | None:
    """The kind of a path, or of the folder that contains it, and the names in it; None if it has no kind."""
    for kind, pattern in reversed(PATTERNS.items()):  # what is inside a folder before the folder itself
        expression = re.sub(r"\\{(\w+)\\}", lambda name: f"(?P<{name[1]}>{CONSTRAINTS[name[1]]})", re.escape(pattern))
        if found := re.match(expression + r"(?:/|$)", path):
            return kind, found.groupdict()
    return None


class Stage(NamedTuple):
    """A stage of a run.

    Attributes:
        method: a name under ``method_settings``.
        number: 0 is the alignment; a whole run has the number of its last stage.
    """

    target: str
    method: str
    seed: str
    number: int


class Paths:
    """The paths of one config.

    Folders of runs have the name of the method's file, so variants that share a stage share its folder.
    """

    def __init__(self, recipes: Recipes):
        self.recipes, self.config = recipes, recipes.config
        self.own = {"llm": self.config["llm"], "benchmark": self.config["benchmark"]}
        self.stages: dict[tuple[str, str, str, str], Stage] = {}
        self.runs: dict[tuple[str, str, str, str], Stage] = {}
        self.shorter: dict[tuple[str, str, str, str], Stage] = {}
        self.planned: set[str] = set()

    def path(self, kind: str, recipe: Recipe, /, **names: object) -> str:
        """The path of a recipe's result."""
        return PATTERNS[kind].format(**self.own, **names, digest=short(recipe))

    @cache  # noqa: B019 (one object a run)
    def model(self, name: str) -> str:
        """A fetched model."""
        return self.path("model", self.recipes.model(name), model=name)

    @property
    def llm(self) -> str:
        """The base model."""
        return self.model(self.config["llm"])

    @property
    def encoder(self) -> str:
        """The sentence encoder."""
        return self.model(self.config["encoder"])

    def benchmark(self) -> str:
        """The benchmark in folder-per-target form: the user's own, or the downloaded one."""
        source = self.config["benchmarks"][self.own["benchmark"]]
        return source["path"] if source["source"] == "path" else self.path("benchmark", self.recipes.raw("Target"))

    def text_set(self, kind: str) -> str:
        """The benchmark's texts of a kind, in folder-per-target form."""
        if self.config["benchmarks"][self.own["benchmark"]]["source"] == "path":
            return self.benchmark()
        name = self.recipes.text_set(kind)
        return self.path("text_set", self.recipes.raw("Target", name), text_set=name)

    def primers(self) -> str:
        """The fetched few-shot primers."""
        return self.path("primers", self.recipes.primers())

    def counts(self) -> str:
        """The comparison of the benchmark's size with the published one."""
        return self.path("counts", self.recipes.counts())

    @cache  # noqa: B019
    def probes(self, subject: str) -> str:
        """The probes of a subject, or the shared ones."""
        return self.path("probes", self.recipes.probes(subject), subject=subject)

    @cache  # noqa: B019
    def texts(self, subject: str, kind: str = "positive") -> str:
        """Texts of a kind about a subject, in the library's form."""
        return self.path("texts", self.recipes.texts(subject, kind), subject=subject, kind=kind)

    @cache  # noqa: B019
    def target_embedding(self, target: str, described: str) -> str:
        """The embedding of a target, by texts of the kinds that ``described`` joins."""
        names = {"target": target, "described": described, "encoder": self.config["encoder"]}
        return self.path("target_embedding", self.recipes.target(target, described), **names)

    @cache  # noqa: B019
    def windows(self, subject: str, k: int, corpora: str) -> str:
        """Window embeddings of a subject's texts, of the kinds that ``corpora`` joins."""
        names = {"subject": subject, "k": k, "corpora": corpora, "encoder": self.config["encoder"]}
        return self.path("windows", self.recipes.windows(subject, k, corpora), **names)

    @cache  # noqa: B019
    def states(self, subject: str, k: int, corpora: str, layer: int) -> str:
        """The base model's hidden states on a subject's texts."""
        names = {"subject": subject, "k": k, "corpora": corpora, "layer": layer, "encoder": self.config["encoder"]}
        return self.path("states", self.recipes.states(subject, k, corpora, layer), **names)

    @cache  # noqa: B019
    def reference(self, target: str, kind: str, max_tokens: int) -> str:
        """Log-probabilities of texts under the base model."""
        names = {"target": target, "kind": kind, "max_tokens": max_tokens}
        return self.path("reference", self.recipes.reference(target, kind, max_tokens), **names)

    @cache  # noqa: B019
    def at_start(self, kind: str, target: str, method: str, seed: str, subject: str) -> str:
        """Hidden states or log-probabilities on a subject's texts, under the starting model of a run of a sequence.

        Args:
            kind: start_states or start_reference.
        """
        recipe, file = self.recipes.at_start(target, method, seed), self.config["method_settings"][method]["method"]
        stage = Stage(target, method, seed, 0)
        self.stages.setdefault((target, seed, file, short(recipe)), stage)
        return self.path(kind, recipe, target=target, seed=seed, method=file, subject=subject)

    @cache  # noqa: B019
    def before(self, subject: str) -> str:
        """The base model's answers to the probes of a subject."""
        return self.path("before", self.recipes.before(subject), subject=subject)

    def before_recipes(self, target: str) -> dict[str, Recipe]:
        """The base model's answers that concern a target, each file with its recipe."""
        subjects = self.recipes.subjects_of(target)
        return {self.before(subject): self.recipes.before(subject) for subject in subjects}

    def folder(self, kind: str, recipe: Recipe, stage: Stage) -> str:
        """The folder of an alignment, a stage or a run; :meth:`find` knows it from now on."""
        file = self.config["method_settings"][stage.method]["method"]
        ends = self.runs if stage.number == self.recipes.last(stage.method) else self.shorter
        known = ends if kind == "run" else self.stages
        known.setdefault((stage.target, stage.seed, file, short(recipe)), stage)
        return self.path(kind, recipe, target=stage.target, seed=stage.seed, method=file)

    @cache  # noqa: B019
    def alignment(self, target: str, method: str, seed: str) -> str:
        """The folder of a run's first predictor."""
        return self.folder("alignment", self.recipes.alignment(target, method, seed), Stage(target, method, seed, 0))

    @cache  # noqa: B019
    def stage(self, target: str, method: str, seed: str, number: int) -> str:
        """The folder of a stage before the last, with its predictor; a trained method's epochs share one folder."""
        recipe = self.recipes.passed_on(target, method, seed, number)
        return self.folder("stage", recipe, Stage(target, method, seed, number))

    @cache  # noqa: B019
    def realignment(self, target: str, method: str, seed: str, number: int) -> str:
        """The folder of the predictor that is aligned on the kept model of a shorter run."""
        recipe = self.recipes.passed_on(target, method, seed, number)
        return self.folder("realignment", recipe, Stage(target, method, seed, number))

    @cache  # noqa: B019
    def run(self, target: str, method: str, seed: str) -> str:
        """The folder of a run, with what it keeps."""
        stage = Stage(target, method, seed, self.recipes.last(method))
        return self.folder("run", self.recipes.kept(target, method, seed), stage)

    @cache  # noqa: B019
    def ended(self, target: str, method: str, seed: str, number: int) -> str:
        """The folder of the shorter run of Align-then-Unlearn that ends with a stage before the method's last."""
        stage = Stage(target, method, seed, number)
        return self.folder("run", self.recipes.kept(*stage), stage)

    def plan_run(self, target: str, method: str, seed: str) -> None:
        """Register a run that will be made, so that longer runs can continue from its kept model."""
        self.planned.add(self.run(target, method, seed))

    @cache  # noqa: B019
    def shorter_run(self, target: str, method: str, seed: str, number: int) -> str | None:
        """The folder of a shorter run from which a longer one continues; None if it makes or made the stage itself."""
        run = self.ended(target, method, seed, number)
        made = Path(self.stage(target, method, seed, number), "steps.csv").exists()
        return run if not made and (run in self.planned or Path(run, "weights").is_dir()) else None

    @cache  # noqa: B019
    def between(self, target: str, method: str, seed: str, number: int, subject: str | None = None) -> str:
        """The answers after a stage before the last about ``subject``, by default the target."""
        asked = short(self.recipes.between(target, method, seed, number, subject))
        return f"{self.stage(target, method, seed, number)}/evaluations/{number}-{subject or target}-{asked}.parquet"

    @cache  # noqa: B019
    def after(self, target: str, method: str, seed: str, subject: str | None = None) -> str:
        """The kept model's answers about ``subject``, by default the target."""
        asked = short(self.recipes.after(target, method, seed, subject))
        return f"{self.run(target, method, seed)}/evaluations/{subject or target}-{asked}.parquet"

    @cache  # noqa: B019
    def attacked(self, target: str, method: str, seed: str, attack: str, person: str) -> str:
        """A kept model's answers about one person under an attack."""
        asked = short(self.recipes.attacked(target, method, seed, attack, person))
        return f"{self.run(target, method, seed)}/attacked/{attack}/{person}-{asked}.parquet"

    @cache  # noqa: B019
    def attacked_before(self, person: str, attack: str) -> str:
        """The same of the base model."""
        recipe = self.recipes.attacked_before(person, attack)
        return self.path("attacked_before", recipe, subject=person, attack=attack)

    @cache  # noqa: B019
    def layers(self, target: str, method: str, seed: str, person: str) -> str:
        """A kept model's hidden states on the probes of one person."""
        asked = short(self.recipes.layers(target, method, seed, person))
        return f"{self.run(target, method, seed)}/layers/{person}-{asked}.parquet"

    @cache  # noqa: B019
    def layers_before(self, person: str) -> str:
        """The same of the base model."""
        return self.path("layers_before", self.recipes.layers_before(person), subject=person)

    @cache  # noqa: B019
    def scored(self, target: str, method: str, seed: str, person: str) -> str:
        """A kept model's scores of texts, for one person."""
        asked = short(self.recipes.scored(target, method, seed, person))
        return f"{self.run(target, method, seed)}/text_scores/{person}-{asked}.parquet"

    @cache  # noqa: B019
    def scored_before(self, person: str) -> str:
        """The same by the base model."""
        return self.path("scored_before", self.recipes.scored_before(person), subject=person)

    def evaluation(self, target: str, method: str, seed: str, number: int, subject: str | None = None) -> str:
        """The answers after a stage of a run about ``subject``, by default the target."""
        last = number == self.recipes.last(method)
        run = target, method, seed
        return self.after(*run, subject) if last else self.between(*run, number, subject)

    def steps(self, target: str, method: str, seed: str, number: int) -> dict[str, Recipe]:
        """Losses of the steps of a stage of Align-then-Unlearn, each file with its recipe; stage 0 is the alignment."""
        run = target, method, seed
        if number == 0:
            return {f"{self.alignment(*run)}/steps.csv": self.recipes.alignment(*run)}
        if number == self.recipes.last(method):
            return {f"{self.run(*run)}/steps.csv": self.recipes.kept(*run)}
        passed_on, shorter = self.recipes.passed_on(*run, number), self.shorter_run(*run, number)
        if not shorter:
            return {f"{self.stage(*run, number)}/steps.csv": passed_on}
        own = {f"{shorter}/steps.csv": self.recipes.stage(*run, number)}
        return own | {f"{self.realignment(*run, number)}/steps.csv": passed_on}

    def find(self, names: Mapping[str, str], run: bool = False) -> Stage:
        """The stage to which the names in a path refer, of any method that goes through it.

        Args:
            names: target, seed, method (its file) and digest.
            run: whether the path belongs to what a run keeps.

        Raises:
            ConfigError: if no settings in force have this digest.
        """
        target, seed, method, digest = (names[key] for key in ("target", "seed", "method", "digest"))
        key, known = (target, seed, method, digest), self.runs if run else self.stages
        if key not in known:
            self.find_all(target, seed, method)
        if run and key not in known:
            known = self.shorter
        if key not in known:
            raise ConfigError(
                f"{method}-{digest} of {target} was made by other settings than those in force; "
                "restore them, or ask for a method by its name with --config (`atu runs` lists what there is)"
            )
        return known[key]

    @cache  # noqa: B019
    def find_all(self, target: str, seed: str, file: str) -> None:
        """Register the folders of all blocks with a method's file; a job that Snakemake starts by itself needs them."""
        for method, block in self.config["method_settings"].items():
            if block["method"] != file or has_grid(block):  # its rates have blocks of their own
                continue
            if self.recipes.groups.of(target).before and kind_of(block) in ("aligned", "trained"):
                self.at_start("start_states", target, method, seed, target)
            if kind_of(block) == "aligned":
                self.alignment(target, method, seed)
                for number in range(1, self.recipes.last(method)):
                    self.ended(target, method, seed, number)
            for number in range(1, self.recipes.last(method) + (kind_of(block) == "trained")):
                self.stage(target, method, seed, number)
            self.run(target, method, seed)

    def means(self, kind: str, names: dict[str, str]) -> "Stage | dict[str, str] | None":
        """What the names in a path of a kind refer to under the settings in force.

        Returns:
            A stage, or the names themselves if the kind does not belong to a stage. None if these settings give another
            path.

        Raises:
            ConfigError: if no settings in force make the stage.
        """
        path = PATTERNS[kind].format(**names)
        if kind not in STAGES:
            return names if self.made(kind, names) == path else None
        stage = self.find(names, run=kind in ENDS)
        if kind in ("between", *OF_KEPT) and self.answers(kind, names, stage) != path:
            return None
        return stage._replace(number=int(names["stage"])) if kind == "between" else stage

    def check(self, path: str) -> None:
        """Refuse a requested path that no settings in force make; paths of no kind pass.

        Raises:
            ConfigError: names the path and what is unknown in it.
        """
        self.check_names(path)
        kind, names = names_in(path) or (None, {})
        if kind in STAGES:
            made = self.answers(kind, names, self.find(names, run=kind in ENDS))
        else:
            made = self.made(kind, names) if kind else None
        if made and not path.startswith(made):
            raise ConfigError(f"{path} is of other settings than those in force, which make {made}")

    def answers(self, kind: str, names: dict[str, str], stage: Stage) -> str | None:
        """The answers that the settings in force make in the folder of a stage; None for other files.

        Raises:
            ConfigError: if the folder belongs to another stage, or to other people, than the requested answers.
        """
        run, number, subject = stage[:3], int(names.get("stage", stage.number)), names.get("subject")
        if kind in ENDS and stage.number < self.recipes.last(stage.method):
            return self.run(*run)  # a shorter run is only made for a longer one to continue from
        if subject is None:
            return None
        people = self.recipes.groups.of(stage.target)
        if subject not in people.asked:
            raise ConfigError(unknown(f"{self.stage(*stage)}/evaluations", subject, list(people.asked)))
        if kind == "after":
            return self.after(*run, subject)
        if kind == "attacked":
            return self.attacked(*run, names["attack"], subject)
        if kind == "layers":
            return self.layers(*run, subject)
        if kind == "scored":
            return self.scored(*run, subject)
        epochs = kind_of(self.config["method_settings"][stage.method]) == "trained"  # which share a folder
        last = self.recipes.last(stage.method) - 1 if epochs else stage.number
        if not (1 if epochs else stage.number) <= number <= last:
            raise ConfigError(
                f"{self.stage(*stage)} has no answers after stage {number}; the last that is asked here is {last}"
            )
        return self.between(*run, number, subject)

    def made(self, kind: str, names: dict[str, str]) -> str | None:
        """The path under the settings in force of what the names refer to; None if they refer to nothing in force."""
        match kind:
            case "model":
                return self.model(names["model"])
            case "probes" | "before":
                return getattr(self, kind)(names["subject"])
            case "texts":
                return self.texts(names["subject"], names["kind"])
            case "attacked_before":
                return self.attacked_before(names["subject"], names["attack"])
            case "layers_before":
                return self.layers_before(names["subject"])
            case "scored_before":
                return self.scored_before(names["subject"])
            case "target_embedding":
                return self.target_embedding(names["target"], names["described"])
            case "windows":
                return self.windows(names["subject"], int(names["k"]), names["corpora"])
            case "states":
                return self.states(names["subject"], int(names["k"]), names["corpora"], int(names["layer"]))
            case "reference":
                return self.reference(names["target"], names["kind"], int(names["max_tokens"]))
            case "benchmark" | "primers" | "counts":
                return getattr(self, kind)()
            case "text_set":
                name = names["text_set"]
                known = name in TEXT_SETS and self.config["benchmarks"][self.own["benchmark"]]["source"] != "path"
                return self.path("text_set", self.recipes.raw("Target", name), text_set=name) if known else None
        raise KeyError(f"no path of kind {kind}")

    def check_names(self, path: str) -> None:
        """Raise a ConfigError if a path names something that does not exist, or a model or benchmark not in force."""
        _, names = names_in(path) or (None, {})
        for key, table in (("model", "models"), ("llm", "models"), ("benchmark", "benchmarks"), ("encoder", "models")):
            name = names.get(key)
            if name is not None and name not in self.config[table]:
                raise ConfigError(unknown(path, name, sorted(self.config[table])))
            if name is not None and key != "model" and name != self.config[key]:
                raise ConfigError(
                    f"{path}: {key} is {self.config[key]}; ask with --config {key}={name}, or in a configfile"
                )
        subject = names.get("target", names.get("subject"))
        if subject not in (None, UTILITY, *self.config["all_targets"]) and not GROUP.fullmatch(subject):
            raise ConfigError(unknown(path, subject, self.config["all_targets"]))
        if (attack := names.get("attack")) is not None and attack not in self.config["attacks"]:
            raise ConfigError(unknown(path, attack, list(self.config["attacks"])))
        files = sorted({block["method"] for block in self.config["method_settings"].values()})
        if names.get("method", files[0]) not in files:
            raise ConfigError(unknown(path, names["method"], files))
