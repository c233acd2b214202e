"""What an experiment runs and shows. The config's own targets, methods and seeds are an experiment too."""

import itertools
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from atu import ROOT
from atu.common.names import name_runs
from atu.data.attacks import COMPARED
from atu.data.text_scores import SCORED
from atu_pipeline.paths import Stage
from atu_pipeline.recipes import Recipe, checksum, declarations, stale
from atu_pipeline.settings import (
    FIGURES,
    SHOWN,
    ConfigError,
    Covered,
    Rows,
    check_methods_fit,
    check_protocol,
    check_selected,
    experiment_of,
    kind_of,
    model_needs,
    published_row,
    refuse,
    unknown,
    unlike,
)
from atu_pipeline.variants import Variants

TABLES = ("main", "adversarial_types", "mia", "collapsed", "learning_rates")  # with records
OWN = "results"  # the folder of the config's own experiment
FOLDER = "results/experiments"  # contains the folders of named experiments


def caption_of(figure: str) -> str:
    """The text under a figure in the report; if it changes, the figure is drawn again.

    Raises:
        ConfigError: if there is no such figure.
    """
    if figure not in FIGURES:
        raise ConfigError(unknown("figure", figure, list(FIGURES)))
    return (ROOT / f"workflow/report/{figure}.rst").read_text(encoding="utf-8")


def folder_of(name: str) -> str:
    """The folder of a named experiment."""
    return f"{FOLDER}/{name}"


class Experiment:
    """One experiment, read only on request, since another benchmark may not have its targets.

    Args:
        folder: the folder of its tables and figures.
        variants: the config's variants.
        check: whether to refuse files that other settings made and Snakemake would keep; a job that Snakemake
            starts by itself need not.

    Raises:
        ConfigError: as ``experiment_of`` does, or if a method needs what the model lacks.
    """

    def __init__(self, folder: str, variants: Variants, check: bool = True):
        self.folder, self.variants, self.check = folder, variants, check
        self.name = "" if folder == OWN else Path(folder).name
        self.paths = variants.of(self.name).paths
        self.config, self.recipes = self.paths.config, self.paths.recipes
        self.chosen = experiment_of(self.name, self.config)
        check_methods_fit(self.config, self.chosen["methods"])
        self.groups = self.recipes.groups.of_experiment(self.chosen)
        for run in self.runs():
            self.paths.plan_run(*run)

    @property
    def targets(self) -> list[str]:
        """The targets to forget."""
        return self.chosen["targets"]

    @property
    def methods(self) -> list[str]:
        """The methods; a method with a grid becomes one for each combination of its values."""
        return self.chosen["methods"]

    def kind(self, method: str) -> str:
        """aligned, trained, applied or external."""
        return kind_of(self.config["method_settings"][method])

    def runs(self) -> Iterable[tuple[str, str, str]]:
        """Target (a person, or the name of a group), method and seed of each run."""
        return itertools.product(self.groups, self.methods, map(str, self.chosen["seeds"]))

    def called(self, method: str, target: str) -> str:
        """The method's name in tables; for several people it says how many, and whether at once or in sequence."""
        if not self.chosen.get("at_once") and not self.chosen.get("in_sequence"):
            return method
        way = "sequence" if self.chosen.get("in_sequence") else "batch"
        return f"{method}@{way}{len(self.asked_about(target))}"

    def asked_about(self, target: str) -> tuple[str, ...]:
        """The people about whom a run's model is asked."""
        return self.recipes.groups.of(target).asked

    def asked(self, method: str, stage: int) -> list[str]:
        """The probe sets that are asked after a stage."""
        last = stage == self.recipes.last(method)
        return self.config["evaluation"]["before_and_after" if last else "between"]

    @cached_property
    def rows(self) -> Rows:
        """The rows from which tables are made, one for each run, person and evaluated stage (0: the base model)."""
        rows = []
        for target, method, seed in self.runs():
            for person in self.asked_about(target):
                run = {"target": person, "method": self.called(method, target), "seed": int(seed), "block": method}
                run["of"] = target
                if person not in self.config["method_settings"][method].get("forgot", [person]):
                    run["foreign"] = True
                rows.append(run | {"stage": 0, "tau": None, "files": self.paths.before_recipes(person)})
                for stage, tau in enumerate(self.recipes.stages(method), start=1):
                    if self.asked(method, stage):
                        asked = target, method, seed, stage, person
                        files = {self.paths.evaluation(*asked): self.recipes.evaluation(*asked)}
                        rows.append(run | {"stage": stage, "tau": tau, "files": files})
        name_runs(rows)
        self.refuse_stale(rows, self.views(rows))
        return Rows(rows)

    def views(self, rows: list[dict]) -> dict[str, Recipe]:
        """The tables and pages that show some rows, each with its recipe; their names have no digest."""
        recipe = self.recipe_of(rows)
        views = {f"{self.folder}/tables/{name}.csv": recipe for name in TABLES}
        views[f"{self.folder}/tables/known.csv"] = self.recipe_of_known
        views[f"{self.folder}/tables/published.csv"] = self.with_published(recipe)
        views[f"{self.folder}/tables/selected.csv"] = self.with_selection(recipe)
        ends = self.first_and_last(rows)
        views[f"{self.folder}/tables/matched.csv"] = self.with_attacks(recipe, self.under_attacks(ends))
        of_pages: dict[str, list[dict]] = {}
        for row in ends:
            of_pages.setdefault(row["target"], []).append(row)
        return views | {
            f"{self.folder}/answers/{name}.html": self.with_attacks(self.recipe_of(shown), self.under_attacks(shown))
            for name, shown in of_pages.items()
        }

    def refuse_stale(self, rows: list[dict], views: dict[str, Recipe]) -> None:
        """Refuse files of other settings that Snakemake would keep."""
        if self.check and (fault := stale([*(row["files"] for row in rows), views])):
            raise ConfigError(fault)

    def recipe_of(self, rows: list[dict]) -> Recipe:
        """What a table of some rows depends on."""
        files = {file: made.digest for row in rows for file, made in row["files"].items()}
        kept = {key: self.config[key] for key in ("dev_targets", "collapse", "grids", "bootstrap")}
        return Recipe(runs=files, probe_sets=declarations(), **kept)

    @cached_property
    def recipe(self) -> Recipe:
        """What the tables, and all figures drawn from them, depend on."""
        return self.recipe_of(self.rows)

    def first_and_last(self, rows: list[dict]) -> list[dict]:
        """For each run among some rows, the rows of the base model and of the last stage, if that is evaluated."""
        return [row for row in rows if row["stage"] in (0, self.recipes.last(row["block"]))]

    @cached_property
    def ends(self) -> Rows:
        """The rows of the base model and of the last stage of each method."""
        return Rows(self.first_and_last(self.rows))

    def answers(self, target: str) -> Rows:
        """The rows that a target's page of answers shows.

        Raises:
            ConfigError: if it is not a target of this experiment.
        """
        if target not in self.targets:
            raise ConfigError(f"{target} is not run: add it to targets")
        return Rows(row for row in self.ends if row["target"] == target)

    @cached_property
    def published(self) -> Rows:
        """The rows, each with its row in the published tables, or the settings in which it differs from that row.

        Raises:
            ConfigError: if the published numbers were made by another protocol.
        """
        refuse(check_protocol(f"{self.folder}/tables/published.csv", self.config))
        rows = []
        for row in self.rows:
            alone = row["method"] == row["block"] or row["stage"] == 0  # nothing is published on several people
            method, stage, taus = row["block"], row["stage"], self.recipes.stages(row["block"])
            own = published_row(method, self.config, stage, taus) if alone else None
            other = unlike(method, self.config, taus[:stage]) if own and stage > 0 else []
            rows.append(row | ({"published_row": None, "unlike": [own, *other]} if other else {"published_row": own}))
        return Rows(rows)

    def base_rows(self) -> Rows:
        """One row for each target, unmodified model and protocol.

        Raises:
            ConfigError: if the experiment has overrides.
        """
        if self.variants.of(self.name) is not self.variants.own:
            raise ConfigError(
                f"{self.folder}/tables/before.csv: this is of the config's own model and questions, and experiments."
                f"{self.name}.overrides sets others; ask for `before` with these in a configfile"
            )
        asked = self.config["before"]
        rows = []
        for model, protocol in itertools.product(self.variants.unmodified(), asked["protocols"]):
            paths, row = self.variants.asking(model, protocol).paths, {"model": model, "protocol": protocol, "stage": 0}
            rows += [row | {"target": name, "files": paths.before_recipes(name)} for name in self.targets]
        return Rows(rows)

    @cached_property
    def before(self) -> Rows:
        """The rows of :meth:`base_rows`, after refusing stale files."""
        rows = self.base_rows()
        self.refuse_stale(rows, {f"{self.folder}/tables/before.csv": self.recipe_of(rows)})
        return rows

    @cached_property
    def known(self) -> dict[str, Recipe]:
        """The base model's answers to the targets' own probes, each file with its recipe."""
        return {self.paths.before(target): self.recipes.before(target) for target in self.targets}

    @cached_property
    def training(self) -> Rows:
        """A row for each stage of each run of Align-then-Unlearn, with its losses; stage 0 is the first alignment."""
        rows = []
        for target, method, seed in self.runs():
            for stage in range(self.recipes.last(method) + 1) if self.kind(method) == "aligned" else ():
                called = self.called(method, target)
                run = {"target": target, "method": called, "seed": int(seed), "stage": stage, "block": method}
                rows.append(run | {"files": self.paths.steps(target, method, seed, stage)})
        return Rows(rows)

    @cached_property
    def attacked(self) -> Rows:
        """A row for each run, attack and person: the answers under the attack, and those to compare with them."""
        rows = self.under_attacks(self.ends)
        table = {f"{self.folder}/tables/robustness.csv": self.with_attacks(self.recipe, rows)} if rows else {}
        self.refuse_stale([{"files": row[kind]} for row in rows for kind in COMPARED], table)
        return Rows(rows)

    def under_attacks(self, ends: Iterable[dict]) -> list[dict]:
        """The rows of some last stages under each attack that applies to them."""
        return [
            self.under(attack, row)
            for row in ends
            for attack in self.chosen["attacks"]
            if row["stage"] > 0 and self.takes(attack, row["block"])
        ]

    def under(self, attack: str, row: dict) -> dict:
        """A run's last stage as a row under an attack."""
        person = row["target"]
        asked = row["of"], row["block"], str(row["seed"]), attack, person
        base = {self.paths.attacked_before(person, attack): self.recipes.attacked_before(person, attack)}
        return {key: row[key] for key in ("target", "method", "seed", "block")} | {
            "attack": attack,
            "kind": self.config["attacks"][attack]["attack"],
            "foreign": row.get("foreign", False),
            "files": {self.paths.attacked(*asked): self.recipes.attacked(*asked)},
            "before": row["files"],
            "base": self.paths.before_recipes(person),
            "base_files": base,
        }

    def takes(self, attack: str, method: str) -> bool:
        """Whether an attack applies to a method: only an adapter that is kept apart can be turned off."""
        lora = self.config["method_settings"][method].get("lora", {"rank": 0})
        return self.config["attacks"][attack]["attack"] != "adapter_off" or bool(lora["rank"] and not lora["merge"])

    @property
    def attack_files(self) -> list[str]:
        """All files that the comparison of attacks reads."""
        return self.compared(self.attacked)

    @staticmethod
    def compared(rows: Iterable[dict]) -> list[str]:
        """The files of answers under attacks in some rows, and of those with which they are compared, each once."""
        return sorted({file for row in rows for kind in COMPARED for file in row[kind]})

    @staticmethod
    def with_attacks(recipe: Recipe, rows: list[dict]) -> Recipe:
        """A recipe with the answers under attacks added, if there are any."""
        read = [row[kind] for row in rows for kind in COMPARED]
        if not read:
            return recipe
        return Recipe(recipe | {"attacked": {file: made.digest for files in read for file, made in files.items()}})

    @property
    def recipe_of_attacked(self) -> Recipe:
        """What comparisons that read answers under attacks depend on."""
        return self.with_attacks(self.recipe, self.attacked)

    @cached_property
    def layers(self) -> Rows:
        """A row for each run and person: the hidden states of the kept model, and those of the base model."""
        rows = []
        for row in (row for row in self.ends if row["stage"] > 0):
            person = row["target"]
            run = row["of"], row["block"], str(row["seed"]), person
            rows.append(
                {key: row[key] for key in ("target", "method", "seed", "block")}
                | {
                    "files": {self.paths.layers(*run): self.recipes.layers(*run)},
                    "base": {self.paths.layers_before(person): self.recipes.layers_before(person)},
                }
            )
        read, table = [row[kind] for row in rows for kind in ("files", "base")], f"{self.folder}/tables/layer_probe.csv"
        self.refuse_stale([{"files": files} for files in read], {table: self.with_layers(self.recipe, rows)})
        return Rows(rows)

    @property
    def layer_files(self) -> list[str]:
        """All hidden states that are compared."""
        return sorted({file for row in self.layers for kind in ("files", "base") for file in row[kind]})

    def with_layers(self, recipe: Recipe, rows: list[dict]) -> Recipe:
        """A recipe with hidden states of layers, and the settings of the classifiers, added."""
        read = [row[kind] for row in rows for kind in ("files", "base")]
        states = {file: made.digest for files in read for file, made in files.items()}
        return Recipe(recipe | {"layers": states, "layer_probe": self.config["layer_probe"]})

    @property
    def recipe_of_layers(self) -> Recipe:
        """What the table of layers depends on."""
        return self.with_layers(self.recipe, self.layers)

    @property
    def classifiers(self) -> Covered:
        """The settings of the classifiers of hidden states."""
        return Covered({key: value for key, value in self.config["layer_probe"].items() if key != "ask"})

    @cached_property
    def scored(self) -> Rows:
        """A row for each run and person: the kept model's scores of texts, and the base model's."""
        rows = [self.with_scores(row) for row in self.ends if row["stage"] > 0]
        table = {f"{self.folder}/tables/text_scores.csv": self.with_scored(self.recipe, rows)}
        self.refuse_stale([{"files": row[kind]} for row in rows for kind in SCORED], table)
        return Rows(rows)

    def with_scores(self, row: dict) -> dict:
        """A run's last stage as a row with scores of texts."""
        person, stage = row["target"], Stage(row["of"], row["block"], str(row["seed"]), row["stage"])
        asked = *stage[:3], person
        return {key: row[key] for key in ("target", "method", "seed", "block")} | {
            "foreign": row.get("foreign", False),
            "seen": self.variants.of(self.name).seen(stage, person),
            "files": {self.paths.scored(*asked): self.recipes.scored(*asked)},
            "base": {self.paths.scored_before(person): self.recipes.scored_before(person)},
        }

    @property
    def scored_files(self) -> list[str]:
        """All files that the table of scores of texts reads."""
        return sorted({file for row in self.scored for kind in SCORED for file in row[kind]})

    @staticmethod
    def with_scored(recipe: Recipe, rows: list[dict]) -> Recipe:
        """A recipe with scores of texts added."""
        read = [row[kind] for row in rows for kind in SCORED]
        return Recipe(recipe | {"scored": {file: made.digest for files in read for file, made in files.items()}})

    @property
    def recipe_of_scored(self) -> Recipe:
        """What the table of scores of texts depends on."""
        return self.with_scored(self.recipe, self.scored)

    # what rules ask for

    @property
    def title(self) -> str:
        """The title of its table."""
        return self.name or "Main table"

    @property
    def own_runs(self) -> dict:
        """What it runs, as recorded in its provenance."""
        return {key: self.chosen[key] for key in ("targets", "methods", "seeds")}

    @cached_property
    def evaluations(self) -> list[str]:
        """The answers from which its tables are made."""
        return self.files(self.rows)

    @property
    def base_evaluations(self) -> list[str]:
        """The base model's answers that concern its targets."""
        return self.files(self.before)

    @cached_property
    def recipe_of_published(self) -> Recipe:
        """What the comparison with published numbers depends on."""
        return self.with_published(self.recipe)

    def with_published(self, recipe: Recipe) -> Recipe:
        """A recipe with the published numbers added."""
        read = self.config["published"]
        files = [checksum(read[name]) for name in ("file", "trained", "aligned")]
        return Recipe(recipe | {"published": [*files, read["text_sets"]]})

    @property
    def to_choose_from(self) -> list[str]:
        """The answers by which a stage of each method is chosen.

        Raises:
            ConfigError: if they cannot choose a stage.
        """
        refuse(check_selected(f"{self.folder}/tables", self.config, self.targets))
        return self.evaluations

    @property
    def recipe_of_selected(self) -> Recipe:
        """What the chosen stages depend on."""
        return self.with_selection(self.recipe)

    def with_selection(self, recipe: Recipe) -> Recipe:
        """A recipe with the rule by which stages are chosen added."""
        return Recipe(recipe | {"selection": self.config["selection"]})

    @property
    def recipe_of_before(self) -> Recipe:
        """What the table of the base model depends on."""
        return self.recipe_of(self.before)

    @property
    def recipe_of_known(self) -> Recipe:
        """What the list of known probes depends on."""
        return self.recipe_of([{"files": self.known}])

    @property
    def covered(self) -> Covered:
        """The config under which it runs."""
        return Covered(self.config)

    def needs(self, llm: str) -> list[dict]:
        """What its methods need from a language model; nothing from one that only `before` asks."""
        return model_needs(self.config, self.methods) if llm == self.config["llm"] else []

    def checkpoints(self, llm: str) -> list[str]:
        """The models from elsewhere that must be made from a language model."""
        blocks = [self.config["method_settings"][method] for method in self.methods]
        own = llm == self.config["llm"]
        return [self.paths.model(block["model"]) for block in blocks if own and "model" in block]

    def base_answers(self, target: str) -> list[str]:
        """The base model's answers that concern one target."""
        return list(self.paths.before_recipes(target))

    def answered(self, target: str) -> list[str]:
        """The kept models' answers about one target."""
        return self.files(row for row in self.answers(target) if row["stage"] > 0)

    def answers_attacked(self, target: str) -> Rows:
        """One target's rows under attacks."""
        return Rows(row for row in self.attacked if row["target"] == target)

    def answered_attacked(self, target: str) -> list[str]:
        """The files under attacks that a target's page of answers reads."""
        return self.compared(self.answers_attacked(target))

    def recipe_of_answers(self, target: str) -> Recipe:
        """What a target's page of answers depends on."""
        return self.with_attacks(self.recipe_of(self.answers(target)), self.answers_attacked(target))

    def read_by(self, figure: str) -> dict[str, str | list[str]]:
        """The files from which a figure is drawn."""
        tables = f"{self.folder}/tables"
        match FIGURES.get(figure):
            case "long":
                return {"long": f"{tables}/main.csv"} | {
                    name: f"{tables}/{name}.csv" for name in ("collapsed", "learning_rates")
                }
            case "steps":
                return {"steps": self.files(self.training), "learning_rates": f"{tables}/learning_rates.csv"}
            case "types":
                return {"types": f"{tables}/adversarial_types.csv"}
            case "attacked":
                return {"attacked": f"{tables}/robustness.csv"}
            case "layers":
                return {"layers": f"{tables}/layer_probe.csv"}
        raise ConfigError(unknown("figure", figure, list(FIGURES)))

    def recipe_of_figure(self, figure: str) -> Recipe:
        """What a figure's tables depend on."""
        match FIGURES.get(figure):
            case "attacked":
                return self.recipe_of_attacked
            case "layers":
                return self.recipe_of_layers
        return self.recipe

    def drawn(self, figure: str) -> Rows:
        """The rows of the training steps from which a figure is drawn."""
        return self.training if FIGURES.get(figure) == "steps" else Rows()

    @staticmethod
    def files(rows: Iterable[dict]) -> list[str]:
        """The files of some rows, each once."""
        return sorted({file for row in rows for file in row["files"]})

    def kept(self) -> list[str]:
        """The unlearned model of each run with its card, or the intervention on the base model."""
        return [
            f"{self.paths.run(*run)}/{'intervention' if self.kind(run[1]) == 'applied' else 'model'}"
            for run in self.runs()
        ]

    def cards(self) -> list[str]:
        """The kept models with their cards."""
        return [path for path in self.kept() if path.endswith("/model")]

    def shown(self) -> list[str]:
        """The tables, figures and pages that it shows."""
        aligned = any(self.kind(method) == "aligned" for method in self.methods)
        shows = [name for name in self.chosen["shows"] if FIGURES.get(name) != "steps" or aligned]
        files = [file for name in shows for file in SHOWN[name]]
        return sorted({f"{self.folder}/{file}".format(target=name) for file in files for name in self.targets})

    def checked_before(self) -> list[str]:
        """The check of each unmodified model that is asked."""
        return [f"{self.folder}/checks/{name}.json" for name in self.variants.unmodified()]

    def checked(self) -> str:
        """The check of the base model against what the methods need."""
        return f"{self.folder}/checks/{self.config['llm']}.json"
