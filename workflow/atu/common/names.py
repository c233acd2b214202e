"""Names of methods and their stages in tables and figures."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache

from atu import ROOT
from atu.common.declared import UnreadableError, declared, method_files

STAR = "_star"  # on original passages, as RWKU writes GA*


def display_name(method: str) -> str:
    """The name of a method as papers write it: RepE for repe, GA* for ga_star, ATU-layer10 for variant atu-layer10."""
    head = re.split(r"[-@]", method)[0]
    stem = head.removesuffix(STAR)
    if not (name := declared_name(stem)):
        return head.upper() + method[len(head) :]
    return name + "*" * (stem != head) + method[len(head) :]


@cache
def declared_name(method: str) -> str:
    """A method's name in its file, or else the file's name in capitals; empty if there is no such file."""
    if method not in method_files(ROOT):
        return ""
    with suppress(UnreadableError):  # the config check reports this
        return declared(ROOT, method).name or method.upper()
    return method.upper()


def in_words(names: Iterable[str]) -> str:
    """Names joined for a sentence: "Ada, Bob and Cleo"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def written_out(settings: Mapping[str, object]) -> str:
    """Settings by dotted keys, as one line: "options.beta: 0.1, train.learning_rate: 1e-05"."""
    return ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items())


def tau_name(stage: int, taus: Mapping[int, float | None]) -> str | None:
    """The tau of a stage, with the stage's number if several stages have the same tau.

    Args:
        taus: the tau of each shown stage of the method; None, NaN or infinite if it has none.

    Returns:
        The tau as text; None if the stage has no tau.
    """
    given = {number: tau + 0.0 for number, tau in taus.items() if tau is not None}  # -0 is 0
    written = {number: f"{tau:g}" for number, tau in given.items() if math.isfinite(tau)}
    if stage not in written:
        return None
    again = list(written.values()).count(written[stage]) > 1
    return written[stage] + (f" (stage {stage})" if again else "")


def label(method: str, stage: int, taus: Mapping[int, float | None]) -> str:
    """The name of a row: ATU's stages have their tau, those of trained methods their epoch, others only the method.

    Args:
        taus: as for :func:`tau_name`.
    """
    if stage == 0:
        return "Before"
    name = display_name(method)
    if tau := tau_name(stage, taus):
        return f"{name} τ={tau}"
    return f"{name} epoch {stage}" if max(taus) > 1 else name


def name_runs(runs: list[dict]) -> None:
    """Add the name of its row to each run, as ``run``, in place; no two stages of a method have the same name.

    Args:
        runs: rows with method, stage and tau, for all stages that any table shows, so that all tables use the same
            names.
    """
    taus: dict[str, dict[int, float | None]] = {}
    for run in runs:
        if run["stage"] > 0:
            taus.setdefault(run["method"], {})[run["stage"]] = run["tau"]
    for run in runs:
        run["run"] = label(run["method"], run["stage"], taus.get(run["method"], {}))
