# What the rules share: the checked config, where files are, and what each job reads.

import sys
from functools import cache

MAIN = workflow.is_main_process  # not a process that Snakemake starts for a job
# by `module`, into another workflow
IMPORTED = not workflow.modifier.is_main_snakefile()
HERE = workflow.current_basedir.get_path_or_uri(secret_free=True)

if Path(HERE).is_dir():
    sys.path.insert(0, str(Path(HERE).parent))
import atu_pipeline  # first, since it refuses a faulty file of probe sets in one line
from atu import ROOT
from atu_pipeline.cluster import check_cluster, teach_plugins
from atu_pipeline.defaults import with_defaults
from atu_pipeline.experiment import OWN, Experiment, caption_of, folder_of
from atu_pipeline.inputs import code_of, probe_tables, text_table
from atu_pipeline.paths import CONSTRAINTS, PATTERNS, inside, log_of
from atu_pipeline.recipes import checksum
from atu_pipeline.requests import small_job
from atu_pipeline.retries import tell_faults_apart
from atu_pipeline.settings import (
    ConfigError,
    Covered,
    Uncompared,
    check_config,
    check_keys,
    check_one_kind,
    fetched_from,
    model_needs,
    notes,
    share_library,
    template_of,
)
from atu_pipeline.start import (
    WAYS,
    before_planning,
    check_modules,
    check_resources,
    clear_leftovers,
    leave_ways,
    note_command,
    old_results,
    refuse_prefix,
    take_directory,
)
from atu_pipeline.variants import Variants

refuse_prefix(workflow.modifier)
share_library(ROOT, MAIN)
tell_faults_apart(MAIN)
teach_plugins()
check_keys(workflow.configfiles if MAIN else [])
written = with_defaults(config)
config = check_config(written, ROOT)
check_one_kind(workflow)

# INPUTS has the config's own settings; for the benchmark and the encoder all experiments share them. Inputs that
# depend on a model come from `of(kind)`, since experiments may have their own models.
VARIANTS = Variants(written, config, ROOT)
of = VARIANTS.of_kind
INPUTS = VARIANTS.own
PATHS, RECIPES = INPUTS.paths, INPUTS.recipes

# The priority of jobs behind a training: above all trainings if weights go once they have been asked, which would
# otherwise fill the disk.
ASKED_FIRST = 0 if config["with_models"] else 5

# Settings that affect the numbers of every job with a model.
COMPUTE = {key: config[key] for key in ("device", "precision", "deterministic")}


wildcard_constraints:
    **CONSTRAINTS,
    experiment_dir="|".join([OWN, *map(folder_of, config["experiments"])]),


def own_rules():
    """The rules of this workflow, which another one may have imported."""
    root = str(Path(HERE).parents[1])
    return [made for made in workflow.rules if str(made.snakefile).startswith(root)]


@cache
def experiment(folder=OWN):
    """The experiment whose tables and figures are in a folder."""
    return Experiment(folder, VARIANTS, check=MAIN)


def of_experiment(name):
    """A property of the experiment that the wildcards name."""
    return lambda wildcards: getattr(experiment(wildcards.experiment_dir), name)


def setting(key):
    """A key of the config under which the experiment of the wildcards runs."""
    return lambda wildcards: experiment(wildcards.experiment_dir).config[key]


def placed(kind):
    """Where the report lists outputs: those of the config's own experiment by kind, others by experiment and kind."""
    return {
        "category": lambda wildcards: " / ".join(
            [*Path(wildcards.experiment_dir).parts[2:], kind]
        )
    }


def weights_in(kind):
    """A run's folder of weights; if models are not kept, it is deleted once every job that reads it is done."""
    kept = directory(inside(kind, "weights"))
    return kept if config["with_models"] else temp(kept)


def all_of(folder):
    """What an experiment shows, and its models if they are kept; looked up only when the experiment is requested."""

    def listed(wildcards):
        asked = experiment(folder)
        models = [asked.checked(), *asked.cards()] if config["with_models"] else []
        return [*models, *asked.shown()]

    return listed


if MAIN and WAYS in os.environ:  # first, since methods that fit no GPU are refused next
    leave_ways(inputs.config for inputs in VARIANTS.all())
experiment()
if MAIN:
    before_planning(workflow, VARIANTS.check)
