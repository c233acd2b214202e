"""Checks and notes at the start of a run, before its first job."""

import ast
import atexit
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from atu.common.leftovers import alive, owner, remove_all_abandoned
from atu_pipeline.cluster import GPU_OPTIONS
from atu_pipeline.demands import training_rule, ways
from atu_pipeline.settings import ConfigError, did_you_mean

WAYS = "ATU_WAYS"  # environment variable: the file to which leave_ways writes
RUN = Path(".snakemake/run.json")  # the owner of the run that works in the directory


def command_file(log: Path) -> Path:
    """The file with the command of a run, beside Snakemake's log, whose own line of it has lost the quotes."""
    return log.with_name(f"{log.name}.json")


def note_command(logs: Iterable[str], directory: str) -> None:
    """Keep the words of the command line as the user gave them, for `atu status`.

    Args:
        logs: Snakemake's logs of the run.
        directory: where the user gave the command, and to which its paths are relative.
    """
    profile = {name: os.environ[name] for name in ("SNAKEMAKE_PROFILE",) if name in os.environ}
    for log in logs:
        content = {"words": sys.argv[1:], "directory": directory, "environment": profile}
        command_file(Path(log)).write_text(json.dumps(content), encoding="utf-8")


def run_of(directory: Path) -> tuple[dict | None, bool | None]:
    """The owner of the run in a directory, and whether that process is still alive (None if that is unknown here)."""
    try:
        record = json.loads((directory / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, False
    return record, alive(record)


def take_directory() -> None:
    """Note that this run works in the current directory, until it ends.

    Snakemake locks files, so two runs with different targets can write to one directory, and the one that ends first
    removes the other's locks.

    Raises:
        ConfigError: if another run works here.
    """
    mine = owner()
    RUN.parent.mkdir(exist_ok=True)
    for _ in range(3):  # another run may take it at the same time
        try:
            with RUN.open("x", encoding="utf-8") as file:  # only one run succeeds, even on NFS
                json.dump(mine, file)
        except FileExistsError:
            record, working = run_of(Path())
            if record and working is not False and record != mine:
                mend = "wait until it ends" + ("" if working else f", or if it works no more, delete {RUN}")
                who = f"process {record['pid']} on {record['host']}"
                raise ConfigError(f"another run works in this directory ({who}): {mend}") from None
            RUN.unlink(missing_ok=True)
        else:
            atexit.register(give_directory_back, Path.cwd() / RUN, mine)
            return
    raise ConfigError("other runs start in this directory at the same time: wait until they end")


def give_directory_back(file: Path, mine: dict) -> None:
    """Remove the note at the end of a run, unless it is another run's."""
    record, _ = run_of(file.parents[1])
    if record == mine:
        file.unlink(missing_ok=True)


def missing_modules(root: Path) -> list[str]:
    """Packages that the library and the scripts import and this Python lacks. Nothing is imported to find out."""
    own = {path.stem for path in (root / "workflow").iterdir()}
    found = set()
    for folder in ("atu", "atu_pipeline", "scripts"):
        for path in (root / "workflow" / folder).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found.add(node.module.partition(".")[0])
    return sorted(name for name in found - own if find_spec(name) is None)


def check_modules(root: Path, environments: Iterable) -> None:
    """Refuse a run whose jobs would all fail at their first line, since packages are missing.

    Args:
        environments: those in which Snakemake runs jobs (conda, apptainer); without any, jobs use this Python.

    Raises:
        ConfigError: names the packages.
    """
    if not set(environments) and (missing := missing_modules(root)):
        raise ConfigError(
            f"{sys.executable} lacks {', '.join(missing)}: {sys.executable} -m pip install --requirement "
            f"{root / 'envs/requirements.txt'}"
        )


def leave_ways(configs: Iterable[dict]) -> None:
    """Write the GPU memory that training each method needs, by LLM and method, to the file that `atu plan` has named.

    Each method has its file, after which jobs are named, and whether it is one of the config's own.

    Args:
        configs: the config, and those under which experiments run.
    """
    found: dict[str, dict] = {}
    for config in configs:
        of_llm, blocks = found.setdefault(config["llm"], {}), config["method_settings"]
        shown = (experiment.get("methods", []) for experiment in config["experiments"].values())
        for name in dict.fromkeys(chain(config["methods"], *shown)):
            if name in blocks and name not in of_llm and (rule := training_rule(config, name)):
                sizes = {str(memory): size for memory, size in ways(config, rule, name).items()}
                own = name in config["methods"]
                of_llm[name] = {"file": blocks[name]["method"], "own": own, "ways": sizes}
    Path(os.environ[WAYS]).write_text(json.dumps(found), encoding="utf-8")


def before_planning(workflow: object, check: Callable[[Iterable[str]], None]) -> None:
    """Check the requested targets as soon as Snakemake knows them, which is after it has read the Snakefile.

    Args:
        check: takes the paths and rule names of the command line.
    """
    plan = workflow._prepare_dag

    def checked(*arguments, **options):
        check(workflow.dag_settings.targets)
        return plan(*arguments, **options)

    workflow._prepare_dag = checked


def refuse_prefix(modifier: object) -> None:
    """Refuse a module's ``prefix`` and ``replace_prefix``.

    Args:
        modifier: Snakemake's modifier of the Snakefile being read.

    Raises:
        ConfigError: if it changes paths.
    """
    if modifier.path_modifier.modify("results/tables/main.csv", "output") != "results/tables/main.csv":
        raise ConfigError(
            "module: prefix and replace_prefix change paths that results record; leave them out, and give the "
            "importing workflow a --directory of its own"
        )


def check_resources(settings: object, rules: Iterable[str], gpus: Mapping[str, int]) -> None:
    """Refuse resources for an unknown rule, an unknown gpu_option, and fewer GPUs than a job needs.

    Snakemake ignores resources for an unknown rule, and would lower a job's request to the GPUs that the run has.

    Args:
        settings: Snakemake's settings of resources, from the command line or a profile.
        gpus: the number of GPUs of one job, by the config key that sets it.

    Raises:
        ConfigError: names the option.
    """
    rules = sorted(rules)
    for option, given in (("set-resources", settings.overwrite_resources), ("set-threads", settings.overwrite_threads)):
        for rule in given:
            if rule not in rules:
                line = " (`times` of the Slurm profile)" if option == "set-resources" else ""
                raise ConfigError(f"{option}{line}: unknown rule {rule!r}{did_you_mean(rule, rules)}")
    asked = settings.default_resources and settings.default_resources.get("gpu_option").raw  # as written
    if asked and asked.strip("'\"") not in GPU_OPTIONS:
        raise ConfigError(f"gpu_option: {asked} is not one of {', '.join(GPU_OPTIONS)}")
    limit = settings.resources.get("gpu")
    limit = getattr(limit, "value", limit)  # an object or a number, depending on Snakemake's version
    for key, asked_for in gpus.items():
        if asked_for > 1 and isinstance(limit, int) and limit < asked_for:
            raise ConfigError(
                f"{key} is {asked_for}, and this run has {limit} GPUs: start it with --resources gpu={asked_for} or "
                f"more (`gpus_at_most` of the Slurm profile), or lower {key}"
            )


def old_results() -> list[str]:
    """A line about results of an earlier version, whose paths do not contain the settings that made them."""
    runs = [str(path) for path in Path("results").glob("*/*/*_*/*/seed[0-9]*") if path.is_dir()]
    if not runs:
        return []
    return [
        f"results/ holds {len(runs)} runs of an earlier version, such as {runs[0]}; they are not used, since their "
        "paths do not say which settings made them: keep what you need and delete them"
    ]


def clear_leftovers() -> list[str]:
    """Remove what killed jobs of earlier runs have left here; return lines that say how much."""
    return [line for folder in ("results", "resources") for line in remove_all_abandoned(Path(folder))]
