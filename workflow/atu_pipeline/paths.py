"""Where every file lies. Rules take the patterns, jobs and tables the paths; nothing else builds or reads a path.

A result that settings bear on has a digest of them in its name: two configs never write the same file, and what other
settings made is simply not there. Tables and figures have none: they are views of the last run.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from atu.data.benchmark import UTILITY
from atu.data.probe_sets import TEXT_SETS
from atu_pipeline.recipes import Recipe, Recipes
from atu_pipeline.settings import ConfigError, has_grid, kind_of, unknown

DIGITS = 8  # of a digest in a path: one in four billion that two results of one name share them
OF_MODEL = "results/{llm}/{benchmark}"
OF_RUNS = OF_MODEL + "/{target}/seed{seed}"
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
    "target_embedding": OF_MODEL + "/target_embeddings/{encoder}/{target}-{digest}.safetensors",
    "windows": OF_MODEL + "/windows/{encoder}/k{k}/{subject}-{digest}.safetensors",
    "states": OF_MODEL + "/hidden_states/{encoder}/k{k}/layer{layer}/{subject}-{digest}",
    "reference": OF_MODEL + "/reference/{kind}/tokens{max_tokens}/{target}-{digest}.safetensors",
    "before": OF_MODEL + "/before/{subject}-{digest}.parquet",
    "alignment": OF_RUNS + "/alignments/{method}-{digest}",
    "realignment": OF_RUNS + "/realignments/{method}-{digest}",
    "stage": STAGE,
    "between": STAGE + "/evaluations/{stage}-{asked}.parquet",
    "run": RUN,
    "after": RUN + "/evaluations/{asked}.parquet",
}
CONSTRAINTS = {
    "digest": f"[0-9a-f]{{{DIGITS}}}",
    "asked": f"[0-9a-f]{{{DIGITS}}}",
    "target": r"\d+_[^/]+",
    "seed": r"\d+",
    "stage": r"[1-9]\d*",
    "layer": r"\d+",
    "k": r"\d+",
    "max_tokens": r"\d+",
} | dict.fromkeys(("llm", "model", "benchmark", "encoder", "subject", "method", "text_set", "kind"), r"[^/]+")


VIEWS = ("tables", "figures", "answers")  # folders of an experiment


def experiment_dir(path: str) -> str | None:
    """The folder of the experiment that a table, figure or page is of; None for other files."""
    parts = Path(path).parts
    end = next((i for i, part in enumerate(parts) if part in VIEWS), None)
    own = end == 1 or (end == 3 and parts[1] == "experiments")
    return "/".join(parts[:end]) if own and parts[0] == "results" else None


def short(recipe: Recipe) -> str:
    """The digest that stands in a path."""
    return recipe.digest[:DIGITS]


def inside(kind: str, name: str) -> str:
    """The pattern of a file or folder in a folder of a kind."""
    return f"{PATTERNS[kind]}/{name}"


def log_of(rule: str, kind: str) -> str:
    """The pattern of a rule's log: named as what the rule makes."""
    made = PATTERNS[kind]
    return f"logs/{rule}/{made.partition('/')[2].removesuffix(Path(made).suffix)}.log"


def names_in(path: str) -> tuple[str, dict[str, str]] | None:
    """The kind of a path, or of the folder that holds it, and the names in it; None if it is of no kind."""
    for kind, pattern in reversed(PATTERNS.items()):  # what is in a folder before the folder
        expression = re.sub(r"\\{(\w+)\\}", lambda name: f"(?P<{name[1]}>{CONSTRAINTS[name[1]]})", re.escape(pattern))
        if found := re.match(expression + r"(?:/|$)", path):
            return kind, found.groupdict()
    return None


class Stage(NamedTuple):
    """A stage of a run.

    Attributes:
        method: a name under ``method_settings``.
        number: 0 is the alignment; a run's own is the last.
    """

    target: str
    method: str
    seed: str
    number: int


class Paths:
    """The paths of one config.

    Folders of runs carry the name of the method's file: variants that share a stage share its folder.
    """

    def __init__(self, recipes: Recipes):
        self.recipes, self.config = recipes, recipes.config
        self.own = {"llm": self.config["llm"], "benchmark": self.config["benchmark"]}
        self.stages: dict[tuple[str, str, str, str], Stage] = {}
        self.runs: dict[tuple[str, str, str, str], Stage] = {}
        self.shorter: dict[tuple[str, str, str, str], Stage] = {}
        self.planned: set[str] = set()

    def path(self, kind: str, recipe: Recipe, /, **names: object) -> str:
        """The path of something that a recipe makes."""
        return PATTERNS[kind].format(**self.own, **names, digest=short(recipe))

    @cache  # noqa: B019 (one object a run)
    def model(self, name: str) -> str:
        """A model as it was fetched."""
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
        """The folder-per-target form of the benchmark: the user's own, or the downloaded one."""
        source = self.config["benchmarks"][self.own["benchmark"]]
        return source["path"] if source["source"] == "path" else self.path("benchmark", self.recipes.raw("Target"))

    def text_set(self, kind: str) -> str:
        """The folder-per-target form of the benchmark's texts of a kind."""
        if self.config["benchmarks"][self.own["benchmark"]]["source"] == "path":
            return self.benchmark()
        name = self.recipes.text_set(kind)
        return self.path("text_set", self.recipes.raw("Target", name), text_set=name)

    def primers(self) -> str:
        """The few-shot primers that are fetched."""
        return self.path("primers", self.recipes.primers())

    def counts(self) -> str:
        """The comparison of the benchmark's size with the published one."""
        return self.path("counts", self.recipes.counts())

    @cache  # noqa: B019
    def probes(self, subject: str) -> str:
        """The probes of a subject, or those that all share."""
        return self.path("probes", self.recipes.probes(subject), subject=subject)

    @cache  # noqa: B019
    def texts(self, subject: str, kind: str = "positive") -> str:
        """Texts of a kind about a subject, in the form that the library reads."""
        return self.path("texts", self.recipes.texts(subject, kind), subject=subject, kind=kind)

    @cache  # noqa: B019
    def target_embedding(self, target: str) -> str:
        """The embedding of a target's name."""
        names = {"target": target, "encoder": self.config["encoder"]}
        return self.path("target_embedding", self.recipes.target(target), **names)

    @cache  # noqa: B019
    def windows(self, subject: str, k: int) -> str:
        """Window embeddings of a subject's texts."""
        names = {"subject": subject, "k": k, "encoder": self.config["encoder"]}
        return self.path("windows", self.recipes.windows(subject, k), **names)

    @cache  # noqa: B019
    def states(self, subject: str, k: int, layer: int) -> str:
        """Hidden states of the base model on a subject's texts."""
        names = {"subject": subject, "k": k, "layer": layer, "encoder": self.config["encoder"]}
        return self.path("states", self.recipes.states(subject, k, layer), **names)

    @cache  # noqa: B019
    def reference(self, target: str, kind: str, max_tokens: int) -> str:
        """Log-probabilities of texts under the base model."""
        names = {"target": target, "kind": kind, "max_tokens": max_tokens}
        return self.path("reference", self.recipes.reference(target, kind, max_tokens), **names)

    @cache  # noqa: B019
    def before(self, subject: str) -> str:
        """The base model's answers to the probes of a subject."""
        return self.path("before", self.recipes.before(subject), subject=subject)

    def before_recipes(self, target: str) -> dict[str, Recipe]:
        """Answers of the base model that concern a target, each with its recipe."""
        subjects = self.recipes.subjects_of(target)
        return {self.before(subject): self.recipes.before(subject) for subject in subjects}

    def folder(self, kind: str, recipe: Recipe, stage: Stage) -> str:
        """The folder of an alignment, a stage or a run, which :meth:`find` will know."""
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
        """The folder of a stage before the last, with its predictor; epochs of what is trained share one."""
        recipe = self.recipes.passed_on(target, method, seed, number)
        return self.folder("stage", recipe, Stage(target, method, seed, number))

    @cache  # noqa: B019
    def realignment(self, target: str, method: str, seed: str, number: int) -> str:
        """The folder of the predictor that is aligned on what a shorter run has kept."""
        recipe = self.recipes.passed_on(target, method, seed, number)
        return self.folder("realignment", recipe, Stage(target, method, seed, number))

    @cache  # noqa: B019
    def run(self, target: str, method: str, seed: str) -> str:
        """The folder of what a run keeps."""
        stage = Stage(target, method, seed, self.recipes.last(method))
        return self.folder("run", self.recipes.kept(target, method, seed), stage)

    @cache  # noqa: B019
    def ended(self, target: str, method: str, seed: str, number: int) -> str:
        """The folder of the run of Align-then-Unlearn that ends with a stage: a shorter one than the method's own."""
        stage = Stage(target, method, seed, number)
        return self.folder("run", self.recipes.kept(*stage), stage)

    def plan_run(self, target: str, method: str, seed: str) -> None:
        """Know a run that will be made: longer ones go on from what it keeps."""
        self.planned.add(self.run(target, method, seed))

    @cache  # noqa: B019
    def shorter_run(self, target: str, method: str, seed: str, number: int) -> str | None:
        """The folder of a run that ends with a stage and that a longer one goes on from; None if it makes the stage
        itself, or has made it."""
        run = self.ended(target, method, seed, number)
        made = Path(self.stage(target, method, seed, number), "steps.csv").exists()
        return run if not made and (run in self.planned or Path(run, "weights").is_dir()) else None

    @cache  # noqa: B019
    def between(self, target: str, method: str, seed: str, number: int) -> str:
        """The answers of the model of a stage before the last."""
        asked = short(self.recipes.between(target, method, seed, number))
        return f"{self.stage(target, method, seed, number)}/evaluations/{number}-{asked}.parquet"

    @cache  # noqa: B019
    def after(self, target: str, method: str, seed: str) -> str:
        """The answers of the kept model."""
        return f"{self.run(target, method, seed)}/evaluations/{short(self.recipes.after(target, method, seed))}.parquet"

    def evaluation(self, target: str, method: str, seed: str, number: int) -> str:
        """The answers after a stage of a run."""
        last = number == self.recipes.last(method)
        return self.after(target, method, seed) if last else self.between(target, method, seed, number)

    def steps(self, target: str, method: str, seed: str, number: int) -> dict[str, Recipe]:
        """Losses over the steps of a stage of Align-then-Unlearn, each file with its recipe; stage 0: the alignment."""
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

    def find(self, names: object, run: bool = False) -> Stage:
        """The stage that the names in a path mean, of any method that goes through it.

        Args:
            names: target, seed, method (its file) and digest, as wildcards have them.
            run: the path is of what a run keeps.

        Raises:
            ConfigError: if no settings in force have this digest.
        """
        key, known = (names.target, names.seed, names.method, names.digest), self.runs if run else self.stages
        if key not in known:
            self.find_all(names.target, names.seed, names.method)
        if run and key not in known:
            known = self.shorter
        if key not in known:
            raise ConfigError(
                f"{names.method}-{names.digest} of {names.target} was made by other settings than those in force; "
                "restore them, or ask for a method by its name with --config (`atu runs` lists what there is)"
            )
        return known[key]

    @cache  # noqa: B019
    def find_all(self, target: str, seed: str, file: str) -> None:
        """Know the folders of all blocks of a method's file, as a job that was started by itself needs them."""
        for method, block in self.config["method_settings"].items():
            if block["method"] != file or has_grid(block):  # its rates have blocks of their own
                continue
            if kind_of(block) == "aligned":
                self.alignment(target, method, seed)
                for number in range(1, self.recipes.last(method)):
                    self.ended(target, method, seed, number)
            for number in range(1, self.recipes.last(method) + (kind_of(block) == "trained")):
                self.stage(target, method, seed, number)
            self.run(target, method, seed)

    def check(self, paths: Iterable[str]) -> None:
        """Refuse paths that are asked for and that no settings in force make.

        Args:
            paths: of the command line, names of rules among them.

        Raises:
            ConfigError: naming the path and what is unknown in it.
        """
        for path in paths:
            self.check_names(path)
            kind, names = names_in(path) or (None, {})
            if kind in ("alignment", "realignment", "stage", "between", "run", "after"):
                stage = self.find(SimpleNamespace(**names), run=kind in ("run", "after"))
                made = self.answers(kind, names, stage)
            else:
                made = self.made(kind, names) if kind else None
            if made and not path.startswith(made):
                raise ConfigError(f"{path} is of other settings than those in force, which make {made}")

    def answers(self, kind: str, names: dict[str, str], stage: Stage) -> str | None:
        """The answers that the settings in force make in the folder of a stage; None if other files are meant.

        Raises:
            ConfigError: if the folder is of another stage than the one whose answers are asked for.
        """
        run, number = stage[:3], int(names.get("stage", stage.number))
        if kind in ("run", "after") and stage.number < self.recipes.last(stage.method):
            return self.run(*run)  # a shorter one is gone on from, and not made for its own sake
        if kind == "after":
            return self.after(*run)
        if kind != "between":
            return None
        epochs = kind_of(self.config["method_settings"][stage.method]) == "trained"  # which share a folder
        last = self.recipes.last(stage.method) - 1 if epochs else stage.number
        if not (1 if epochs else stage.number) <= number <= last:
            raise ConfigError(
                f"{self.stage(*stage)} has no answers after stage {number}; the last that is asked here is {last}"
            )
        return self.between(*run, number)

    def made(self, kind: str, names: dict[str, str]) -> str | None:
        """The path that the settings in force give to what the names mean; None where they mean nothing in force."""
        match kind:
            case "model":
                return self.model(names["model"])
            case "probes" | "before":
                return getattr(self, kind)(names["subject"])
            case "texts":
                return self.texts(names["subject"], names["kind"])
            case "target_embedding":
                return self.target_embedding(names["target"])
            case "windows":
                return self.windows(names["subject"], int(names["k"]))
            case "states":
                return self.states(names["subject"], int(names["k"]), int(names["layer"]))
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
        """Raises a ConfigError about a model, benchmark, target or method that there is not, or is not in force."""
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
        if subject not in (None, UTILITY, *self.config["all_targets"]):
            raise ConfigError(unknown(path, subject, self.config["all_targets"]))
        files = sorted({block["method"] for block in self.config["method_settings"].values()})
        if names.get("method", files[0]) not in files:
            raise ConfigError(unknown(path, names["method"], files))
