"""List the results in a directory by name, settings and size, and which of them a config needs.

    atu runs --profile workflow/profiles/demo
    atu runs --profile workflow/profiles/demo --also "--profile slurm" --delete

Snakemake's options choose the config (--profile, --configfile, --config, --directory). Results are needed if the
config's own experiment or a named one is made from them. --delete removes the rest after you have said yes.
"""

import argparse
import contextlib
import io
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path

from tabulate import tabulate

from atu import ROOT
from atu.common.recipe import RecipeError, read_record, record_path
from atu.data.corpora import MADE_OF
from atu_pipeline.defaults import with_defaults
from atu_pipeline.experiment import OWN, Experiment, folder_of
from atu_pipeline.inputs import Inputs
from atu_pipeline.paths import OF_KEPT, PATTERNS, Stage, names_in
from atu_pipeline.settings import ConfigError, check_config
from atu_pipeline.start import run_of
from atu_pipeline.variants import Variants

FOLDERS = ("alignment", "realignment", "stage", "run")  # kinds that belong to one target and seed
INSIDE = ("between", *OF_KEPT)  # kinds inside those folders
LONGEST = 60  # characters of settings in a row


def config_of(arguments: list[str]) -> tuple[Variants, Path]:
    """The checked config that a Snakemake command would read, and the directory in which it would work."""
    from snakemake.cli import parse_args, parse_config
    from snakemake.common.configfile import load_configfile
    from snakemake.utils import update_config

    with contextlib.redirect_stderr(io.StringIO()):  # it prints which profiles it reads
        _, options = parse_args(arguments)
    config: dict = {}
    for file in options.configfile or ():
        update_config(config, load_configfile(file))
    update_config(config, parse_config(options.config))
    directory = Path(options.directory or ".")
    with contextlib.chdir(directory):  # paths of the config are relative to it
        written = with_defaults(config)
        return Variants(written, check_config(written, ROOT), ROOT), directory


def of_run(inputs: Inputs, target: str, method: str, seed: str) -> Iterator[str]:
    """The paths of a run, and of everything from which it is made."""
    paths = inputs.paths
    last = Stage(target, method, seed, paths.recipes.last(method))
    block = paths.config["method_settings"][method]
    yield paths.run(target, method, seed)
    if model := inputs.external(last):
        yield paths.model(model)
    yield from inputs.own_texts(last)
    yield from inputs.reference(last) if inputs.is_trained(last) else []
    if block.get("texts") == "pair" and inputs.generated:  # which are made of these
        yield from (paths.texts(name, kind) for name in inputs.forgotten(last) for kind in ("negative", "positive"))
    for number in range(1, last.number):
        yield paths.stage(target, method, seed, number)
    if inputs.is_trained(last):
        yield paths.stage(target, method, seed, 1)
        yield from inputs.retain_texts(last)
    if "align" in block:
        yield paths.alignment(target, method, seed)
        yield from [*inputs.windows(last), *inputs.states(last), *inputs.target_embeddings(last)]
        kinds = {*block["corpora"], *(MADE_OF[kind] for kind in block["corpora"] if kind in MADE_OF)}
        subjects = (*inputs.forgotten(last), *inputs.retain_set(last))
        yield from (paths.texts(subject, kind) for subject in subjects for kind in sorted(kinds))
        for number in range(1, last.number):
            yield paths.realignment(target, method, seed, number)
            if shorter := paths.shorter_run(target, method, seed, number):
                yield shorter


def of_config(variants: Variants) -> tuple[set[str], dict[str, set[str]]]:
    """All paths that a config needs, and its names for folders of runs; print the experiments that it cannot run."""
    config, inputs = variants.config, variants.own
    left_out = []
    needed, names = {inputs.paths.encoder, *inputs.counts(), *inputs.downloads()}, {}
    for folder in (OWN, *map(folder_of, config["experiments"])):
        try:
            experiment = Experiment(folder, variants, check=False)
        except ConfigError:
            left_out.append(Path(folder).name)
            continue
        inputs = variants.of(experiment.name)
        paths = inputs.paths
        needed |= {paths.llm, *inputs.downloads()}
        for run in experiment.runs():
            needed |= set(of_run(inputs, *run))
            for person in experiment.asked_about(run[0]):
                needed |= set(inputs.probes(person)) | set(paths.before_recipes(person))
                for attack in experiment.chosen["attacks"]:
                    needed |= {paths.attacked_before(person, attack), *inputs.attack_texts(attack, person)}
                if "layer_probe" in experiment.chosen["shows"]:
                    needed.add(paths.layers_before(person))
                if "text_scores" in experiment.chosen["shows"]:
                    needed |= {paths.scored_before(person), *inputs.scored_texts(person)}
            names.setdefault(paths.run(*run), set()).add(run[1])
    if left_out:
        print(f"experiments that this config cannot run: {', '.join(left_out)}", file=sys.stderr)
    return needed, names


def size(path: Path, seen: set[int]) -> int:
    """Bytes of a file or a folder; a file that is linked to one counted before is not counted again."""
    found = 0
    for file in [path, *(path.rglob("*") if path.is_dir() else ())]:
        status = file.lstat()
        if file.is_file() and status.st_ino not in seen:
            seen.add(status.st_ino)
            found += status.st_size
    return found


@dataclass
class Result:
    """One result on disk.

    Attributes:
        kind: a key of ``PATTERNS``.
        names: the names in its path.
        settings: the settings of its method in its record; empty if no method made it.
    """

    path: str
    kind: str
    names: dict[str, str]
    settings: dict
    bytes: int
    made: float


def settings_of(path: Path) -> dict:
    """The settings of the method behind a result, by key, from its record."""
    inside = (path / name for name in ("weights", "intervention", "predictor", "steps.csv", "."))
    for made in chain(inside, path.glob("evaluations/*.parquet")):  # only answers stay if models are not kept
        try:
            return flat(read_record(made)["recipe"].get("settings", {}))
        except (RecipeError, OSError):
            continue
    return {}


def flat(block: dict, key: str = "") -> dict[str, object]:
    """Settings by their full keys, such as unlearn.steps."""
    found: dict[str, object] = {}
    for name, value in block.items():
        whole = f"{key}.{name}" if key else name
        found |= flat(value, whole) if isinstance(value, dict) else {whole: value}
    return found


def results_in(directory: Path) -> list[Result]:
    """The results in a directory: files and folders with a digest in their name."""
    found, seen = {}, set()
    for kind in (kind for kind in PATTERNS if kind not in INSIDE):
        pattern = "/".join("*" if "{" in part else part for part in PATTERNS[kind].split("/"))
        for path in sorted(directory.glob(pattern)):
            relative = path.relative_to(directory).as_posix()
            matched = names_in(relative)
            if not matched or matched[0] != kind or relative in found:
                continue
            settings = settings_of(path) if kind in FOLDERS else {}
            result = Result(relative, kind, matched[1], settings, size(path, seen), path.stat().st_mtime)
            found[relative] = result
    return list(found.values())


def differing(results: Iterable[Result]) -> dict[str, set[str]]:
    """By method, the settings in which its results differ."""
    values: dict[str, dict[str, set[str]]] = {}
    for result in results:
        for key, value in result.settings.items():
            values.setdefault(result.names["method"], {}).setdefault(key, set()).add(str(value))
    return {method: {key for key, several in keys.items() if len(several) > 1} for method, keys in values.items()}


def table(results: list[Result], needed: set[str], names: dict[str, set[str]]) -> list[dict]:
    """One row per run, and one for all results of each other kind."""
    rows, differ = [], differing(results)
    for result in (result for result in results if result.kind in FOLDERS):
        own = differ.get(result.names["method"], ())
        said = ", ".join(f"{key} {value}" for key, value in result.settings.items() if key in own)
        rows.append(
            {
                "kind": result.kind,
                "name": ", ".join(sorted(names.get(result.path, ()))),
                "target": result.names["target"],
                "seed": result.names["seed"],
                "folder": f"{result.names['method']}-{result.names['digest']}",
                "MB": result.bytes / 1e6,
                "made": datetime.fromtimestamp(result.made).isoformat(sep=" ", timespec="minutes"),
                "needed": "yes" if result.path in needed else "no",
                "settings that differ": said if len(said) <= LONGEST else said[: LONGEST - 3] + "...",
            }
        )
    for kind in (kind for kind in PATTERNS if kind not in (*FOLDERS, *INSIDE)):
        of_kind = [result for result in results if result.kind == kind]
        if of_kind:
            count = sum(result.path in needed for result in of_kind)
            megabytes = sum(result.bytes for result in of_kind) / 1e6
            rows.append({"kind": f"{kind} ({len(of_kind)})", "MB": megabytes, "needed": f"{count} of {len(of_kind)}"})
    return rows


def remove(results: Iterable[Result], directory: Path) -> None:
    """Delete results with their records."""
    for result in results:
        path = directory / result.path
        record_path(path).unlink(missing_ok=True)
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def refuse_foreign(arguments: list[str]) -> None:
    """Refuse a folder whose Snakefile has its own config, unless that is named: no result would seem to be needed.

    Raises:
        ConfigError: names the option to use.
    """
    snakefile = Path("Snakefile")
    named = any(word.startswith(("--configfile", "--profile", "--config")) for word in arguments)
    if snakefile.exists() and not snakefile.samefile(ROOT / "Snakefile") and not named:
        raise ConfigError("this folder's Snakefile has a config of its own; name it: atu runs --configfile FILE")


def agreed() -> bool:
    """Whether the user says yes; if nobody answers, the answer is no."""
    try:
        return input("delete them? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print("\nnobody answers: nothing is deleted; --yes deletes without asking")
        return False


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="atu runs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--delete", action="store_true", help="delete what is not needed")
    parser.add_argument("--yes", action="store_true", help="do not ask before")
    parser.add_argument(
        "--also", action="append", default=[], metavar="OPTIONS", help="another config whose results are needed"
    )
    return parser.parse_known_args(arguments)


def main(arguments: list[str]) -> int:
    """List the results; with --delete, delete those that no config needs."""
    options, rest = parse(arguments)
    try:
        refuse_foreign(rest)
        config, directory = config_of(rest)
        others = [config_of(shlex.split(other))[0] for other in options.also]
        with contextlib.chdir(directory):  # what is needed depends on files there
            needed, names = of_config(config)
            for other in others:
                needed |= of_config(other)[0]
    except ConfigError as error:
        sys.exit(str(error.code))
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}; correct the path")
    results = results_in(directory)
    print(tabulate(table(results, needed, names), headers="keys", floatfmt=",.1f"))
    left = [result for result in results if result.path not in needed]
    total = sum(result.bytes for result in left) / 1e6
    print(f"\nnot needed: {len(left)} results, {total:,.1f} MB" + ("" if options.delete else "; --delete removes them"))
    if options.delete and left:
        if run_of(directory)[1] is not False:
            sys.exit("a run works in this directory: wait until it ends")
        if options.yes or agreed():
            remove(left, directory)
            print(f"deleted {len(left)} results, {total:,.1f} MB")
    return 0
