"""Messages about a wrong config: one line per fault, which names the key, what is allowed, and how to fix it."""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Literal

from pydantic_core import ErrorDetails, PydanticCustomError


class ConfigError(SystemExit):
    """The config is wrong; the message has a line for each fault: where it is and what is allowed.

    It ends Snakemake with only these lines, wherever it is raised. Snakemake adds its own words and a traceback to
    every ``Exception`` in a Snakefile or an input function, but a SystemExit is not an ``Exception``.
    """

    def __init__(self, message: str):
        super().__init__(message)
        lines = message.splitlines() or [""]
        self.code = "\n".join(f"config: {line}" for line in lines)  # Python prints this and exits with status 1


def refuse(faults: Iterable[str]) -> None:
    """Raise a ConfigError with all faults, each once, if there are any."""
    if lines := list(dict.fromkeys(faults)):
        raise ConfigError("\n".join(lines))


def told(check: Iterable[str]) -> Iterator[str]:
    """The faults that a check yields, and those that it raises when it cannot continue."""
    try:
        yield from check
    except ConfigError as fault:
        yield from str(fault).splitlines()


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a message, with a known name that may have been meant; empty if none is similar. Case is ignored.

    Args:
        cutoff: the least similarity, from 0 to 1, as difflib measures it.
    """
    folded = {other.casefold(): other for other in known}
    found = get_close_matches(name.casefold(), folded, n=1, cutoff=cutoff)
    return f"; did you mean {folded[found[0]]}?" if found else ""


def unknown_name(value: str, known: list[str]) -> str:
    """A message about a name that does not exist, without its key."""
    hint = did_you_mean(value, known, cutoff=0.5)
    return f"unknown {value!r}{hint} (known: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''})"


def unknown(key: str, value: str, known: list[str]) -> str:
    """One line about a key's name that does not exist."""
    return f"{key}: {unknown_name(value, known)}"


def misfit(said: str, kind: Literal["misfit", "kind"] = "misfit") -> PydanticCustomError:
    """A fault that our own validators report to pydantic, with the words that follow the key in the message.

    Args:
        kind: "kind" if the value has another kind altogether.
    """
    return PydanticCustomError(kind, said)


NOUNS = {
    "int_type": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a block of settings",
    "model_type": "a block of settings",
}
LIMITS = {
    "greater_than_equal": "is less than the minimum of {ge}",
    "less_than_equal": "is greater than the maximum of {le}",
    "greater_than": "is not above {gt}",
    "less_than": "is not below {lt}",
}


def describe(fault: ErrorDetails) -> str:
    """One line about a fault that pydantic found."""
    place = fault["loc"][:-2] if fault["loc"][-1:] == ("[key]",) else fault["loc"]
    return f"{'.'.join(map(str, place)) or 'config'}: {describe_value(fault)}"


def describe_value(fault: ErrorDetails) -> str:
    """What is wrong with a value; it follows the key that :func:`describe` names."""
    kind, value, details = fault["type"], fault["input"], fault.get("ctx", {})
    match kind:
        case "misfit" | "kind":
            return fault["msg"]
        case "missing":
            new = fault["loc"][0] == "experiments"  # a block without the usual keys may have a misspelt name
            return "is missing" + ("; is the experiment's name spelt as in the config?" if new else "")
        case "literal_error":
            known = re.findall(r"'([^']*)'|(\d+)", details["expected"])  # texts, or numbers
            known = [text or number for text, number in known]
            return f"{value!r} is not one of {', '.join(known)}{did_you_mean(str(value), known)}"
        case "string_pattern_mismatch":
            return f"{value!r} does not match {details['pattern']}{rename(fault)}"
        case "too_short" | "string_too_short":
            return "is empty; name one at least"
        case _ if kind in NOUNS:
            return f"{value!r} is not {NOUNS[kind]}"
        case _ if kind in LIMITS:
            return f"{value!r} {LIMITS[kind].format(**details)}"
    return f"{value!r}: {fault['msg']}"


def rename(fault: ErrorDetails) -> str:
    """A better name for a block whose name cannot be part of file names; empty if the fault is in a value."""
    if fault["loc"][-1] != "[key]":
        return ""
    short = re.sub(r"[^A-Za-z0-9._+-]+", "-", fault["input"].split("/")[-1]).strip("-.")
    fits = re.fullmatch(fault["ctx"]["pattern"], short)
    return ", as it names files; " + (f"call it {short}" if fits else "choose another name")
