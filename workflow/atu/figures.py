"""The figures, each from the long table alone; one style for all."""

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from atu.tables import reported

# Okabe and Ito's colours, told apart by colour-blind readers; markers tell them apart in grey.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = "osD^vPX"
plt.rcParams.update(
    {
        "figure.dpi": 200,
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "axes.prop_cycle": plt.cycler(color=COLORS),
        "pdf.fonttype": 42,
        "svg.hashsalt": "atu",
    }
)
COLUMN = 3.4  # inches: one column of a two-column paper


def stage_means(long: pd.DataFrame, dev_targets: list[str]) -> pd.DataFrame:
    """Mean over targets and seeds of the test split: rows (method, stage, tau), columns metrics."""
    rows = reported(long, dev_targets)
    rows = rows[rows["split"] == "test"]
    keys = [rows["method"], rows["stage"], rows["tau"].fillna(float("inf"))]
    return rows.pivot_table(index=keys, columns="metric", values="value", aggfunc="mean").reset_index()


def tradeoff(long: pd.DataFrame, dev_targets: list[str]) -> Figure:
    """Forget against neighbour recall while tau falls."""
    figure, axis = plt.subplots(figsize=(COLUMN, 2.6), layout="constrained")
    for i, (method, curve) in enumerate(stage_means(long, dev_targets).groupby("method")):
        curve = curve.reindex(columns=["stage", "tau", "forget_qa", "neighbor_qa"]).dropna()
        axis.plot(
            curve["forget_qa"], curve["neighbor_qa"], marker=MARKERS[i % len(MARKERS)], ms=4, lw=1.2, label=method
        )
        for row in curve.itertuples():
            text = "before" if row.stage == 0 else f"τ={row.tau:g}" if math.isfinite(row.tau) else f"{row.stage}"
            axis.annotate(text, (row.forget_qa, row.neighbor_qa), xytext=(3, 4), textcoords="offset points", fontsize=6)
    axis.set(xlabel="forget QA recall, % (lower is better)", ylabel="neighbour QA recall, %\n(higher is better)")
    axis.set(xlim=(108, -4), ylim=(0, 112))
    axis.legend(loc="lower left")
    return figure


def stages(long: pd.DataFrame, dev_targets: list[str]) -> Figure:
    """Forget, neighbour and utility over the stages."""
    panels = {
        "forget recall, %": ["forget_fb", "forget_qa", "forget_aa"],
        "neighbour recall, %": ["neighbor_fb", "neighbor_qa"],
        "utility, % of before": ["utility_gen", "utility_rea", "utility_tru", "utility_fac", "utility_flu"],
    }
    means = stage_means(long, dev_targets)
    figure, axes = plt.subplots(1, 3, figsize=(2 * COLUMN, 2.3), layout="constrained")
    for axis, (label, metrics) in zip(axes, panels.items(), strict=True):
        present = [metric for metric in metrics if metric in means]
        for i, metric in enumerate(present):
            for method, curve in means.groupby("method"):
                curve = curve.dropna(subset=[metric])
                values = curve[metric]
                if label.startswith("utility"):
                    before = values[curve["stage"] == 0].sum()
                    if before == 0:  # nothing to be a share of
                        continue
                    values = 100 * values / before
                name = metric.split("_")[1].upper()
                if means["method"].nunique() > 1:
                    name = f"{method} {name}"
                axis.plot(curve["stage"], values, marker=MARKERS[i], ms=3.5, lw=1.2, color=COLORS[i], label=name)
        taus = means[["stage", "tau"]].drop_duplicates().groupby("stage")["tau"].agg(list)
        shared = taus.map(len).max() == 1  # all methods have the same schedule
        shared = shared and means.loc[means["stage"] > 0, "tau"].map(math.isfinite).all()
        ticks = ["before" if stage == 0 else f"{tau[0]:g}" if shared else str(stage) for stage, tau in taus.items()]
        axis.set_xticks(taus.index, ticks, rotation=45)
        axis.set(xlabel="stage, by τ" if shared else "stage", ylabel=label)
        axis.set_ylim(0, 1.08 * max([100, *(line.get_ydata().max() for line in axis.lines)]))
        if axis.lines:
            axis.legend(fontsize=6)
    return figure


def targets(long: pd.DataFrame, dev_targets: list[str]) -> Figure:
    """Forget and neighbour recall of every target before and after the last stage."""
    rows = long[long["split"] == "test"]
    last = rows.groupby(["target", "method"])["stage"].transform("max")
    chosen = {"before": rows[rows["stage"] == 0], "after": rows[rows["stage"] == last]}
    names = sorted(rows["target"].unique(), key=lambda name: (name in dev_targets, int(name.split("_")[0])))
    methods = list(rows["method"].unique())
    panels = [(method, metric) for method in methods for metric in ("forget_qa", "forget_aa", "neighbor_qa")]
    height = 1.1 + 0.22 * len(names)
    figure, axes = plt.subplots(
        len(methods), 3, figsize=(2 * COLUMN, height * len(methods)), layout="constrained", sharey=True, squeeze=False
    )
    for axis, (method, metric) in zip(axes.flat, panels, strict=True):
        for offset, (when, part) in zip((0.2, -0.2), chosen.items(), strict=True):
            part = part[(part["method"] == method) & (part["metric"] == metric)]
            values = part.groupby("target")["value"].mean().reindex(names)
            places = [len(names) - 1 - i + offset for i in range(len(names))]
            axis.barh(
                places, values, height=0.38, label=when, hatch="" if when == "before" else "////", edgecolor="white"
            )
        labels = [name.split("_", 1)[1].replace("_", " ") + " (dev)" * (name in dev_targets) for name in names]
        axis.set_yticks(range(len(names) - 1, -1, -1), labels)
        direction = "lower" if metric.startswith("forget") else "higher"
        title = metric.replace("_", " ").replace("qa", "QA").replace("aa", "AA").replace("neighbor", "neighbour")
        axis.set_title((f"{method}: " if len(methods) > 1 else "") + title, fontsize=8)
        axis.set(xlabel=f"recall, % ({direction} is better)", xlim=(0, 105))
        axis.grid(visible=False, axis="y")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=7)
    return figure


FIGURES = {"tradeoff": tradeoff, "stages": stages, "targets": targets}
