# What the rules share: the checked config, and which files belong to a run.

import glob
import itertools
import random
import re
import sys
from functools import cache

ROOT = Path(workflow.basedir)
MAIN = workflow.is_main_process  # and not one that Snakemake starts for a job

sys.path.insert(0, str(ROOT / "workflow"))

import atu_pipeline  # first, since it refuses a faulty file of probe sets in one line
from atu.common.names import name_runs
from atu.data.benchmark import TEXT_SETS, UTILITY
from atu.data.probe_sets import PROBE_SETS
from atu_pipeline.cluster import check_cluster, teach_plugins
from atu_pipeline.recipes import Recipe, Recipes, checksum, declarations, stale
from atu_pipeline.retries import tell_faults_apart
from atu_pipeline.settings import (
    SHOWN,
    ConfigError,
    Rows,
    Uncompared,
    check_config,
    check_keys,
    check_methods_fit,
    check_paths,
    experiment_of,
    fetched_from,
    kind_of,
    model_needs,
    notes,
    published_row,
    share_library,
)
from atu_pipeline.start import (
    before_planning,
    check_modules,
    check_resources,
    clear_leftovers,
    note_command,
    take_directory,
)

share_library(ROOT, MAIN)
tell_faults_apart(MAIN)
teach_plugins()
check_keys(workflow.configfiles if MAIN else [])
config = check_config(config, ROOT)

LLM, ENCODER, BENCHMARK = config["llm"], config["encoder"], config["benchmark"]
TARGETS = config["targets"]
COMPUTE = {key: config[key] for key in ("device", "precision")}
ASKING = {key: config["evaluation"][key] for key in ("batch_tokens", "max_new_tokens")}
# What the LLM's chat template is rendered with; a part of what jobs are made of where it is set at all.
TEMPLATE = {
    key: config["models"][LLM][key]
    for key in ("template_options",)
    if config["models"][LLM].get(key)
}
# aligned (ATU), trained (a loss on texts) or applied (at inference, to the unmodified model)
KINDS = {name: kind_of(block) for name, block in config["method_settings"].items()}
SHARED_UTILITY = config["benchmarks"][BENCHMARK]["shared_utility"]


wildcard_constraints:
    llm=r"[^/]+",
    benchmark=r"[^/]+",
    encoder=r"[^/]+",
    subject=r"[^/]+",
    target=r"\d+_[^/]+",
    method=r"[^/]+",
    seed=r"\d+",
    stage=r"[1-9]\d*",
    layer=r"\d+",
    k=r"\d+",
    text_set=r"[^/]+",
    # of the config's own targets and methods (nothing), or of an experiment: folders of tables and figures
    where="|".join(
        ["", *(f"experiments/{re.escape(name)}/" for name in config["experiments"])]
    ),


def settings(wildcards):
    """Settings of the method that the wildcards name."""
    return config["method_settings"][wildcards.method]


def settings_key(wildcards):
    """Where in the config these settings stand; variants of a grid share those of their method."""
    for method, variants in config["grids"].items():
        if wildcards.method in variants:
            return f"method_settings.{method}"
    return f"method_settings.{wildcards.method}"


def in_grid(wildcards):
    """Whether the wildcards' method is one rate of a grid: where it diverges, the others go on."""
    return any(wildcards.method in variants for variants in config["grids"].values())


def stages(method):
    """The stages of a method, each with its tau: thresholds of ATU, epochs of what is trained, one of the rest."""
    chosen = config["method_settings"][method]
    if KINDS[method] == "aligned":
        return chosen["unlearn"]["tau"]
    if KINDS[method] == "trained":
        return [None] * chosen["train"]["epochs"]
    if KINDS[method] == "applied":
        return [None]
    raise KeyError(f"no stages of a method of kind {KINDS[method]}")


if MAIN:
    before_planning(workflow, lambda paths: check_paths(paths, config, stages))


def benchmark_folder(name):
    """The folder-per-target form of a benchmark: the user's own, or the downloaded one."""
    source = config["benchmarks"][name]
    return (
        source["path"] if source["source"] == "path" else f"resources/benchmarks/{name}"
    )


def alignment_subjects(target, method, seed):
    """The target and the others whose texts the predictor is aligned on; drawn by the seed."""
    others = [name for name in config["all_targets"] if name != target]
    count = config["method_settings"][method]["other_subjects"]
    return [target, *sorted(random.Random(f"{seed} {target}").sample(others, count))]


# What each result depends on: a changed setting makes anew what it bears on, and what is read is compared with it.
RECIPES = Recipes(
    config, lambda *run: alignment_subjects(*run)[1:], lambda method: stages(method)
)


def recipe(kind, *names):
    """The recipe of a job's outputs: what RECIPES calls it, from the wildcards of these names."""
    return lambda wildcards: getattr(RECIPES, kind)(
        *(wildcards[name] for name in names)
    )


RUN_NAMES = ("target", "method", "seed")
RUN = "results/{llm}/{benchmark}/{target}/{method}/seed{seed}"


def run_path(target, method, seed, *inside):
    """A path inside the folder of one run."""
    names = {"llm": LLM, "benchmark": BENCHMARK, "target": target}
    return "/".join([RUN.format(**names, method=method, seed=seed), *inside])


def before_recipes(target):
    """Outcomes of the unmodified model that concern a target, each with its recipe."""
    subjects = [target, UTILITY] if SHARED_UTILITY else [target]
    return {
        f"results/{LLM}/{BENCHMARK}/before/{subject}.parquet": RECIPES.before(subject)
        for subject in subjects
    }


def before_files(target):
    """Outcomes of the unmodified model that concern a target."""
    return list(before_recipes(target))


@cache
def experiment(where=""):
    """What an experiment runs and shows; the config's own targets and methods are one without a name."""
    chosen = experiment_of(where.removeprefix("experiments/").rstrip("/"), config)
    check_methods_fit(config, chosen["methods"])
    return chosen


def chosen_runs(where=""):
    """Target, method and seed of each run of an experiment; a method with a list of learning rates is one for each."""
    chosen = experiment(where)
    return itertools.product(chosen["targets"], chosen["methods"], chosen["seeds"])


@cache
def runs(where=""):
    """One row for each stage of each run: what the tables are made of. Stage 0 is the unmodified model."""
    rows = []
    for target, method, seed in chosen_runs(where):
        run = {"target": target, "method": method, "seed": seed}
        rows.append(run | {"stage": 0, "tau": None, "files": before_recipes(target)})
        for stage, tau in enumerate(stages(method), start=1):
            if not config["evaluation"][asked_when(method, stage)]:
                continue
            file = run_path(target, method, seed, f"stage{stage}", "probes.parquet")
            files = {file: RECIPES.evaluation(target, method, str(seed), stage)}
            rows.append(run | {"stage": stage, "tau": tau, "files": files})
    name_runs(rows)
    made = {
        f"results/{where}tables/main.csv": table_recipe(rows),
        f"results/{LLM}/{BENCHMARK}/known.csv": known_recipe(),
    }
    of_pages = {}
    for row in first_and_last(rows):
        of_pages.setdefault(row["target"], []).append(row)
    for target, shown_there in of_pages.items():
        made[f"results/{where}answers/{target}.html"] = table_recipe(shown_there)
    refuse_stale(*(row["files"] for row in rows), made)
    return Rows(rows)


def refuse_stale(*made):
    """Refuse to go on with files of other settings, each with its recipe, that Snakemake would keep."""
    if fault := MAIN and stale(made):
        raise ConfigError(fault)


def first_and_last(rows):
    """Of each run among some rows the unmodified model and the last stage, if that is evaluated."""
    return [row for row in rows if row["stage"] in (0, len(stages(row["method"])))]


def own_answers():
    """The unmodified model's answers to the targets' own probes, each file with its recipe."""
    folder = f"results/{LLM}/{BENCHMARK}/before"
    return {f"{folder}/{target}.parquet": RECIPES.before(target) for target in TARGETS}


def known_recipe():
    """What the list of known probes depends on."""
    return table_recipe([{"files": own_answers()}])


def table_recipe(rows):
    """What the table of some rows depends on."""
    files = {file: made.digest for row in rows for file, made in row["files"].items()}
    kept = {key: config[key] for key in ("dev_targets", "collapse", "grids")}
    return Recipe(runs=files, probe_sets=declarations(), **kept)


@cache
def outcome_files(where=""):
    """Outcomes of all evaluations of all runs."""
    return sorted({file for row in runs(where) for file in row["files"]})


def checked(where=""):
    """What was found out about the LLM, as the methods of an experiment ask for it."""
    return f"resources/checks/{where}{LLM}.json"


def kept_models():
    """The unlearned model of each run, or what is applied to the unmodified one."""
    return [
        run_path(*run, "intervention" if KINDS[run[1]] == "applied" else "model")
        for run in chosen_runs()
    ]


def asked_when(method, stage):
    """The key of config.evaluation that says what is asked after a stage."""
    return "before_and_after" if stage == len(stages(method)) else "between"


def is_last(wildcards):
    """Whether the wildcards' stage is the last of its method."""
    return int(wildcards.stage) == len(stages(wildcards.method))


# A pattern for the method in the path of a run's last stage.
LAST_STAGE = (
    "(?:"
    + "|".join(
        rf"{re.escape(method)}(?=/seed\d+/stage{len(stages(method))}/)"
        for method in config["method_settings"]
    )
    + ")"
)


def finished_llm(wildcards):
    """The kept model of a run, or the unmodified one to which its intervention is applied."""
    applied = KINDS[wildcards.method] == "applied"
    return "resources/models/{llm}" if applied else f"{RUN}/model"


def stage_checkpoint(wildcards):
    """The checkpoint of a stage, or of the last where the wildcards name none; epochs lie side by side."""
    if KINDS[wildcards.method] == "trained":
        return f"{RUN}/epochs"
    return f"{RUN}/stage{wildcards.get('stage', len(stages(wildcards.method)))}/llm"


def adapter_base(wildcards):
    """The base model of the LoRA adapter that a method trains; where it is merged, the kept model stands alone."""
    lora = settings(wildcards).get("lora", {"rank": 0})
    return "resources/models/{llm}" if lora["rank"] else []


def base_on_hub(wildcards):
    """Repository and revision of the base model on the hub; None and None where it comes from elsewhere."""
    source = config["models"][wildcards.llm]
    return [source.get(key) for key in ("repo", "revision")]


def checkpoint_inside(wildcards):
    """Where in its input an evaluation or the kept model finds that checkpoint."""
    if KINDS[wildcards.method] == "trained":
        return str(wildcards.get("stage", len(stages(wildcards.method))))
    return "."


def applied_intervention(wildcards):
    """What is applied to the unmodified model, if that is what the method does."""
    return f"{RUN}/intervention" if KINDS[wildcards.method] == "applied" else []


def asked_probes(wildcards):
    """The probes of a run's target, and those that all targets of its benchmark share."""
    subjects = [wildcards.target] + [UTILITY] * SHARED_UTILITY
    return [f"results/{wildcards.benchmark}/probes/{name}.parquet" for name in subjects]


def probe_specs(when):
    """How the sets are asked and scored: a changed prompt asks anew."""
    return {name: PROBE_SETS[name].asking() for name in config["evaluation"][when]}


def hub_source(wildcards):
    """Where a benchmark lies on the hub."""
    source = config["benchmarks"][wildcards.benchmark]
    return {key: source[key] for key in ("repo", "revision")}


def text_table(text_set):
    """One set of texts as a table of the hub's dataset."""
    return {text_set: TEXT_SETS[text_set] | {"split": "train"}}


PROBE_TABLES = text_table("intro") | {
    probe_set.file: {"dataset": probe_set.dataset, "split": "test"}
    for probe_set in PROBE_SETS.values()
    if probe_set.dataset
}


def text_set(kind):
    """The benchmark's text set of a kind; all but the passages have the author that corpus.text_set names."""
    return RECIPES.text_set(kind)


# Kinds of texts that are taken from the benchmark; the others the model writes itself.
EXTRACTED = (
    ["passage"]
    if config["corpus"]["source"] == "generate"
    else ["passage", "pair", "reject"]
)


def texts_folder(wildcards, kind):
    """The folder-per-target form of the benchmark's texts of a kind."""
    if config["benchmarks"][wildcards.benchmark]["source"] == "path":
        return benchmark_folder(wildcards.benchmark)
    return f"resources/texts/{wildcards.benchmark}/{text_set(kind)}"


def text_files(wildcards, kind):
    """The benchmark's texts about a subject."""
    if config["benchmarks"][wildcards.benchmark]["source"] == "path":
        return subject_files(wildcards, f"{text_set(kind)}.json")
    return texts_folder(wildcards, kind)


def subject_texts(wildcards, kind, subject):
    """Texts of a kind about a subject, in the form that the library reads."""
    folder = f"results/{wildcards.llm}/{wildcards.benchmark}"
    kind = "corpus" if kind == "positive" else f"texts/{kind}"
    return f"{folder}/{kind}/{subject}.jsonl"


def method_texts(wildcards, kind):
    """Texts of a kind about the target."""
    return subject_texts(wildcards, kind, wildcards.target)


def retain_texts(wildcards):
    """Biographies of others, if the method's loss or its retain term reads them."""
    if not RECIPES.reads_others(wildcards.method):
        return []
    names = (wildcards.target, wildcards.method, wildcards.seed)
    return [
        subject_texts(wildcards, "positive", subject)
        for subject in alignment_subjects(*names)[1:]
    ]


def reference_file(wildcards):
    """Log-probabilities of the method's texts under the unmodified model, if its loss reads them."""
    chosen = settings(wildcards)
    if not RECIPES.reads_reference(wildcards.method):
        return []
    folder = (
        f"results/{wildcards.llm}/{wildcards.benchmark}/reference/{chosen['texts']}"
    )
    return f"{folder}/tokens{chosen['max_tokens']}/{wildcards.target}.safetensors"


def names_of(*kinds):
    """A pattern for the names of all methods of some kinds; it matches nothing if there are none."""
    names = [name for name, kind in KINDS.items() if kind in kinds]
    return "|".join(map(re.escape, names)) or "(?!)"


def primers_file(wildcards):
    """The few-shot primers of a benchmark: fetched from its authors' source, or its own file, or none."""
    source = config["benchmarks"][wildcards.benchmark]
    if source.get("primers"):
        return [f"resources/primers/{wildcards.benchmark}.json"]
    own = source["source"] == "path"
    return benchmark_files(wildcards, "Utility/primers.json") if own else []


def probe_counts(wildcards):
    """The comparison of a benchmark's size with the published one, if its config speaks of it."""
    compared = "check_totals" in config["benchmarks"][wildcards.benchmark]
    return [f"results/{wildcards.benchmark}/counts.csv"] if compared else []


def benchmark_files(wildcards, pattern):
    """Files of the benchmark that exist, or its whole folder if it is still to be downloaded."""
    folder = benchmark_folder(wildcards.benchmark)
    if config["benchmarks"][wildcards.benchmark]["source"] == "hub":
        return folder
    return sorted(str(path) for path in Path(folder).glob(pattern))


def subject_files(wildcards, pattern):
    """Files of the benchmark about one subject."""
    shared = wildcards.subject == UTILITY
    place = "Utility" if shared else f"Target/{glob.escape(wildcards.subject)}"
    return benchmark_files(wildcards, f"{place}/{pattern}")


def alignment_inputs(wildcards, kind):
    """Windows or hidden states of the target and the others, target first."""
    chosen = settings(wildcards)
    folder = (
        f"results/{wildcards.llm}/{wildcards.benchmark}/{kind}/{ENCODER}/k{chosen['k']}"
    )
    subjects = alignment_subjects(wildcards.target, wildcards.method, wildcards.seed)
    if kind == "windows":
        return [f"{folder}/{subject}.safetensors" for subject in subjects]
    return [
        ancient(f"{folder}/layer{chosen['layer']}/{subject}") for subject in subjects
    ]


def previous_llm(wildcards):
    """The model that a stage starts from."""
    if wildcards.stage == "1":
        return f"resources/models/{wildcards.llm}"
    return f"{RUN}/stage{int(wildcards.stage) - 1}/llm"


def guarded_outcomes(wildcards):
    """The evaluations by which a stage sees whether the one before has collapsed; its own first.

    Ancient: asking anew does not train anew.
    """
    stage = int(wildcards.stage) - 1
    if stage == 0 or not config["collapse"]["stop"]:
        return []
    own = f"{RUN.format(**wildcards)}/stage{stage}/probes.parquet"
    return [ancient(file) for file in (own, *before_files(wildcards.target))]


def retained_states(wildcards):
    """Hidden states of the unmodified model on the others' texts, if the loss reads them."""
    if settings(wildcards)["unlearn"]["retain_weight"] == 0:
        return []
    return alignment_inputs(wildcards, "hidden_states")[1:]


def code_of(script):
    """What a script says, whatever its date."""
    return checksum(str(ROOT / "workflow/scripts" / Path(script).name))


def caption(name):
    """The text under a figure in the report: a changed one draws the figure anew."""
    return (ROOT / f"workflow/report/{name}.rst").read_text(encoding="utf-8")
