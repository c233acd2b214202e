"""Which numbers of a table are better or worse than before unlearning."""

import re

import numpy as np
import pandas as pd

from atu.data.probe_sets import ARROWS

LEAST = 0.1  # share of the number before; smaller changes are not marked
BETTER = {ARROWS["lower"]: -1, ARROWS["higher"]: 1}  # the direction that is better, by the arrow in a heading
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?")  # with a half-width if there are several seeds
LEGEND = (
    f"✓ (blue): better than before, as the arrow of its column says; ! (orange): worse; the stronger the colour, the "
    f"more. Not marked: a change of less than {LEAST:.0%} of the number before, or within ±; rows and numbers with a †."
)


def changes(table: pd.DataFrame) -> pd.DataFrame:
    """How much numbers are better (above 0) or worse (below 0) than in the row Before, as shares of the number there.

    Cells are NaN in columns without an arrow, in rows with † after their name, if the cell is not a number or like
    "51.2 ± 1.3", if the change is below LEAST or within ±, and if Before has no number, or 0. A table has no changes
    unless exactly one row is Before, since methods with other targets have their own Before.

    Args:
        table: with a column Method, as from :func:`atu.reporting.tables.main_table`; other tables have no changes.

    Returns:
        Shaped as the table, with its index and columns.
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
    """The number in a cell and its half-width; NaN for a cell that is not a number, such as "25.1 †"."""
    if isinstance(cell, str):
        written = NUMBER.fullmatch(cell)
        return (float(written[1]), float(written[2] or 0)) if written else (np.nan, 0.0)
    return (float(cell), 0.0) if isinstance(cell, int | float | np.number) else (np.nan, 0.0)
