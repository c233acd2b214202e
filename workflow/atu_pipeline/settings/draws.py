"""Settings that a search tries: points drawn evenly from ranges and lists, the same points for every method."""

import math

TRIES = 50  # points drawn per point wanted, since lists and whole numbers give repeats
DIGITS = 2  # of a number from a range; more would make no difference but long names


def is_range(values: object) -> bool:
    """Whether values of a grid are a range, not a list."""
    return isinstance(values, dict)


def searched(grid: dict[str, list | dict]) -> bool:
    """Whether a grid has ranges, from which settings are drawn; a grid with only lists is run whole."""
    return any(map(is_range, grid.values()))


def at_place(values: list | dict, place: float) -> object:
    """The value at a place from 0 to 1: an item of a list, each with the same share, or a two-digit number of a range.

    Args:
        values: a list; or low and high, and log, which spreads places by magnitude and is true by default.
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
    """As many settings as trials, each by its keys; fewer if lists and whole numbers do not have that many.

    They are points of a scrambled Halton sequence, which fills ranges evenly for any number of points. With more trials
    the first points stay the same.
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
