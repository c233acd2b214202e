"""The choice of a stage for each method, by a rule that limits damage, on dev probes."""

import pandas as pd

from atu.common.errors import ExplainedError
from atu.common.names import display_name, in_words
from atu.data.probe_sets import AVERAGES, PROBE_SETS, of_role, primary
from atu.reporting.tables import HEADINGS, dev_rows, stage_rows

CHOICES = ["method", "stage", "neighbour_kept", "forget_left", "within_budget", "chosen", "last", "settings", "stages"]
EXACT = 9  # decimals: rounding makes sums of the same scores in another order equal


def choose_stages(
    long: pd.DataFrame, neighbour_kept: float, dev_targets: list[str], tried: dict[str, int] | None = None
) -> pd.DataFrame:
    """The stages of each method, with the one chosen that keeps enough and has forgotten most.

    Among the stages whose recall of the primary neighbour set is at least ``neighbour_kept`` of the base model's, the
    rule chooses the one with the lowest recall of the primary forget set, or the earliest of several. If no stage
    qualifies, it chooses the base model. Recall is on dev probes (:func:`dev_rows`), averaged over targets and seeds. A
    stage that some run did not reach, because it had collapsed or diverged, is not chosen. Test probes play no part.

    Args:
        long: from :func:`collect`; of a grid, only the chosen variant.
        neighbour_kept: share, 0 to 1.
        tried: how many settings of each method were run; 1 for methods that are not named.

    Returns:
        One row per method and stage (0 is the base model), with methods in their order of appearance: neighbour_kept
        and forget_left, shares of the base model's recall (NaN if that is 0, or some run did not reach the stage),
        within_budget, chosen, last, settings (how many were tried) and stages (how many there were to choose from).

    Raises:
        ExplainedError: if the base model was not asked both sets on dev probes.
    """
    rows = dev_rows(long, dev_targets)
    forget, neighbour = primary("forget"), primary("neighbour")
    cells = rows.groupby(["method", "stage", "metric"])["value"].agg(["mean", "count"])
    found = []
    for method in long["method"].unique():
        for name in (forget, neighbour):
            if (method, 0, name) not in cells.index:
                raise ExplainedError(
                    f"{method}: no stage can be chosen, since no probe of {name} is a dev probe; set split.dev_share "
                    "higher, or run dev targets"
                )
        means, counts = (cells.loc[method][column].unstack("metric") for column in ("mean", "count"))
        numbers = sorted(long.loc[long["method"] == method, "stage"].unique())
        reached = means.where(counts.eq(counts.loc[0])).reindex(numbers)[[forget, neighbour]].round(EXACT)
        reached = reached.where(reached.notna().all(axis=1))
        base = reached.loc[0]
        keeps = reached[neighbour] >= round(neighbour_kept * base[neighbour], EXACT)
        able = reached.loc[keeps & (reached.index > 0), forget]
        chosen = able.idxmin() if len(able) else 0  # the first of equal ones
        table = pd.DataFrame(
            {
                "method": method,
                "stage": numbers,
                "neighbour_kept": (reached[neighbour] / (base[neighbour] or float("nan"))).to_numpy(),
                "forget_left": (reached[forget] / (base[forget] or float("nan"))).to_numpy(),
                "within_budget": keeps.to_numpy(),
                "chosen": [number == chosen for number in numbers],
                "last": [number == numbers[-1] > 0 for number in numbers],
                "settings": (tried or {}).get(method, 1),
                "stages": len(numbers) - 1,
            }
        )
        found.append(table)
    return pd.concat(found, ignore_index=True)[CHOICES]


def settings_tried(rates: pd.DataFrame) -> dict[str, int]:
    """The number of settings from which each chosen variant was chosen.

    Args:
        rates: from :func:`choose_rates`.
    """
    chosen = rates[rates["chosen"].astype(bool)]
    return {row.variant: int((rates["method"] == row.method).sum()) for row in chosen.itertuples()}


def shown_metrics() -> list[str]:
    """The metrics shown for each choice: primary sets, averages of forget and neighbour sets, utility and fluency."""
    roles = {role: set(of_role(role)) for role in ("forget", "neighbour")}
    averages = [name for name, one in AVERAGES.items() if any(set(one.weights) <= sets for sets in roles.values())]
    chosen = {primary("forget"), primary("neighbour"), *averages, *of_role("utility", "fluency")}
    return [name for name in HEADINGS if name in chosen]


def selected_table(
    long: pd.DataFrame, choices: pd.DataFrame, dev_targets: list[str], collapsed: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The chosen stage of each method beside its last one, on test probes, with cells as in :func:`main_table`.

    Args:
        long: the table that stages were chosen from.
        choices: from :func:`choose_stages`.

    Returns:
        The base model's row, then one row per method and stage: Method, Stage (chosen, last, or both), Settings and
        Stages (how many were tried), Targets, Seeds if there are several, and :func:`shown_metrics`.
    """
    rows, people = stage_rows(long, dev_targets, collapsed)
    cells = {(row["method"], row["stage"]): row for row in rows.to_dict("records")}
    found, shown = [], set()
    for method, of_method in choices.groupby("method", sort=False):
        if people[method] not in shown:
            shown.add(people[method])
            found.append(cells[method, 0])
        for choice in of_method.itertuples():
            if choice.chosen or choice.last:
                row = cells[method, choice.stage] | {"Settings": choice.settings, "Stages": choice.stages}
                if choice.stage == 0:
                    row["Method"] = f"{display_name(method)}: base model"
                found.append(row | {"Stage": in_words([key for key in ("chosen", "last") if getattr(choice, key)])})
    names = ["Method", "Stage", "Settings", "Stages", "Targets", "Seeds", *map(HEADINGS.get, shown_metrics())]
    table = pd.DataFrame(found)
    return table[[name for name in names if name in table]].astype({"Settings": "Int64", "Stages": "Int64"})


def explained(long: pd.DataFrame, choices: pd.DataFrame, neighbour_kept: float, dev_targets: list[str]) -> str:
    """Sentences that explain the rule with its numbers, and say where it chose the base model or could not judge.

    Arguments are as for :func:`choose_stages`.
    """
    rows = dev_rows(long, dev_targets)
    rows = rows[rows["stage"] == 0].drop_duplicates(["target", "metric"])
    names = {"neighbour_kept": primary("neighbour"), "forget_left": primary("forget")}
    label = {column: PROBE_SETS[name].label for column, name in names.items()}
    asked = rows.groupby("metric")["n"].sum()
    numbers = ", ".join(f"{asked[name]} of {label[column]}" for column, name in names.items())
    targets = "dev targets" if rows["target"].isin(dev_targets).any() else "targets"
    said = [
        f"Chosen: of the stages that keep at least {neighbour_kept:.4g} of the base model's {label['neighbour_kept']} "
        f"recall the one with the lowest {label['forget_left']} recall, of equal ones the earliest; where none keeps "
        f"it, the base model (by dev probes alone: {numbers}; {targets}: {rows['target'].nunique()})."
    ]
    base = choices[choices["stage"] == 0]
    if len(kept := base[base["chosen"]]):
        said.append(f"No stage of {in_words(map(display_name, kept['method']))} keeps it.")
    if blank := [said_of for column, said_of in label.items() if base[column].isna().any()]:
        said.append(f"The base model recalls nothing of {in_words(blank)} there, which therefore decides nothing.")
    alone = set(long["target"]) <= set(dev_targets)
    shown = "of dev targets, on whom settings were chosen" if alone else "of test probes"
    return " ".join([*said, f"The numbers in the table are {shown}."])
