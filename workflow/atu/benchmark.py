"""Benchmarks in RWKU's schema: from raw rows to one typed table of probes a subject."""

import hashlib
import json
import re
from collections import defaultdict
from pathlib import Path

import pandas as pd
import yaml

from atu.runtime import ExplainedError

DATA = Path(__file__).parents[1] / "benchmarks"
PROBE_SETS: dict[str, dict] = yaml.safe_load((DATA / "probe_sets.yaml").read_text(encoding="utf-8"))
TEXT_SETS: dict[str, dict] = yaml.safe_load((DATA / "text_sets.yaml").read_text(encoding="utf-8"))
UTILITY = "utility"  # the subject of sets that all targets share
SHARED_SETS = ("mia_rm", "utility_gen", "utility_rea", "utility_tru", "utility_fac", "utility_flu")
COLUMNS = ["set", "id", "split", "type", "neighbor", "query", "context", "answers", "choices", "mc1", "mc2"]
CHOICES = "ABCD"

# The nine attack types of forget_aa, and how RWKU's rows spell them.
ATTACK_TYPES = {
    "prefix injection": ["prefix injection"],
    "affirmative suffix": ["affirmative suffix"],
    "role playing": ["role playing", "role play"],
    "multiple choice": ["multiple choice"],
    "reverse query": ["reverse query"],
    "synonym manipulation": ["synonym manipulation"],
    "background hint": ["background hint", "context hint"],
    "in-context learning": ["in-context learning", "incontext learning"],
    "cross-lingual": ["cross-lingual", "cross lingual", "cross lingal"],
}
ATTACK_SPELLINGS = {spelling: name for name, spellings in ATTACK_TYPES.items() for spelling in spellings}

# What a raw row must have, by the metric of its set; more fields may be there.
REQUIRED = {
    "rouge_l_recall": {"query": str, "answer": str, "type": str, "level": (str, int)},
    "membership": {"text": str},
    "accuracy": {"task": str, "question": str, "choices": list, "answer": int, "examples": list},
    "reasoning_exact_match": {"task": str, "cot": str, "question": str, "answer": (str, list)},
    "truthfulness": {"question": str, "mc1_targets": dict, "mc2_targets": dict},
    "factuality": {"question": str, "answers": list},
    "fluency": {"instruction": str},
}


class BenchmarkError(ExplainedError, ValueError):
    """A benchmark's data does not have the form it must have."""


def target_name(target: str) -> str:
    """ "1_Stephen_King" -> "Stephen King"."""
    return re.sub(r"^\d+_", "", target).replace("_", " ")


def list_targets(folder: str | Path) -> list[str]:
    """Ids (rank_Name) of the targets of a benchmark in the folder-per-target form, by rank."""
    names = [path.name for path in (Path(folder) / "Target").iterdir() if re.match(r"\d+_.", path.name)]
    return sorted(names, key=lambda name: (int(name.split("_")[0]), name))


def read_rows(folder: str | Path, target: str | None, file: str) -> list[dict] | None:
    """Rows of one JSON file: of a target, or with ``target`` None of the shared sets.

    Raises:
        BenchmarkError: if the file is no JSON list.
    """
    path = Path(folder) / ("Utility" if target is None else f"Target/{target}") / f"{file}.json"
    if not path.exists():
        return None
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BenchmarkError(f"{path} is not valid JSON ({error}); restore the file") from error
    if not isinstance(rows, list):
        raise BenchmarkError(f"{path} must hold a JSON list of rows, not {type(rows).__name__}")
    return rows


def multiple_choice(row: dict, solved: bool) -> str:
    lines = [f"Question: {row['question']}"]
    lines += [f"{letter}. {choice}" for letter, choice in zip(CHOICES, row["choices"], strict=True)]
    return "\n".join(lines) + (f"\nAnswer: {CHOICES[row['answer']]}\n\n" if solved else "")


def normalize_row(name: str, row: dict) -> dict:
    """One raw row of probe set ``name`` as typed fields.

    Raises:
        KeyError: if a field is missing.
        BenchmarkError: if the attack type is unknown.
    """
    spec = PROBE_SETS[name]
    probe = dict.fromkeys(COLUMNS, "") | {"set": name, "answers": [], "choices": [], "mc1": [], "mc2": []}
    for field, kind in REQUIRED[spec["metric"]].items():
        if not isinstance(row[field], kind):
            expected = " or ".join(cls.__name__ for cls in (kind if isinstance(kind, tuple) else (kind,)))
            raise BenchmarkError(f"field {field!r} is {row[field]!r}, not of type {expected}")
    if spec["metric"] == "rouge_l_recall":
        if "level" in spec and str(row["level"]) != spec["level"]:
            raise BenchmarkError(f"level is {row['level']!r}, not {spec['level']}: the row is of another probe set")
        kind = row["type"].strip().lower()
        if name == "forget_aa" and kind not in ATTACK_SPELLINGS:
            raise BenchmarkError(f"unknown attack type {row['type']!r}; known: {', '.join(ATTACK_TYPES)}")
        if not row["answer"].strip():
            raise BenchmarkError("the answer is empty: nothing could be recalled")
        probe |= {"query": row["query"], "answers": [row["answer"]], "neighbor": row.get("neighbor", "")}
        probe["type"] = ATTACK_SPELLINGS.get(kind, kind) if name == "forget_aa" else kind
    elif spec["ask"] == "text":
        probe["query"] = row["text"]
    elif name == "utility_gen":
        topic = row["task"].replace("_", " ")
        context = f"The following are multiple choice questions (with answers) about {topic}.\n\n"
        context += "".join(multiple_choice(example, solved=True) for example in row["examples"])
        probe |= {"type": row["task"], "context": context, "query": multiple_choice(row, solved=False)}
        probe |= {"answers": [CHOICES[row["answer"]]], "choices": list(row["choices"])}
    elif name == "utility_rea":
        answers = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
        probe |= {"type": row["task"], "context": row["cot"].strip(), "query": row["question"], "answers": answers}
    elif name == "utility_tru":
        labels = {
            key: dict(zip(row[f"{key}_targets"]["choices"], row[f"{key}_targets"]["labels"], strict=True))
            for key in ("mc1", "mc2")
        }
        choices = list(labels["mc2"] | labels["mc1"])
        probe |= {"query": row["question"], "choices": choices}
        probe |= {key: [labels[key].get(choice, -1) for choice in choices] for key in labels}
    elif name == "utility_fac":
        probe |= {"query": row["question"], "answers": list(row["answers"])}
    elif name == "utility_flu":
        probe["query"] = row["instruction"]
    return probe


def assign_splits(probes: list[dict], dev_share: float, seed: int) -> None:
    """Mark ``dev_share`` of the probes of each set and type as dev, the rest as test; in place.

    Which ones depends on the seed and the texts of the probes, not on the order of rows.
    """
    groups = defaultdict(list)
    for probe in probes:
        groups[probe["set"], probe["type"] if probe["set"] == "forget_aa" else ""].append(probe)
    for group in groups.values():
        group.sort(key=lambda probe: hashlib.sha256(f"{seed} {probe['query']}".encode()).hexdigest())
        dev = round(dev_share * len(group))
        for rank, probe in enumerate(group):
            probe["split"] = "dev" if rank < dev else "test"


def build_probes(folder: str | Path, target: str | None, dev_share: float, seed: int) -> tuple[pd.DataFrame, list[str]]:
    """Typed table of all probes of a target, or with ``target`` None of the shared sets.

    Returns:
        The table (columns COLUMNS), and the sets for which there is no file.

    Raises:
        BenchmarkError: naming file, row and fault; also if a target has no forget probes.
    """
    probes, missing = [], []
    names = SHARED_SETS if target is None else PROBE_SETS
    for name in names:
        rows = read_rows(folder, target, PROBE_SETS[name]["file"])
        if rows is None:
            missing.append(name)
            continue
        for number, row in enumerate(rows):
            try:
                probe = normalize_row(name, row)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                problem = f"lacks field {error}" if isinstance(error, KeyError) else str(error)
                where = f"{target or 'Utility'}/{PROBE_SETS[name]['file']}.json, row {number + 1}"
                raise BenchmarkError(f"{where}: {problem}") from error
            probes.append(probe | {"id": f"{name}/{number}"})
    if target is not None and not any(probe["set"].startswith("forget_") for probe in probes):
        raise BenchmarkError(
            f"target {target} has no forget probes in {folder}: nothing could be measured; give it a "
            "forget_level1.json, forget_level2.json or forget_level3.json, or leave it out of targets"
        )
    assign_splits(probes, dev_share, seed)
    return pd.DataFrame(probes, columns=COLUMNS), missing


def count_probes(folder: str | Path, targets: list[str]) -> pd.DataFrame:
    """Rows of each probe set over all targets beside the published count (none for utility sets).

    Returns:
        Columns set, probes, published, difference.
    """
    rows = []
    for name, spec in PROBE_SETS.items():
        probes = sum(len(read_rows(folder, target, spec["file"]) or []) for target in targets)
        published = spec.get("total")
        difference = None if published is None else probes - published
        rows.append({"set": name, "probes": probes, "published": published, "difference": difference})
    return pd.DataFrame(rows).astype({"published": "Int64", "difference": "Int64"})


def difference_from_published(counts: pd.DataFrame) -> str:
    """What of :func:`count_probes` differs from the published counts, in words; empty if nothing does."""
    wrong = counts[counts["difference"].fillna(0) != 0]
    return "; ".join(
        f"{row.set} has {row.probes:,} probes, {row.published:,} are published ({row.difference:+,})"
        for row in wrong.itertuples()
    )


def read_primers(path: str | Path | None) -> dict[str, str]:
    """Few-shot primers by name from their JSON file; none without one."""
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
