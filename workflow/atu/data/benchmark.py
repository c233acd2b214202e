"""Benchmarks in RWKU's schema: raw rows become one typed table of probes per subject."""

import hashlib
import json
import re
import unicodedata
from collections import defaultdict
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from atu.data.attacks import ATTACK_TEXTS
from atu.data.forms import FORMS
from atu.data.probe_sets import PROBE_SETS, TEXT_SETS, of_role, shared_sets
from atu.data.rows import (
    BenchmarkError,
    check_form,
    check_subject,
    check_text,
    check_text_row,
    read_list,
    row_of,
)

if TYPE_CHECKING:  # slow to import, and planning makes no tables
    import pandas as pd

UTILITY = "utility"  # the subject of sets that all targets share
DEV, TEST = "dev", "test"  # settings are chosen on dev probes; test probes are only reported
OF_DEV_TARGET = "dev target"  # the split of a dev target's probes, which are used for both; tables mark its numbers
COLUMNS = ["set", "id", "split", "type", "neighbor", "query", "context", "answers", "choices", "mc1", "mc2"]
COLUMNS += ["answer_is_text"]  # whether the row's answer was one text, where others have lists


def known_primers() -> list[str]:
    """Names of the few-shot texts in the prompts of all sets."""
    return sorted({name for probe_set in PROBE_SETS.values() for name in probe_set.primers})


def target_name(target: str) -> str:
    """ "1_Stephen_King" -> "Stephen King"; accents are composed, whatever form a file system uses."""
    return unicodedata.normalize("NFC", re.sub(r"^\d+_", "", target).replace("_", " "))


def list_targets(folder: str | Path) -> list[str]:
    """Ids (rank_Name) of the targets of a benchmark with one folder per target, sorted by rank."""
    names = [path.name for path in (Path(folder) / "Target").iterdir() if re.match(r"\d+_.", path.name)]
    return sorted(names, key=lambda name: (int(name.split("_")[0]), name))


def file_of(folder: str | Path, target: str | None, file: str) -> Path:
    """The path of a file with a target's rows, or with shared rows if ``target`` is None."""
    return Path(folder) / ("Utility" if target is None else f"Target/{target}") / f"{file}.json"


def check_spelling(folder: str | Path, target: str | None) -> None:
    """Refuse a file that nothing reads if its name resembles that of a missing file.

    Raises:
        BenchmarkError: names the file and the name that may have been meant.
    """
    place = file_of(folder, target, "").parent
    if not place.is_dir():  # reading its files reports this
        return
    held = {path.name for path in place.iterdir() if not path.name.startswith(".")}
    read = {
        f"{name}.json"
        for name in [*(probe_set.file for probe_set in PROBE_SETS.values()), *TEXT_SETS, *ATTACK_TEXTS, "primers"]
    }
    for name in sorted(held - read):
        lacking = sorted(read - held)
        if found := get_close_matches(name.casefold(), lacking, n=1, cutoff=0.85):
            raise BenchmarkError(
                f"{place / name} is read by nothing; if {found[0]} is meant, rename it, else remove it"
            )


def read_rows(folder: str | Path, target: str | None, file: str) -> list[dict] | None:
    """Rows of one JSON file of a target, or of the shared sets if ``target`` is None; None if there is no file.

    Raises:
        BenchmarkError: if the file is not a JSON list of objects.
    """
    return read_list(file_of(folder, target, file))


def read_texts(folder: str | Path, target: str | None, text_set: str) -> list[dict]:
    """Texts about a target, or shared texts if ``target`` is None; empty if there is no file.

    Each text has the fields that its kind must have.

    Raises:
        BenchmarkError: names file, row and fault.
    """
    check_spelling(folder, target)
    path = file_of(folder, target, text_set)
    rows = read_list(path) or []
    for number, row in enumerate(rows, start=1):
        with row_of(path, number):
            check_text_row(row, text_set.split("_")[0], target_name(target) if target else "")
    return rows


def read_intro(folder: str | Path, target: str) -> str:
    """The sentence that introduces a target to the model when it writes texts.

    Raises:
        BenchmarkError: if there is no such sentence, or more than one.
    """
    rows = read_texts(folder, target, "intro")
    if len(rows) != 1:
        path = file_of(folder, target, "intro")
        raise BenchmarkError(f"{path} must hold one row with field 'intro', a sentence; it has {len(rows) or 'none'}")
    return rows[0]["intro"]


def normalize_row(name: str, row: dict) -> dict:
    """One raw row of probe set ``name`` as typed fields: all of COLUMNS except id and split.

    Raises:
        KeyError: if a field is missing.
        BenchmarkError: says which field is wrong, and why.
    """
    probe_set = PROBE_SETS[name]
    lists: dict[str, list] = {"answers": [], "choices": [], "mc1": [], "mc2": []}
    blank = dict.fromkeys(COLUMNS, "") | lists | {"set": name, "answer_is_text": False}
    return blank | FORMS[probe_set.rows].probe(row, probe_set)


def assign_splits(probes: list[dict], dev_share: float, seed: int) -> None:
    """Mark a share of the probes of each set, and of each type that a set declares, as dev, the rest as test, in place.

    A ``dev_share`` of 1 marks all probes as those of a dev target. The choice depends on the seed and the texts of the
    probes, not on the order of rows.

    Raises:
        BenchmarkError: if a set has no test probe left.
    """
    if dev_share == 1:
        for probe in probes:
            probe["split"] = OF_DEV_TARGET
        return
    groups = defaultdict(list)
    for probe in probes:
        groups[probe["set"], probe["type"] if PROBE_SETS[probe["set"]].types else ""].append(probe)
    for group in groups.values():
        group.sort(key=lambda probe: hashlib.sha256(f"{seed} {probe['query']}".encode()).hexdigest())
        dev = round(dev_share * len(group))
        for rank, probe in enumerate(group):
            probe["split"] = DEV if rank < dev else TEST
    for name in dict.fromkeys(probe["set"] for probe in probes):
        splits = [probe["split"] for probe in probes if probe["set"] == name]
        if TEST not in splits:
            raise BenchmarkError(
                f"{name} has no test probe: with split.dev_share {dev_share:g} all of its {len(splits)} are dev "
                f"probes; lower split.dev_share, or give {PROBE_SETS[name].file}.json more rows"
            )


def of_dev(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows on which settings may be chosen, by the column split."""
    return rows[rows["split"] != TEST]


def of_test(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows that tables and figures report, by the column split."""
    return rows[rows["split"] != DEV]


def build_probes(
    folder: str | Path, target: str | None, dev_share: float, seed: int
) -> tuple["pd.DataFrame", list[str]]:
    """The typed table of all probes of a target, or of the shared sets if ``target`` is None.

    Returns:
        The table (columns COLUMNS), and the sets for which there is no file.

    Raises:
        BenchmarkError: names file, row and fault; also if a target has no forget probes, a set would be asked twice, or
            the name of a file is misspelt.
    """
    import pandas as pd

    check_spelling(folder, target)
    probes, missing = [], []
    common = shared_sets()
    for name in common if target is None else PROBE_SETS:
        path = file_of(folder, target, PROBE_SETS[name].file)
        rows = read_list(path)
        if rows is None:
            missing.append(name)
            continue
        if not rows:
            raise BenchmarkError(f"{path} has no rows; give it some, or remove it")
        shared = file_of(folder, None, PROBE_SETS[name].file)
        if target is not None and name in common and shared.exists():
            raise BenchmarkError(f"{name} would be asked twice, from {shared} and {path}; remove one of the two")
        for number, row in enumerate(rows):
            with row_of(path, number + 1):
                if target is not None:
                    check_subject(row, target_name(target))
                probes.append(normalize_row(name, row) | {"id": f"{name}/{number}"})
    about = of_role("forget")
    if target is not None and not any(probe["set"] in about for probe in probes):
        *others, last = dict.fromkeys(f"{PROBE_SETS[name].file}.json" for name in about)
        files = f"{', '.join(others)} or {last}" if others else last
        raise BenchmarkError(
            f"target {target} has no forget probes in {folder}: nothing could be measured; give it a {files}, or leave "
            "it out of targets"
        )
    assign_splits(probes, dev_share, seed)
    return pd.DataFrame(probes, columns=COLUMNS), missing


def count_probes(folder: str | Path, targets: list[str]) -> "pd.DataFrame":
    """The number of rows of each probe set over all targets, beside the published number (if the set declares a total).

    Returns:
        Columns set, probes, published, difference.
    """
    import pandas as pd

    rows = []
    for name, probe_set in PROBE_SETS.items():
        probes = sum(len(read_rows(folder, target, probe_set.file) or []) for target in targets)
        published = probe_set.total
        difference = None if published is None else probes - published
        rows.append({"set": name, "probes": probes, "published": published, "difference": difference})
    return pd.DataFrame(rows).astype({"published": "Int64", "difference": "Int64"})


def difference_from_published(counts: "pd.DataFrame") -> str:
    """The differences from the published counts in :func:`count_probes`, in words; empty if there are none."""
    wrong = counts[counts["difference"].fillna(0) != 0]
    return "; ".join(
        f"{row.set} has {row.probes:,} probes, {row.published:,} are published ({row.difference:+,})"
        for row in wrong.itertuples()
    )


def read_primers(path: str | Path | None) -> dict[str, str]:
    """Few-shot primers by name, from their JSON file; empty if there is no file.

    Raises:
        BenchmarkError: if the file is not an object of texts by name.
    """
    if not path:
        return {}
    try:
        primers = json.loads(Path(path).read_text(encoding="utf-8"))
        check_form(primers)
        for name in primers:
            check_text(primers, name)
            if name not in (known := known_primers()):
                raise BenchmarkError(f"unknown primer {name!r} (known: {', '.join(known)})")
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read ({error.strerror}); restore the file") from error
    except BenchmarkError as error:
        raise BenchmarkError(f"{path}: {error}") from error
    except ValueError as error:
        raise BenchmarkError(f"{path} is not valid JSON ({error}); restore the file") from error
    return primers
