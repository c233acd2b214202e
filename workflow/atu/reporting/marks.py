"""What of a table is better or worse than before unlearning."""

import re

import numpy as np
import pandas as pd

from atu.data.probe_sets import ARROWS

LEAST = 0.1  # of the number before; a smaller change is not marked
BETTER = {ARROWS["lower"]: -1, ARROWS["higher"]: 1}  # the way in which a number is better, by the sign in a heading
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?")  # and what it may be off by, with several seeds
LEGEND = (
    f"✓ (blue): better than before, as the arrow of its column says; ! (orange): worse; the stronger the colour, the "
    f"more. Not marked: a change of less than {LEAST:.0%} of the number before, or within ±; rows and numbers with a †."
)


def changes(table: pd.DataFrame) -> pd.DataFrame:
    """By how much numbers are better (above 0) or worse (below) than in the row Before, as shares of the number there.

    NaN where nothing is said: in columns without an arrow, in rows with † behind their name, for cells that are not a
    number or "51.2 ± 1.3", for a change below LEAST or within ±, and where Before has no number, or 0. A table in which
    not exactly one row is Before has none: methods of other targets have a Before of their own.

    Args:
        table: with a column Method, as of :func:`atu.reporting.tables.main_table`; others have no changes.

    Returns:
        Shaped as the table, by its index and columns.
    """
    found = pd.DataFrame(np.nan, index=table.index, columns=table.columns)
    methods = table["Method"].astype(str) if "Method" in table else pd.Series("", index=table.index)
    if (methods == "Before").sum() != 1:
        return found
    told = table.index[(methods != "Before") & ~methods.str.contains("†", regex=False)]
    for name in table:
        way = next((way for sign, way in BETTER.items() if sign in str(name)), None)
        before, _ = number(table.loc[methods == "Before", name].iloc[0])
        if way is None or not abs(before) > 0:
            continue
        for row in told:
            value, off = number(table.loc[row, name])
            change = (value - before) / abs(before)
            if abs(change) >= LEAST and abs(value - before) > off:
                found.loc[row, name] = way * change
    return found


def number(cell: object) -> tuple[float, float]:
    """The number of a cell and what it may be off by; NaN of what is no number, such as "25.1 †"."""
    if isinstance(cell, str):
        written = NUMBER.fullmatch(cell)
        return (float(written[1]), float(written[2] or 0)) if written else (np.nan, 0.0)
    return (float(cell), 0.0) if isinstance(cell, int | float | np.number) else (np.nan, 0.0)
