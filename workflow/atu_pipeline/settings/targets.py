"""What ``targets`` may name: ids, names, ranks, ranges of ranks, groups, or ``all``."""

import re
from collections.abc import Iterable, Iterator

from atu.data.benchmark import target_name
from atu.data.rows import folded
from atu_pipeline.settings.messages import ConfigError, refuse, told, unknown

SPAN = re.compile(r"([0-9]+)(?:-([0-9]+))?")


def rank(target: str) -> int:
    """1 for "1_Stephen_King"."""
    return int(target.split("_")[0])


def spans(ranks: Iterable[int]) -> str:
    """Numbers as text with ranges, such as "1-3, 5"."""
    parts: list[list[int]] = []
    for number in sorted(set(ranks)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    said = [str(first) if first == last else f"{first}-{last}" for first, last in parts]
    return ", ".join(said[:12]) + (", ..." if len(said) > 12 else "")


def named_targets(key: str, name: str, known: list[str]) -> list[str]:
    """The target with an id or name, whatever its case and spelling; an empty list if there is none.

    Raises:
        ConfigError: if two targets have this name.
    """
    if name in known:
        return [name]
    found = [target for target in known if folded(name) in (folded(target), folded(target_name(target)))]
    if len(found) > 1:
        raise ConfigError(f"{key}: {name!r} is the name of {' and of '.join(found)}; write the id")
    return found


def misread(key: str, name: str, known: list[str]) -> str | None:
    """The fault of a name that YAML has cut at its commas or read as a number; None for other names."""
    start = folded(f"{name},")
    if cut := [target for target in known for text in (target, target_name(target)) if folded(text).startswith(start)]:
        return f'{key}: {name!r} is a name cut at its comma; write it in quotes: ["{cut[0]}"]'
    if number := [target for target in known if name.isdecimal() and target.replace("_", "") == name]:
        return f'{key}: {name} is no rank; if {number[0]} is meant, write ["{number[0]}"]: YAML takes it for a number'
    return None


def split_names(key: str, text: str, known: list[str]) -> list[str]:
    """The names in a comma-separated text. Names may contain commas, so each is the longest known one."""
    parts, names = text.split(","), []
    while parts:
        ends = [end for end in range(len(parts), 1, -1) if named_targets(key, ",".join(parts[:end]).strip(), known)]
        end = ends[0] if ends else 1
        names.append(",".join(parts[:end]).strip())
        parts = parts[end:]
    return names


def resolve_targets(key: str, names: list[str], known: list[str], groups: dict[str, list[str]]) -> list[str]:
    """The ids of some targets, each once.

    Args:
        names: each an id, a name, a rank, a range of ranks ("1-100"), a group or ``all``, or several of these in one
            text separated by commas, as on a command line.

    Raises:
        ConfigError: names everything that is unknown or ambiguous.
    """
    found: dict[str, None] = {}

    def look_up() -> Iterator[str]:
        for name in names:
            try:
                found.update(dict.fromkeys(targets_of(key, name, known, groups)))
            except ConfigError as fault:
                yield from str(fault).splitlines()

    refuse(look_up())
    return list(found)


def targets_of(key: str, name: str, known: list[str], groups: dict[str, list[str]]) -> list[str]:
    """The ids to which one entry refers.

    Raises:
        ConfigError: if it is unknown or ambiguous.
    """
    if name == "all":
        return known
    if name in groups:
        return resolve_targets(f"groups.{name}", groups[name], known, {})
    named = named_targets(key, name, known)
    if SPAN.fullmatch(name):
        return of_ranks(key, name, known, named)
    if not named and "," in name:
        return resolve_targets(key, split_names(key, name, known), known, groups)
    if not named:
        raise ConfigError(misread(key, name, known) or unknown(key, name, [*known, *groups]))
    return named


def of_ranks(key: str, name: str, known: list[str], named: list[str]) -> list[str]:
    """The targets with a rank or in a range of ranks.

    Args:
        named: the targets whose name is this number.

    Raises:
        ConfigError: if there is no such rank, if two targets have the same rank, or if the number is also another's
            name.
    """
    first, last = SPAN.fullmatch(name).groups()
    ranks = range(int(first), int(last or first) + 1)
    ranked = [target for target in known if rank(target) in ranks]
    if named and ranked and named != ranked:
        raise ConfigError(f"{key}: {name} is the name of {named[0]} and the rank of {ranked[0]}; write the id")
    if named:
        return named
    if not ranks:
        raise ConfigError(f"{key}: {name} is empty; write {last}-{first}")
    found = [rank(target) for target in ranked]
    if len(set(found)) != len(ranks):
        has = spans(map(rank, known))
        raise ConfigError(misread(key, name, known) or f"{key}: {name} names ranks that do not exist (known: {has})")
    if twice := [target for target in ranked if found.count(rank(target)) > 1]:
        raise ConfigError(f"{key}: {name}: one rank is that of {' and of '.join(twice)}; write ids")
    return ranked


def check_groups(name: str, groups: Iterable[str], known: list[str]) -> Iterator[str]:
    """Faults in the names of a benchmark's groups.

    Their members are looked up only when a group is used, since another list of targets may not have them.
    """
    for group in groups:
        key = f"benchmarks.{name}.groups.{group}"
        yield from told(check_group(key, group, known))


def check_group(key: str, group: str, known: list[str]) -> Iterator[str]:
    if group == "all" or SPAN.fullmatch(group) or named_targets(key, group, known):
        yield f"{key}: {group!r} names targets by itself; call the group otherwise"
