"""Published numbers, read from a file and checked row by row."""

import csv
import math
from pathlib import Path
from typing import Any

from atu.common.errors import ExplainedError
from atu.data.probe_sets import AVERAGES, KINDS, PROBE_SETS, known_kinds, read_yaml

FIELDS = ("model", "method", "metric", "value", "source")


class PublishedError(ExplainedError, ValueError):
    """The file of published numbers does not have the required form."""


def known_metrics() -> list[str]:
    """Names of sets and averages of all kinds of benchmarks, the kind in use first; numbers may be for any of them."""
    names = [*PROBE_SETS, *AVERAGES]
    for kind in known_kinds():
        declared = read_yaml(KINDS / kind / "probe_sets.yaml")
        sections = [declared.get(key) for key in ("sets", "averages")] if isinstance(declared, dict) else []
        names += [str(name) for section in sections if isinstance(section, dict) for name in section]
    return list(dict.fromkeys(names))


def read_published(path: str | Path) -> list[dict]:
    """Published numbers, one per row: model, method, metric, value (a number) and source; further fields are kept.

    Raises:
        PublishedError: names file, line and fault: a row that is cut, an empty field, an unknown metric, a value that
            is not a finite number, or a repeated number.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            (_, header), *lines = [(reader.line_num, line) for line in reader if line]
    except (OSError, ValueError, csv.Error) as error:
        raise PublishedError(f"{path} is no CSV file with a line of names ({error})") from error
    if missing := [name for name in FIELDS if name not in header]:
        raise PublishedError(f"{path}: lacks the column {missing[0]} (it must have {', '.join(FIELDS)})")
    rows: list[dict] = []
    known = [*PROBE_SETS, *AVERAGES]
    first: dict[tuple[str, ...], int] = {}
    for number, line in lines:
        where = f"{path}, line {number}"
        if len(line) != len(header):
            raise PublishedError(f"{where}: {len(line)} fields of {len(header)}; it is cut, or a comma lacks quotes")
        row: dict[str, Any] = dict(zip(header, map(str.strip, line), strict=True))
        if empty := [name for name in FIELDS if not row[name]]:
            raise PublishedError(f"{where}: {empty[0]} is empty")
        if row["metric"] not in known and row["metric"] not in (known := known_metrics()):
            raise PublishedError(f"{where}: unknown metric {row['metric']!r} (known: {', '.join(known)})")
        try:
            row["value"] = float(row["value"])
        except ValueError:
            raise PublishedError(f"{where}: the value {row['value']!r} is no number") from None
        if not math.isfinite(row["value"]):
            raise PublishedError(f"{where}: the value {row['value']} is not finite")
        key = tuple(row[name] for name in ("model", "method", "metric"))
        if key in first:
            raise PublishedError(f"{where}: {', '.join(key)} stands there twice, first in line {first[key]}; keep one")
        first[key] = number
        rows.append(row)
    return rows
