"""What each result depends on: the settings that made it, nested as in the config (atu/common/recipe.py checks them).

If a setting affects a result, it is in the result's recipe and in the recipes of everything made from it. If it affects
only time, memory or last digits (device, threads, deterministic), it is in no recipe but in the job's record.
"""

import hashlib
import json
import os
import random
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import cache, cached_property
from itertools import chain
from pathlib import Path

from atu import ROOT
from atu.common.declared import PLAIN, declared
from atu.common.recipe import START, differences, disagreement, record_path
from atu.data.attacks import ATTACK_TEXTS, KINDS
from atu.data.benchmark import UTILITY
from atu.data.corpora import MADE_OF, TARGET_TEXTS, joined, kinds_of
from atu.data.probe_sets import (
    AVERAGES,
    PROBE_SETS,
    RWKU,
    TEXT_SETS,
    about_people,
    forms_file,
    generated,
    judged,
    kind_in_use,
)
from atu.engine.parts import ALL_LAYERS
from atu_pipeline.demands import memory_of, optimizer_of
from atu_pipeline.people import Groups
from atu_pipeline.settings import fetched_from, kind_of, overlay, reads_retain_set, share_of, template_of, told_about

CHECKSUMS = Path(".snakemake/checksums.json")
NAME = "name"  # the text that stands for a target in the paper
UNWRITTEN = ("passage", *ATTACK_TEXTS)  # kinds of texts not written by a model
WRITTEN = ("texts", "max_new_tokens", "temperature", "top_p", "seed")  # settings that affect the model's texts
DRAWN_BY = "by a race with numbers of text, position and token"  # how tokens are drawn; another way gives other texts
JUDGED_BY = "nats a character under the base model"  # what the guard against collapse keeps of answers
NAMED = 4  # the most folders that a message names
LARGE = 2**24  # bytes; checksums of larger files are kept with their size, times and inode


class Recipe(dict):
    """Settings that print as a digest, since Snakemake compares params in their printed form."""

    @cached_property
    def digest(self) -> str:
        return checksum_of(self)

    def __repr__(self) -> str:
        return f"recipe {self.digest}"

    __str__ = __repr__

    def __reduce__(self):
        return dict, (dict(self),)  # scripts get a plain dict, since they do not know this class


def merged(*parts: dict) -> Recipe:
    """The settings of all parts, merged block by block."""
    found: dict = {}
    for part in parts:
        found = overlay(found, part)
    return Recipe(found)


def without(block: dict, *keys: str) -> dict:
    """A block without some keys."""
    return {key: value for key, value in block.items() if key not in keys}


def not_as_usual(block: dict, *keys: str) -> dict:
    """A block without those settings that are as usual: all weights train in all steps on all tokens.

    Args:
        keys: which of the settings to look at; all of them if none is named.
    """
    usual = {"layers": block["layers"] == ALL_LAYERS, "lora": not block["lora"]["rank"]}
    usual |= {key: not block.get(key) for key in ("patience", "near_mentions", "elsewhere_weight")}
    return without(block, *(key for key in keys or usual if usual[key]))


def file_checksum(path: Path, known: dict) -> str:
    """The sha256 of a file. For a large file it comes from ``known`` while size, times and inode are the same.

    The times include that of the last change of the inode, which neither a copy nor ``touch`` can set back.
    """
    status = path.stat()
    state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    kept = known.get(str(path))
    if status.st_size > LARGE and kept and kept[0] == state:
        return kept[1]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if status.st_size > LARGE:
        known[str(path)] = [state, digest]
    return digest


def files_in(folder: Path) -> Iterator[Path]:
    """All files in a folder, including those in linked folders; no folder is entered twice."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(place)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        yield from (path for path in map(Path(place).joinpath, names) if path.is_file())


@cache
def checksum(*paths: str) -> str:
    """One checksum of the names and contents of files, and of all files in folders.

    It is computed in each process, since users may change their files in place, or replace them and keep the date.
    """
    known = {}
    with suppress(OSError, ValueError):
        known = json.loads(CHECKSUMS.read_text())
    before = len(known), json.dumps(known)
    whole = hashlib.sha256()
    for root in map(Path, paths):
        files = sorted(files_in(root)) if root.is_dir() else [root]
        for path in files:
            name = path.relative_to(root).as_posix() if root.is_dir() else path.name
            digest = file_checksum(path.resolve(), known) if path.exists() else "missing"
            whole.update(f"{name}\0{digest}\n".encode())
    if (len(known), json.dumps(known)) != before:
        with suppress(OSError):  # a read-only directory: computed again next time
            CHECKSUMS.parent.mkdir(exist_ok=True)
            part = CHECKSUMS.with_name(f"{CHECKSUMS.name}.{os.getpid()}")
            part.write_text(json.dumps(known))
            part.replace(CHECKSUMS)
    return whole.hexdigest()[:16]


class Recipes:
    """The recipes of one config.

    Args:
        config: from :func:`settings.check_config`.
    """

    def __init__(self, config: dict):
        self.config = config
        self.benchmark = config["benchmark"]
        name = config["llm"]
        template = {"template_options": template_of(config["models"][name]).get("template_options")}
        self.llm = merged(self.model(name), {"models": {name: template}})
        self.encoder = self.model(config["encoder"])
        self.groups = Groups(config)

    def template(self, model: str | None = None) -> dict | None:
        """The options of a model's chat template; a model from elsewhere has the LLM's unless its block sets some."""
        blocks, llm = self.config["models"], self.config["llm"]
        own = template_of(blocks[model or llm]) or template_of(blocks[llm])
        return own.get("template_options")

    def shared(self, *keys: str) -> dict:
        """Settings at the top of the config."""
        return {key: self.config[key] for key in keys}

    def others(self, target: str, method: str, seed: str) -> list[str]:
        """The retain set: the other subjects whose texts a run reads, drawn by the run's seed."""
        forgotten = self.groups.of(target).asked
        others = [name for name in self.config["all_targets"] if name not in forgotten]
        count = self.config["method_settings"][method]["other_subjects"]
        return sorted(random.Random(f"{seed} {target}").sample(others, count))

    def stages(self, method: str) -> list[float | None]:
        """A method's stages, each with its tau or None: thresholds of ATU, epochs of trained methods, else one."""
        block = self.config["method_settings"][method]
        match kind_of(block):
            case "aligned":
                return block["unlearn"]["tau"]
            case "trained":
                return [None] * block["train"]["epochs"]
            case "applied" | "external":
                return [None]
            case kind:
                raise KeyError(f"no stages of a method of kind {kind}")

    @cache  # noqa: B019 (one object a run)
    def model(self, name: str) -> Recipe:
        """A fetched model."""
        block = self.config["models"][name]
        kept = without(fetched_from(block), "path")
        if block["source"] == "path":
            kept["contents"] = checksum(block["path"])
        return Recipe(models={name: kept})

    def raw(self, place: str, text_set: str | None = None) -> Recipe:
        """A file or folder of the benchmark, by its name there; for a benchmark on the hub, the tables that contain it.

        Args:
            text_set: for a benchmark on the hub, a set of texts that is fetched by itself; None for the probes' tables.
        """
        source = self.config["benchmarks"][self.benchmark]
        if source["source"] == "path":
            contents = {place: checksum(str(Path(source["path"], place)))}
            return Recipe(benchmarks={self.benchmark: {"contents": contents}})
        fetched = {key: source[key] for key in ("repo", "revision")}
        if text_set:
            return Recipe(benchmarks={self.benchmark: fetched}, tables={text_set: TEXT_SETS[text_set]})
        tables = {name: probe_set.dataset for name, probe_set in PROBE_SETS.items() if probe_set.dataset}
        return Recipe(benchmarks={self.benchmark: fetched}, tables={"probes": tables})

    @cache  # noqa: B019
    def primers(self) -> Recipe:
        """The few-shot primers."""
        pinned = self.config["benchmarks"][self.benchmark].get("primers")
        if pinned:
            return Recipe(benchmarks={self.benchmark: {"primers": pinned}})
        if self.config["benchmarks"][self.benchmark]["source"] == "path":
            return self.raw("Utility/primers.json")
        return Recipe()

    def kind(self) -> dict:
        """The benchmark's kind, if it is not RWKU's, and a digest of its own forms, if it has any."""
        kind = self.config["benchmarks"][self.benchmark].get("kind", RWKU)
        file = forms_file(kind)
        own = {"forms": checksum(str(file))} if file else {}
        return own if kind == RWKU else {"kind": kind} | own

    def start(self, target: str, method: str, seed: str) -> dict:
        """The run that made the starting model, if that has forgotten others before; otherwise empty."""
        before = self.groups.of(target).before
        return {START: dict(self.kept(before, method, seed))} if before else {}

    def named(self, target: str) -> dict:
        """The people whom a run forgets."""
        people = self.groups.of(target)
        return {"target": target} | ({"forgotten": list(people.forgotten)} if people.forgotten != (target,) else {})

    def subjects_of(self, target: str) -> list[str]:
        """The subjects whose probes concern one person: the person, and what all targets share."""
        shared = self.config["benchmarks"][self.benchmark]["shared_utility"]
        return [target, UTILITY] if shared else [target]

    @cache  # noqa: B019
    def counts(self) -> Recipe:
        """The comparison of the benchmark's size with the published one."""
        counted = self.config["benchmarks"][self.benchmark].get("check_totals")
        sizes = {name: checksum_of(probe_set.reading()) for name, probe_set in PROBE_SETS.items()}
        own = {"targets": checksum_of(self.config["all_targets"]), "rows": sizes}
        read_as = {"check_totals": counted} | self.kind()
        return merged(self.raw("Target"), own, {"benchmarks": {self.benchmark: read_as}})

    def split(self, subject: str) -> dict:
        """The settings by which a subject's probes are split."""
        return {"dev_share": share_of(self.config, subject), "seed": self.config["split"]["seed"]}

    @cache  # noqa: B019
    def probes(self, subject: str) -> Recipe:
        """The probes of a subject, or the shared ones."""
        counted = {"check_totals": self.config["benchmarks"][self.benchmark].get("check_totals")} | self.kind()
        read = {name: checksum_of(probe_set.reading()) for name, probe_set in PROBE_SETS.items()}
        # a dev target has its own key, since the shared probes that are read with it have another dev share
        share = share_of(self.config, subject)
        of_dev = {"dev_target": {subject: True}, "split": self.split(UTILITY)} if share == 1 else {}
        own = {"split": self.split(subject)} | of_dev | {"benchmarks": {self.benchmark: counted}, "rows": read}
        return merged(self.rows_of(subject), own)

    def rows_of(self, subject: str) -> Recipe:
        """The files of a subject's probes, or of the shared ones, without texts, since new texts change no answer."""
        place = "Utility" if subject == UTILITY else f"Target/{subject}"
        source = self.config["benchmarks"][self.benchmark]
        if source["source"] != "path":
            return self.raw(place)
        files = map(str, sorted(Path(source["path"], place).glob("*.json")))
        contents = {place: checksum(*filter(holds_probes, files))}
        return Recipe(benchmarks={self.benchmark: {"contents": contents}})

    def text_set(self, kind: str) -> str:
        """The benchmark's text set of a kind; a model's texts have the author that corpus.text_set names."""
        return kind if kind in UNWRITTEN else kind + self.config["corpus"]["text_set"].removeprefix("positive")

    @cache  # noqa: B019
    def texts(self, subject: str, kind: str = "positive") -> Recipe:
        """Texts of a kind about a subject."""
        corpus = self.config["corpus"]
        named = {"texts": {f"{subject}, {kind}": True}, "corpus": {"source": corpus["source"]}}
        if kind == "pair" and corpus["source"] == "generate":
            return merged(self.texts(subject, "negative"), self.texts(subject, "positive"), named)
        if kind in MADE_OF:
            limit = {"corpus": {"max_new_tokens": corpus["max_new_tokens"]}}
            return merged(self.texts(subject, MADE_OF[kind]), self.llm, limit, named)
        if kind in UNWRITTEN or corpus["source"] == "benchmark":
            file, place = self.text_set(kind), "Utility" if subject == UTILITY else f"Target/{subject}"
            return merged(self.raw(f"{place}/{file}.json", file), {"text_sets": {kind: file}}, named)
        intro = self.raw(f"Target/{subject}/intro.json")
        written = {"corpus": {key: corpus[key] for key in WRITTEN} | {"drawn": DRAWN_BY}}
        return merged(self.llm, intro, written, named)

    @cache  # noqa: B019
    def windows(self, subject: str, k: int, corpora: str) -> Recipe:
        """Window embeddings of a subject's texts, of the kinds that ``corpora`` joins."""
        limit = {"corpus": {"max_tokens": self.config["corpus"]["max_tokens"]}, "k": k}
        texts = [self.texts(subject, kind) for kind in kinds_of(corpora)]
        return merged(*texts, self.llm, self.encoder, limit)

    @cache  # noqa: B019
    def states(self, subject: str, k: int, corpora: str, layer: int) -> Recipe:
        """The base model's hidden states on a subject's texts."""
        return merged(self.windows(subject, k, corpora), {"layer": layer}, self.shared("precision"))

    @cache  # noqa: B019
    def target(self, target: str, described: str) -> Recipe:
        """The embedding of a target, by texts of the kinds that ``described`` joins; by its name alone, as usual."""
        read = [self.raw(f"Target/{target}/intro.json")] if "intro" in kinds_of(described) else []
        return merged(self.encoder, *read, {"target_embeddings": {target: described == NAME or described}})

    @cache  # noqa: B019
    def alignment(self, target: str, method: str, seed: str) -> Recipe:
        """The first predictor of a run."""
        block = self.config["method_settings"][method]
        own = {key: block[key] for key in ("method", "layer", "k", "other_subjects", "predictor")}
        own["align"] = without(block["align"], "steps_between")
        subjects = [*self.groups.of(target).forgotten, *self.others(target, method, seed)]
        return merged(
            *(self.states(subject, block["k"], joined(block["corpora"]), block["layer"]) for subject in subjects),
            self.start(target, method, seed),
            {"subjects": subjects, "seed": str(seed), "settings": own},
        )

    def last(self, method: str) -> int:
        """The number of a method's stages."""
        return len(self.stages(method))

    def memory(self, name: str, rule: str) -> dict:
        """How training by a method or an attack keeps weights and optimiser state, if results depend on it."""
        changed = memory_of(self.config, rule, name).changes_numbers(optimizer_of(self.config, rule, name))
        return {"memory": changed} if changed else {}

    @cache  # noqa: B019
    def stage(self, target: str, method: str, seed: str, stage: int) -> Recipe:
        """The model after a stage of a run; a trained method makes all epochs at once, under one schedule."""
        block = self.config["method_settings"][method]
        run = self.named(target) | {"seed": str(seed)} | self.start(target, method, seed)
        people, kind = self.groups.of(target).forgotten, kind_of(block)
        if kind == "aligned":
            taus = {str(n): tau for n, tau in enumerate(self.stages(method)[:stage], start=1)}
            own = {"unlearn": not_as_usual(without(block["unlearn"], "tau")) | {"tau": taus}}
            own |= self.memory(method, "unlearn")
            described = joined(block["described_by"], TARGET_TEXTS)
            parts = [self.target(name, described) for name in people]
            if stage == 1:
                parts.append(self.alignment(target, method, seed))
            else:
                parts += [self.passed_on(target, method, seed, stage - 1), self.shared("collapse"), self.guard()]
        elif kind == "trained":
            own = not_as_usual(block | {"lora": without(block["lora"], "merge")}, "layers")
            own |= self.memory(method, "train")
            parts = [*(self.texts(name, block["texts"]) for name in people), self.shared("precision")]
            if self.reads_reference(method):
                parts += [self.reference(name, block["texts"], block["max_tokens"]) for name in people]
            if self.reads_retain_set(method):
                parts += [self.texts(subject) for subject in self.others(target, method, seed)]
                parts.append(self.training_on("positive"))
            parts.append(self.training_on(block["texts"]))
        elif kind == "applied":
            own = block
            texts = [self.texts(name, block["texts"]) for name in people] if "texts" in block else []
            parts = [*texts, self.shared("precision")] if texts else []
        elif kind == "external":
            template = {"template_options": self.template(block["model"])}
            own, parts = {"method": block["method"]}, [self.model(block["model"])]
            parts.append(Recipe(models={block["model"]: template}))
        else:
            raise KeyError(f"no recipe for a method of kind {kind}")
        return merged(self.llm, *parts, run, {"settings": own})

    @cache  # noqa: B019
    def passed_on(self, target: str, method: str, seed: str, stage: int) -> Recipe:
        """What a stage before the last passes on: the model, and for Align-then-Unlearn a predictor aligned on it."""
        block = self.config["method_settings"][method]
        between = {"steps_between": block["align"]["steps_between"]} if kind_of(block) == "aligned" else None
        own = {"settings": {"align": between}} if between else {}
        return merged(self.stage(target, method, seed, stage), own)

    def training_on(self, kind: str) -> dict:
        """How texts of a kind become training examples, if there is more than one way."""
        return {"evaluation": {"protocol": self.config["evaluation"]["protocol"]}} if kind in PLAIN else {}

    def reads_retain_set(self, method: str) -> bool:
        """Whether a trained method reads texts of other subjects."""
        return reads_retain_set(self.config["method_settings"][method])

    def reads_reference(self, method: str) -> bool:
        """Whether the loss of a trained method reads log-probabilities under the base model."""
        return "reference" in declared(ROOT, self.config["method_settings"][method]["method"]).reads

    @cache  # noqa: B019
    def reference(self, target: str, kind: str, max_tokens: int) -> Recipe:
        """Log-probabilities of texts under the base model."""
        parts = [self.llm, self.texts(target, kind), self.shared("precision"), self.training_on(kind)]
        return merged(*parts, {"reference": {"max_tokens": max_tokens}})

    @cache  # noqa: B019
    def at_start(self, target: str, method: str, seed: str) -> Recipe:
        """What a run of a sequence reads from its starting model: hidden states or log-probabilities.

        Raises:
            KeyError: if the method reads neither.
        """
        block, people = self.config["method_settings"][method], self.groups.of(target).forgotten
        match kind_of(block):
            case "aligned":
                subjects = (*people, *self.others(target, method, seed))
                read = block["k"], joined(block["corpora"]), block["layer"]
                parts = [self.states(subject, *read) for subject in subjects]
            case "trained":
                parts = [self.reference(name, block["texts"], block["max_tokens"]) for name in people]
            case kind:
                raise KeyError(f"a method of kind {kind} reads nothing of the model that it starts from")
        return merged(*parts, self.start(target, method, seed))

    @cache  # noqa: B019
    def kept(self, target: str, method: str, seed: str, stage: int | None = None) -> Recipe:
        """The kept model of a run, or of a shorter one that ends with an earlier stage."""
        merge = self.config["method_settings"][method].get("lora", {}).get("merge")
        own = {"settings": {"lora": {"merge": merge}}} if merge is not None else {}
        return merged(self.stage(target, method, seed, stage or self.last(method)), own)

    def guard(self) -> dict:
        """What a stage is asked to show the next one whether it has collapsed."""
        asked = self.config["evaluation"]
        if not self.config["collapse"]["stop"] or not asked["between"]:
            return {}
        written = [name for name in asked["between"] if name in generated()]
        kept = {key: asked[key] for key in ("max_new_tokens", "protocol")} | self.alone()
        return {"guard": kept | {"sets": judged_specs(written)}}

    def alone(self) -> dict:
        """``batch_invariant`` if each prompt is read alone, so that no digit of an answer depends on other prompts."""
        return {"batch_invariant": True} if self.config["evaluation"]["batch_invariant"] else {}

    @cache  # noqa: B019
    def asking(self, when: str) -> Recipe:
        """Which probes are asked, and how."""
        asked = self.config["evaluation"]
        own = {"evaluation": {key: asked[key] for key in ("max_new_tokens", "protocol", when)} | self.alone()}
        sets = judged_specs(asked[when], asked["probability"])
        return merged(self.primers(), self.shared("precision"), own, {"probe_sets": sets})

    @cache  # noqa: B019
    def before(self, subject: str) -> Recipe:
        """The base model's answers to the probes of a subject."""
        return merged(self.llm, self.probes(subject), self.asking("before_and_after"))

    def asked_of(self, target: str, model: Recipe, when: str) -> Recipe:
        """A model's answers to all probes that concern a target."""
        return merged(model, *map(self.probes, self.subjects_of(target)), self.asking(when))

    @cache  # noqa: B019
    def between(self, target: str, method: str, seed: str, stage: int, subject: str | None = None) -> Recipe:
        """The answers after a stage before the last about ``subject``, by default the target."""
        return self.asked_of(subject or target, self.passed_on(target, method, seed, stage), "between")

    @cache  # noqa: B019
    def after(self, target: str, method: str, seed: str, subject: str | None = None) -> Recipe:
        """The kept model's answers about ``subject``, by default the target."""
        return self.asked_of(subject or target, self.kept(target, method, seed), "before_and_after")

    def attack(self, attack: str, person: str) -> Recipe:
        """What a model is asked under an attack, and what the attack reads about a person."""
        block, asked = self.config["attacks"][attack], self.config["evaluation"]
        own = {"evaluation": {key: asked[key] for key in ("max_new_tokens", "protocol")} | self.alone()}
        texts = [self.texts(*each) for each in self.attack_texts(attack, person)]
        parts = [*texts, self.probes(person), self.shared("precision"), own]
        if block["attack"] == "relearn":
            parts.append(self.memory(attack, "attack_after"))
        return merged(*parts, {"attacks": {attack: block}, "probe_sets": specs(block["ask"])})

    def attack_texts(self, attack: str, person: str) -> list[tuple[str, str]]:
        """The subject and kind of each text that an attack reads.

        Raises:
            KeyError: if the attack's kind is unknown.
        """
        block = self.config["attacks"][attack]
        match block["attack"]:
            case "relearn":
                return self.texts_of(block, person)
            case kind if kind in KINDS:
                return [(person, file)] if (file := KINDS[kind].file) else []
            case kind:
                raise KeyError(f"no texts of an attack of kind {kind}")

    def texts_of(self, block: dict, person: str) -> list[tuple[str, str]]:
        """The subject and kind of each text in a group, for one person."""
        return [(subject, block["texts"]) for subject in told_about(block, person, self.config["all_targets"])]

    def text_groups(self, person: str) -> dict[str, list[tuple[str, str]]]:
        """The texts that are scored, by group."""
        return {name: self.texts_of(block, person) for name, block in self.config["text_scores"].items()}

    def scores(self, person: str) -> Recipe:
        """The texts that are scored, and how."""
        texts = [self.texts(*each) for group in self.text_groups(person).values() for each in group]
        own = {"corpus": {"max_tokens": self.config["corpus"]["max_tokens"]}}
        own |= {"evaluation": alone} if (alone := self.alone()) else {}
        return merged(*texts, self.shared("precision", "text_scores"), own)

    @cache  # noqa: B019
    def scored(self, target: str, method: str, seed: str, person: str) -> Recipe:
        """A kept model's scores of texts, for one person."""
        return merged(self.kept(target, method, seed), self.scores(person))

    @cache  # noqa: B019
    def scored_before(self, person: str) -> Recipe:
        """The base model's scores of texts, for one person."""
        return merged(self.llm, self.scores(person))

    @cache  # noqa: B019
    def attacked(self, target: str, method: str, seed: str, attack: str, person: str) -> Recipe:
        """A kept model's answers about one person under an attack."""
        return merged(self.kept(target, method, seed), self.attack(attack, person))

    @cache  # noqa: B019
    def attacked_before(self, person: str, attack: str) -> Recipe:
        """The same of the base model."""
        return merged(self.llm, self.attack(attack, person))

    def prompts(self, person: str) -> Recipe:
        """The prompts about a person whose hidden states are read in every layer."""
        asked, protocol = self.config["layer_probe"]["ask"], self.config["evaluation"]["protocol"]
        own = {
            "evaluation": {"protocol": protocol} | self.alone(),
            "layer_probe": {"ask": asked},
            "probe_sets": specs(asked),
        }
        return merged(self.probes(person), self.primers(), self.shared("precision"), own)

    @cache  # noqa: B019
    def layers(self, target: str, method: str, seed: str, person: str) -> Recipe:
        """A kept model's hidden states on the probes of one person."""
        return merged(self.kept(target, method, seed), self.prompts(person))

    @cache  # noqa: B019
    def layers_before(self, person: str) -> Recipe:
        """The same of the base model."""
        return merged(self.llm, self.prompts(person))

    def evaluation(self, target: str, method: str, seed: str, stage: int, subject: str | None = None) -> Recipe:
        """The answers after a stage of a run about ``subject``, by default the target."""
        last = stage == self.last(method)
        asked = (target, method, seed) if last else (target, method, seed, stage)
        return (self.after if last else self.between)(*asked, subject)


def holds_probes(file: str) -> bool:
    """Whether a file in a benchmark's folder counts for its probes: every file but those of texts."""
    return Path(file).stem not in (*TEXT_SETS, *ATTACK_TEXTS)


def checksum_of(value: object) -> str:
    """A short digest of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def specs(names: Iterable[str]) -> dict[str, str]:
    """By probe set, a digest of how it is asked and scored."""
    return {name: checksum_of(PROBE_SETS[name].asking()) for name in names}


def judged_specs(names: Iterable[str], probability: bool = False) -> dict[str, str]:
    """The same for evaluations, in which the base model judges answers and, if set, probabilities are computed."""
    own = {name: checksum_of([spec, JUDGED_BY]) if name in judged() else spec for name, spec in specs(names).items()}
    known = about_people() if probability else []
    return {name: checksum_of([spec, "probability"]) if name in known else spec for name, spec in own.items()}


def declarations() -> str:
    """A digest of all declarations of probe sets and averages, by which tables show, weigh and choose."""
    return declarations_of(kind_in_use())


@cache
def declarations_of(kind: str) -> str:
    """The same for the kind in use, computed once per kind."""
    return checksum_of([asdict(declared) for declared in (*PROBE_SETS.values(), *AVERAGES.values())])


def remembered(path: str, recipe: Recipe, directory: Path) -> bool:
    """Whether Snakemake's record of a file has other settings than those in force, so that it makes the file again.

    If the record has the settings in force but the file was made by others, the record belongs to another file, and
    Snakemake would keep this one.
    """
    if (directory / "metadata.db").exists():
        return True
    if not (folder := directory / "metadata").is_dir():
        return False
    name, longest = urlsafe_b64encode(path.encode()).decode(), os.pathconf(folder, "PC_NAME_MAX") - 1
    *heads, tail = [name[i : i + longest] for i in range(0, len(name), longest)]
    try:
        known = json.loads(folder.joinpath(*(f"@{head}" for head in heads), tail).read_text(encoding="utf-8"))
        return str(recipe) not in known.get("params", [])
    except (OSError, ValueError, AttributeError):
        return False


def stale(evaluations: Iterable[dict[str, Recipe]], directory: Path = Path(".snakemake")) -> str | None:
    """A message about files that are copies or have other settings, and that Snakemake keeps for lack of a record.

    Snakemake compares settings with its own records. If these are lost, or the results came without them, it only has
    the times of files.

    Args:
        evaluations: files with their recipes.

    Returns:
        None if there are no such files.
    """
    found, mends = [], {}
    for path, recipe in {path: recipe for files in evaluations for path, recipe in files.items()}.items():
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # the job reports a damaged record
            record = json.loads(record_path(path).read_text(encoding="utf-8"))
            made, output = record["recipe"], record["output"]
            if made and (made != recipe or output != path) and not remembered(path, recipe, directory):
                found.append((path, output, made, recipe))
                mends[path if path.endswith("/known.csv") else str(Path(path).parent)] = None  # not a whole benchmark
    if not found:
        return None
    path, output, made, recipe = found[0]
    if output == path:
        added = ((key, then, now) for key, now, then in differences(recipe, made))
        said = disagreement(path, *next(chain(differences(made, recipe), added)))
    else:
        said = f"{path} is a copy of {output}"
    others = f" (and so it is with {len(found) - 1} more)" if len(found) > 1 else ""
    first, more = list(mends)[:NAMED], len(mends) - NAMED
    return (
        f"{said}{others}; Snakemake's own records in .snakemake do not tell: delete "
        f"{' '.join(first)}{f' and {more} more' if more > 0 else ''} to have it made again, or restore the setting"
    )
