"""Settings that a search tries: points drawn evenly from ranges and lists, the same ones for every method."""

import math

TRIES = 50  # points looked at for each that is wanted, where lists and whole numbers repeat themselves
DIGITS = 2  # of a number from a range: finer ones make no difference, and long names


def is_range(values: object) -> bool:
    """Whether values of a grid are a range, and no list."""
    return isinstance(values, dict)


def searched(grid: dict[str, list | dict]) -> bool:
    """Whether a grid has ranges, from which settings are drawn; one of lists alone is run whole."""
    return any(map(is_range, grid.values()))


def at_place(values: list | dict, place: float) -> object:
    """The value at a place from 0 to 1: of a list each has the same share, of a range a number of two digits.

    Args:
        values: a list; or low and high, and log, which spreads places by magnitude: true if it is not there.
    """
    if not is_range(values):
        return values[min(int(place * len(values)), len(values) - 1)]
    low, high = values["low"], values["high"]
    if values.get("log", True):
        found = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
    else:
        found = low + place * (high - low)
    found = min(max(float(f"{found:.{DIGITS}g}"), low), high)
    return round(found) if isinstance(low, int) and isinstance(high, int) else found


def drawn(grid: dict[str, list | dict], trials: int, seed: int) -> list[dict[str, object]]:
    """Settings by their keys, as many as there are trials; fewer if lists and whole numbers have no more.

    They are the points of a scrambled Halton sequence, which fill ranges evenly however many are taken; the first ones
    stay the same when more are asked for.
    """
    from scipy.stats import qmc  # slow to import, and few configs search

    places = qmc.Halton(len(grid), rng=seed).random(TRIES * trials)
    found: list[dict] = []
    for point in places:
        settings = {key: at_place(values, place) for (key, values), place in zip(grid.items(), point, strict=True)}
        if settings not in found:
            found.append(settings)
        if len(found) == trials:
            break
    return found
