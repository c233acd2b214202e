"""The declarations of a kind of benchmark in workflow/benchmarks/<kind>: probe sets, text sets, forms of rows.

No other code knows sets by their names. A run reads one kind: that of its benchmark, or RWKU's by default.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from string import Formatter
from typing import Any, TypeVar

import yaml

from atu import ROOT
from atu.common.once import OnceLoader, TwiceError
from atu.data.forms import FORMS, Form
from atu.data.metrics import ASKINGS, METRICS, Metric
from atu.data.rows import TEXT_FIELDS, BenchmarkError

T = TypeVar("T")
KINDS = ROOT / "workflow/benchmarks"
RWKU = "rwku"  # the default kind of benchmark
KIND = "ATU_KIND"  # the environment variable that tells jobs which kind to read
TARGETS = 200  # number of RWKU's targets, over which totals are counted
ROLES = ("forget", "neighbour", "membership", "utility", "fluency")
WITH_PRIMARY = ("forget", "neighbour")  # roles by which settings are chosen and curves are drawn
ARROWS = {"lower": "↓", "higher": "↑"}
SECTIONS = ("alike", "sets", "averages")
NAME = re.compile(r"[a-z][a-z0-9_]*")  # a column of tables, and a part of paths
FIELDS = ("query", "context")  # fields in a message besides few-shot texts
PRIMER = re.compile(r"primer_(\w+)")


class ProbeSetError(BenchmarkError):
    """The file of probe sets declares something unknown; the message names the entry and what is known."""


@dataclass(frozen=True)
class ProbeSet:
    """One probe set; the head of the file explains each key.

    Attributes:
        types: other spellings, by type.
        by_type: message or suffix, by type.
    """

    name: str
    label: str
    better: str
    role: str
    file: str
    rows: str
    ask: str
    metric: str
    dataset: str | None = None
    level: str | None = None
    types: dict = field(default_factory=dict, hash=False)
    message: str = ""
    suffix: str = ""
    by_type: dict = field(default_factory=dict, hash=False)
    max_new_tokens: int | None = None
    stop_at_newline: bool = False
    stop_at_answer: bool = False
    stops: list = field(default_factory=list, hash=False)
    spaced_suffix: bool = False
    shared: bool = False
    primary: bool = False
    total: int | None = None
    size: int | None = None
    long_prompt: bool = False

    @property
    def heading(self) -> str:
        """The heading of its column in tables."""
        return f"{self.label} {ARROWS[self.better]}"

    @property
    def short(self) -> str:
        """Its short name among sets of its role: "QA" for Forget QA."""
        return self.label.split(" ")[-1].upper()

    @property
    def scoring(self) -> Metric:
        """The metric that scores its probes."""
        return METRICS[self.metric]

    @property
    def probes(self) -> float:
        """The number of probes of one target of RWKU."""
        if self.size is not None:
            return self.size
        assert self.total is not None  # one of the two is declared (check_fit)
        return self.total / TARGETS

    @property
    def primers(self) -> list[str]:
        """Names of the few-shot texts in its prompts."""
        return sorted({name for text in messages(self) for name in PRIMER.findall(text)})

    def prompt(self, kind: str) -> tuple[str, str]:
        """Message and suffix for probes of a type."""
        own = self.by_type.get(kind, {})
        return own.get("message", self.message), own.get("suffix", self.suffix)

    def reading(self) -> dict:
        """The keys that say how its rows are read, on which its probes depend."""
        kept = {key: getattr(self, key) for key in ("file", "rows", "level", "types", "shared") if getattr(self, key)}
        return kept | {"gives": list(FORMS[self.rows].gives)}

    def asking(self) -> dict:
        """The keys that say how it is asked and scored, on which its results depend, and none about how it is shown.

        Keys that are missing in the file are also missing here, so that a new optional key changes nothing.
        """
        prompt, cut = ("ask", "message", "suffix", "spaced_suffix", "by_type"), ("max_new_tokens", "stops")
        kept = (*prompt, *cut, "stop_at_newline", "stop_at_answer", "metric")
        return {key: getattr(self, key) for key in kept if getattr(self, key)}


@dataclass(frozen=True)
class Average:
    """A mean over sets.

    Attributes:
        weights: the total of each set, by its name.
        better: lower or higher, the same for all its sets.
    """

    name: str
    label: str
    better: str
    weights: dict[str, int] = field(hash=False)

    @property
    def heading(self) -> str:
        """The heading of its column in tables."""
        return f"{self.label} {ARROWS[self.better]}"


KEYS = {key.name: key for key in fields(ProbeSet) if key.name != "name"}
KNOWN = {"better": ARROWS, "role": ROLES, "rows": FORMS, "ask": ASKINGS, "metric": METRICS}
PROMPT = ("message", "suffix")


def messages(probe_set: ProbeSet) -> list[str]:
    """All messages of a set: its own, and those of its types."""
    return [probe_set.message, *(part["message"] for part in probe_set.by_type.values() if "message" in part)]


def check_known(where: str, name: object, known: Iterable[str]) -> None:
    """Raises a ProbeSetError that lists the known names unless ``name`` is one of them."""
    known = list(known)
    if name not in known:
        raise ProbeSetError(f"{where}: unknown {name!r}; known: {', '.join(known)}")


def check_keys(where: str, block: object, known: Iterable[str], required: Iterable[str] = ()) -> dict:
    """Returns ``block``; raises a ProbeSetError unless it is a mapping with all required keys and no unknown ones."""
    if not isinstance(block, dict):
        raise ProbeSetError(f"{where}: {block!r} is not a block of keys")
    for key in block:
        check_known(where, key, known)
    if lacking := [key for key in required if key not in block]:
        raise ProbeSetError(f"{where}: lacks {lacking[0]}")
    return block


def check_value(where: str, value: object, kind: Any) -> None:
    """Raises a ProbeSetError unless a value has its key's type; true is not a number, and numbers are at least 1."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ProbeSetError(f"{where}: {value!r} is not of type {getattr(kind, '__name__', kind)}")
    if isinstance(value, int) and kind is not bool and value < 1:
        raise ProbeSetError(f"{where}: {value} is less than 1")


def check_prompts(where: str, probe_set: ProbeSet) -> None:
    """Raises a ProbeSetError unless types, their prompts and the names in the prompts fit together."""
    for kind, others in probe_set.types.items():
        if not isinstance(others, list) or not all(isinstance(text, str) for text in (kind, *others)):
            raise ProbeSetError(f"{where}.types: {kind!r}: {others!r} is not a type with a list of other spellings")
    for kind, part in probe_set.by_type.items():
        check_known(f"{where}.by_type", kind, probe_set.types)
        check_keys(f"{where}.by_type.{kind}", part, PROMPT)
    for message in messages(probe_set):
        try:
            named = [name for _, name, _, _ in Formatter().parse(message) if name is not None]
        except ValueError as error:
            raise ProbeSetError(f"{where}.message: {error}") from error
        for name in named:
            if not PRIMER.fullmatch(name):
                check_known(f"{where}.message", name, [*FIELDS, "primer_NAME"])
    if wrong := [text for text in probe_set.stops if not isinstance(text, str)]:
        raise ProbeSetError(f"{where}.stops: {wrong[0]!r} is not the name of a token")
    if (probe_set.ask == "text") == any(messages(probe_set)):
        wanted = "takes no message" if probe_set.ask == "text" else "needs a message"
        raise ProbeSetError(f"{where}: ask {probe_set.ask} {wanted}")


def check_fit(where: str, probe_set: ProbeSet) -> None:
    """Raises a ProbeSetError unless the rows have what the metric reads, and the set is asked as the metric needs."""
    metric, form = probe_set.scoring, FORMS[probe_set.rows]
    if metric.asking != probe_set.ask:
        fitting = [name for name, other in METRICS.items() if other.asking == probe_set.ask]
        raise ProbeSetError(
            f"{where}: metric {probe_set.metric} scores what is asked by {metric.asking}; by {probe_set.ask} is asked "
            f"for {', '.join(fitting)}"
        )
    if lacking := [name for name in metric.reads if name not in form.gives]:
        fitting = [name for name, other in FORMS.items() if set(metric.reads) <= set(other.gives)]
        raise ProbeSetError(
            f"{where}: metric {probe_set.metric} reads {lacking[0]}, which rows of form {probe_set.rows} lack; those "
            f"of {', '.join(fitting)} have it"
        )
    if probe_set.role == "membership" and probe_set.ask != "text":
        raise ProbeSetError(f"{where}: role membership needs ask text: it is told by likelihoods")
    if probe_set.primary and not metric.percent:
        shares = [name for name, other in METRICS.items() if other.percent]
        raise ProbeSetError(
            f"{where}: primary needs a metric that is a share, of which there are {', '.join(shares)}: curves are "
            "shares of what was there before"
        )
    if probe_set.ask == "generate" and not probe_set.max_new_tokens:
        raise ProbeSetError(f"{where}: ask generate needs max_new_tokens")
    if probe_set.total is None and probe_set.size is None:
        raise ProbeSetError(f"{where}: lacks total or size, by which a run is planned")


def read_set(name: str, block: object) -> ProbeSet:
    """One entry, with each key and value checked.

    Raises:
        ProbeSetError: names the key and what is known.
    """
    where = f"sets.{name}"
    required = [key for key, own in KEYS.items() if own.default is MISSING and own.default_factory is MISSING]
    keys = check_keys(where, block, KEYS, required)
    for key, value in keys.items():
        check_value(f"{where}.{key}", value, KEYS[key].type)
        if key in KNOWN:
            check_known(f"{where}.{key}", value, KNOWN[key])
    probe_set = ProbeSet(name=name, **keys)
    check_prompts(where, probe_set)
    check_fit(where, probe_set)
    return probe_set


def read_average(name: str, block: object, sets: dict[str, ProbeSet]) -> Average:
    """One mean over sets.

    Raises:
        ProbeSetError: names the key and what is known.
    """
    where = f"averages.{name}"
    keys = check_keys(where, block, ("label", "of"), ("label", "of"))
    check_value(f"{where}.label", keys["label"], str)
    members, weights = keys["of"], {}
    if not isinstance(members, list) or not members:
        raise ProbeSetError(f"{where}.of: {members!r} is not a list of sets")
    for member in members:
        check_known(f"{where}.of", member, sets)
        total = sets[member].total
        if total is None:
            raise ProbeSetError(f"{where}.of: {member} has no total, which would be its weight")
        weights[member] = total
    alike = {(sets[member].better, sets[member].scoring.scale, sets[member].scoring.percent) for member in members}
    if len(alike) > 1:
        raise ProbeSetError(f"{where}.of: its sets differ in unit, or in which way is better; they have no mean")
    return Average(name, keys["label"], sets[members[0]].better, weights)


def read_yaml(path: str | Path) -> object:
    """The content of a YAML file.

    Raises:
        ProbeSetError: if the file cannot be read.
    """
    try:
        with Path(path).open(encoding="utf-8") as stream:  # a stream, so that errors name the file
            return yaml.load(stream, OnceLoader)
    except TwiceError as error:
        raise ProbeSetError(str(error)) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProbeSetError(f"{path} cannot be read ({' '.join(str(error).split())})") from error


def read_probe_sets(path: str | Path) -> tuple[dict[str, ProbeSet], dict[str, Average]]:
    """All sets and all averages by name, in the order of the file.

    Raises:
        ProbeSetError: names, in one line, the file, the entry and what is known.
    """
    declared = read_yaml(path)
    try:
        return check_probe_sets(declared)
    except ProbeSetError as error:
        raise ProbeSetError(f"{path}: {error}") from error


def check_probe_sets(declared: object) -> tuple[dict[str, ProbeSet], dict[str, Average]]:
    """:func:`read_probe_sets`, given the content of the file."""
    sections = check_keys("its sections", declared, SECTIONS, ("sets",))
    blocks, means = sections["sets"], sections.get("averages", {})
    for section, entries in (("sets", blocks), ("averages", means)):
        if not isinstance(entries, dict):
            raise ProbeSetError(f"{section}: {entries!r} is not a block of entries")
        for name in entries:
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise ProbeSetError(f"{section}: {name!r} is no name: small letters, digits and _, a letter first")
    if both := set(blocks) & set(means):
        raise ProbeSetError(f"{min(both)} is both a set and an average")
    sets = {name: read_set(name, block) for name, block in blocks.items()}
    for role in ROLES:
        chosen = [name for name, probe_set in sets.items() if probe_set.role == role and probe_set.primary]
        if len(chosen) != (role in WITH_PRIMARY):
            wanted = "one set" if role in WITH_PRIMARY else "no set"
            raise ProbeSetError(f"of role {role} {wanted} is primary, not {', '.join(chosen) or 'none'}")
    return sets, {name: read_average(name, block, sets) for name, block in means.items()}


def read_text_sets(path: str | Path) -> dict[str, dict[str, str]]:
    """The text sets by name of their file, each with its dataset config on the hub and the author if a model wrote it.

    Raises:
        ProbeSetError: names, in one line, the file, the entry and what is known.
    """
    declared = read_yaml(path)
    if not isinstance(declared, dict):
        raise ProbeSetError(f"{path}: {declared!r} is not a block of entries")
    for name, block in declared.items():
        check_known(f"{path}: the kind of texts of {name}", str(name).split("_")[0], TEXT_FIELDS)
        for key, value in check_keys(f"{path}: {name}", block, ("dataset", "author"), ("dataset",)).items():
            check_value(f"{path}: {name}.{key}", value, str)
    return declared


def read_forms(path: Path) -> dict[str, Form]:
    """A kind's own forms of rows, by name: FORMS in its forms.py; empty if there is no such file.

    Raises:
        ProbeSetError: in one line, if the file cannot be run, declares no forms, or reuses the name of another form.
    """
    if not path.is_file():
        return {}
    spec = spec_from_file_location(f"atu_forms_{path.parent.name}", path)
    assert spec and spec.loader  # the file ends in .py
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ProbeSetError(f"{path} cannot be run ({type(error).__name__}: {error})") from error
    forms = getattr(module, "FORMS", None)
    if not isinstance(forms, dict) or not all(isinstance(form, Form) for form in forms.values()):
        raise ProbeSetError(f"{path} has no FORMS, a dict of Form by name")
    if taken := set(forms) & set(COMMON):
        raise ProbeSetError(f"{path}: {min(taken)} is a form of atu/data/forms.py; call it otherwise")
    return forms


COMMON = dict(FORMS)  # the forms of rows that all kinds can use
PROBE_SETS: dict[str, ProbeSet] = {}
AVERAGES: dict[str, Average] = {}
TEXT_SETS: dict[str, dict[str, str]] = {}
AUTHORS: dict[str, str] = {}  # the model that wrote a text set, by the config's name for it
IN_USE: list[str] = []  # the kind to which these declarations belong


def known_kinds() -> list[str]:
    """All kinds of benchmarks."""
    return sorted(path.parent.name for path in KINDS.glob("*/probe_sets.yaml"))


def kind_in_use() -> str:
    """The kind whose declarations are in use."""
    return IN_USE[0]


def forms_file(kind: str) -> Path | None:
    """The file of a kind's own forms; None if it has none."""
    file = KINDS / kind / "forms.py"
    return file if file.is_file() else None


def refill(table: dict[str, T], entries: dict[str, T]) -> None:
    """Replace the entries of a table in place, since modules have imported it by name."""
    table.clear()
    table.update(entries)


def read_kind(kind: str) -> None:
    """Read the declarations of a kind, and replace those that were read before.

    Raises:
        ProbeSetError: names, in one line, the file, the entry and what is known; earlier declarations then stay.
    """
    check_known("kind of benchmark", kind, known_kinds())
    folder, forms = KINDS / kind, dict(FORMS)
    found = COMMON | read_forms(folder / "forms.py")
    refill(FORMS, found)  # sets are checked against the forms
    try:
        sets, averages = read_probe_sets(folder / "probe_sets.yaml")
        texts = read_text_sets(folder / "text_sets.yaml")
    except ProbeSetError:
        refill(FORMS, forms)
        raise
    refill(PROBE_SETS, sets)
    refill(AVERAGES, averages)
    refill(TEXT_SETS, {name: {"dataset": block["dataset"]} for name, block in texts.items()})
    refill(AUTHORS, {name: block["author"] for name, block in texts.items() if "author" in block})
    IN_USE[:] = [kind]


def use_kind(kind: str) -> None:
    """Use a kind from now on, in this process and in those that it starts.

    Raises:
        ProbeSetError: as :func:`read_kind` does.
    """
    if kind != kind_in_use():
        read_kind(kind)
    os.environ[KIND] = kind


read_kind(os.environ.get(KIND) or RWKU)


def of_role(*roles: str) -> list[str]:
    """Names of the sets with these roles, in the order of the file.

    Raises:
        ProbeSetError: if a role is unknown.
    """
    for role in roles:
        check_known("role", role, ROLES)
    return [name for name, probe_set in PROBE_SETS.items() if probe_set.role in roles]


def primary(role: str) -> str:
    """Name of a role's primary set, by which settings and stages are chosen and curves are drawn.

    Raises:
        ProbeSetError: if the role has no primary set.
    """
    check_known("role", role, WITH_PRIMARY)
    return next(name for name in of_role(role) if PROBE_SETS[name].primary)


def shared_sets() -> list[str]:
    """Names of the sets whose rows all targets share."""
    return [name for name, probe_set in PROBE_SETS.items() if probe_set.shared]


def generated(*roles: str) -> list[str]:
    """Names of the sets with generated answers, of these roles or of all."""
    return [name for name in of_role(*(roles or ROLES)) if PROBE_SETS[name].ask == "generate"]


def about_people() -> list[str]:
    """Names of the sets about the target and its neighbours with generated answers."""
    return generated("forget", "neighbour")


def judged() -> list[str]:
    """Names of the sets whose answers show whether a model has collapsed.

    These are the sets about the target, its neighbours and fluency with generated answers.
    """
    return generated("forget", "neighbour", "fluency")


def recalled(*roles: str) -> list[str]:
    """Names of the sets with these roles whose scores are shares (for forget and neighbour sets: recall)."""
    return [name for name in of_role(*roles) if PROBE_SETS[name].scoring.percent]


def typed() -> list[str]:
    """Names of the sets that are broken down by type: those that declare types and whose scores are shares."""
    return [name for name in recalled(*ROLES) if PROBE_SETS[name].types]


def headings() -> dict[str, str]:
    """Headings of columns by metric: sets in the order of the file, each average after the last of its sets."""
    found = {}
    for name, probe_set in PROBE_SETS.items():
        found[name] = probe_set.heading
        for average in AVERAGES.values():
            if set(average.weights) <= set(found) and average.name not in found:
                found[average.name] = average.heading
    return found
