"""The figures, each drawn from one table, all in one style."""

import io
import itertools
import math
from collections.abc import Iterable
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from atu.common.files import atomic_path
from atu.common.names import display_name, label, tau_name
from atu.data.benchmark import TEST
from atu.data.probe_sets import PROBE_SETS, of_role, primary, recalled, typed
from atu.reporting.breakdown import remarked
from atu.reporting.hover import tell, with_titles
from atu.reporting.layers import BASE, CONTROL
from atu.reporting.tables import REMARKED, probe_counts, remark, reported, scope, taus_of

# Okabe and Ito's colours, told apart by colour-blind readers; markers tell them apart in grey.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = "osD^vPX<>*"  # more than colours: methods of one colour differ in marker and line
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
LINE = 60  # characters of a legend that fit into a column
SMALL = 6  # font size of texts beside points, and of the number of probes in a figure


def stage_means(long: pd.DataFrame, dev_targets: list[str]) -> pd.DataFrame:
    """Means over targets and seeds on test probes: one row per (method, stage, tau), one column per metric."""
    rows = reported(long, dev_targets)
    rows = rows[rows["split"] == TEST]
    keys = [rows["method"], rows["stage"], rows["tau"].fillna(float("inf"))]
    return rows.pivot_table(index=keys, columns="metric", values="value", aggfunc="mean").reset_index()


def probes_asked(long: pd.DataFrame, dev_targets: list[str]) -> dict[tuple[str, int, str], int]:
    """The number of test probes of all targets, by method, stage and metric."""
    rows = reported(long, dev_targets)
    rows = rows[rows["split"] == TEST].drop_duplicates(["method", "stage", "metric", "target"])
    return rows.groupby(["method", "stage", "metric"])["n"].sum().to_dict()


def point_name(method: str, stage: int, taus: dict[int, float]) -> str:
    """The name of a point: its method and stage."""
    return label(method, stage, taus) if stage else f"{display_name(method)}, before"


def nothing(said: str = "No test probe was asked.") -> Figure:
    """A figure with only a text, for when there is nothing to draw."""
    figure, axis = plt.subplots(figsize=(COLUMN, 1), layout="constrained")
    axis.set_axis_off()
    axis.text(0.5, 0.5, said, ha="center", va="center")
    return figure


ABILITIES = of_role("utility", "fluency")


def called(name: str) -> str:
    """The name of a probe set in figures, such as forget QA."""
    return f"{PROBE_SETS[name].role} {PROBE_SETS[name].short}"


def as_shares(values: pd.DataFrame, stage: pd.Series) -> pd.DataFrame:
    """The columns in percent of their values at stage 0; columns that are 0 there are left out."""
    before = values[stage == 0].mean()
    known = before.index[before > 0]
    return 100 * values[known] / before[known]


def mark_collapsed(
    axis, curve: pd.DataFrame, x: pd.Series, y: pd.Series, texts: list[str], collapsed: pd.DataFrame | None
) -> None:
    """Draw a cross over each point at which a run has collapsed.

    Args:
        curve: the method and stage of each point.
        texts: the hover text of each point.
        collapsed: from :func:`atu.reporting.tables.find_collapsed`.
    """
    if collapsed is not None:
        found = collapsed[collapsed["collapsed"].astype(bool)]
        keys = set(zip(found["method"], found["stage"], strict=True))
        gone = [key in keys for key in zip(curve["method"], curve["stage"], strict=True)]
        (crosses,) = axis.plot(x[gone], y[gone], ls="", marker="x", ms=8, mew=1.2, color="0.3", zorder=3)
        tell(crosses, [f"{text}, collapsed" for text, fallen in zip(texts, gone, strict=True) if fallen])


def name_points(figure: Figure, points: list[tuple]) -> None:
    """Write a text beside each point of finished axes, so that no two texts overlap.

    Args:
        points: axis, text and (x, y) of each point. A text goes to the nearest free place above or below its point. If
            that is farther away, a line ties it to the point; if there is none, the text is left out.
    """
    figure.draw_without_rendering()  # positions are known only after layout
    taken: list[Bbox] = []
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)  # by `use` above; other canvases draw no pixels
    renderer = canvas.get_renderer()
    for axis, text, point in points:
        frame = axis.get_window_extent()
        for step, (right, up) in itertools.product(range(25), itertools.product((1, -1), (1, -1))):
            tie = {"arrowstyle": "-", "lw": 0.4, "color": "0.5", "shrinkA": 0, "shrinkB": 2} if step else None
            sides = {"ha": "left" if right > 0 else "right", "va": "bottom" if up > 0 else "top"}
            place = {"xytext": (3 * right, up * (4 + 7 * step)), "textcoords": "offset points"}
            look = {"fontsize": SMALL, "path_effects": [withStroke(linewidth=1.5, foreground="white")]}
            note = axis.annotate(text, point, arrowprops=tie, **place, **sides, **look)
            note.update_positions(renderer)
            box = Text.get_window_extent(note, renderer)  # the box of the words, without the line
            inside = frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            note.remove()


def tradeoff(long: pd.DataFrame, dev_targets: list[str], collapsed: pd.DataFrame | None = None) -> Figure:
    """What is kept of neighbours (left) and abilities (right) while each method forgets."""
    means = stage_means(long, dev_targets)
    if means.empty:
        return nothing()
    kept = as_shares(means.reindex(columns=ABILITIES), means["stage"]).clip(upper=100)  # a gain must not offset a loss
    means["utility"] = kept.mean(axis=1)
    forget, neighbour = primary("forget"), primary("neighbour")
    panels = {
        neighbour: f"{called(neighbour)} recall, %\n(higher is better)",
        "utility": "utility kept, % of before, mean\n(higher is better)",
    }
    methods, asked = list(means.groupby("method")), probes_asked(long, dev_targets)
    taus, named = taus_of(means), []
    figure, axes = plt.subplots(1, 2, figsize=(2 * COLUMN, 2.85), layout="constrained", sharex=True)
    figure.suptitle(scope(long, dev_targets), fontsize=SMALL)
    for axis, (metric, words) in zip(axes, panels.items(), strict=True):
        for i, (method, curve) in enumerate(methods):
            curve = curve.reindex(columns=["method", "stage", "tau", forget, metric])
            curve = curve.dropna(subset=[forget, metric])
            look = {"marker": MARKERS[i % len(MARKERS)], "color": COLORS[i % len(COLORS)]}
            look["ls"] = "-" if i < len(COLORS) else "--"
            (line,) = axis.plot(curve[forget], curve[metric], ms=4, lw=1.2, label=display_name(method), **look)
            texts = []
            for stage, x, y in zip(curve["stage"], curve[forget], curve[metric], strict=True):
                counts = {key: asked.get((method, stage, key)) for key in (forget, metric)}
                kept = f"{called(metric)} {y:.1f} (n={counts[metric]})" if counts[metric] else f"utility kept {y:.1f} %"
                name = point_name(method, stage, taus[method])
                texts.append(f"{name}: {called(forget)} {x:.1f} (n={counts[forget]}), {kept}")
            tell(line, texts)
            mark_collapsed(axis, curve, curve[forget], curve[metric], texts, collapsed)
            if len(methods) > 2:  # too many points to name each
                continue
            for row in curve[(curve["stage"] > 0) | (i == 0)].itertuples():  # all curves share their first point
                tau = tau_name(row.stage, taus[method])
                text = "before" if row.stage == 0 else f"τ={tau}" if tau else f"{row.stage}"
                named.append((axis, text, (getattr(row, forget), getattr(row, metric))))
        axis.set(xlabel=f"{called(forget)} recall, % (lower is better)", ylabel=words)
        axis.set(xlim=(108, -4), ylim=(-4, 112))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(methods), 5))
    name_points(figure, named)
    return figure


def stages(long: pd.DataFrame, dev_targets: list[str], collapsed: pd.DataFrame | None = None) -> Figure:
    """Forget recall, neighbour recall and utility over the stages, one row of panels per method."""
    panels = {
        "forget recall, %\n(lower is better)": recalled("forget"),
        "neighbour recall, %\n(higher is better)": recalled("neighbour"),
        "utility, % of before\n(higher is better)": ABILITIES,
    }
    by_stage = stage_means(long, dev_targets)
    if by_stage.empty:
        return nothing()
    methods, taus, asked_of = list(by_stage.groupby("method")), taus_of(by_stage), probes_asked(long, dev_targets)
    size = (2 * COLUMN, 2.3 * len(methods) + 0.15)
    figure, grid = plt.subplots(len(methods), 3, figsize=size, layout="constrained", squeeze=False)
    figure.suptitle(scope(long, dev_targets), fontsize=SMALL)
    for axes, (method, means) in zip(grid, methods, strict=True):
        by_tau = means.loc[means["stage"] > 0, "tau"].map(math.isfinite).all()
        for axis, (words, metrics) in zip(axes, panels.items(), strict=True):
            values = means.reindex(columns=metrics).dropna(axis="columns", how="all")
            if words.startswith("utility"):
                values = as_shares(values, means["stage"])
            for i, metric in enumerate(values):
                y = values[metric].dropna()
                asked = means.loc[y.index]
                look = {"marker": MARKERS[i % len(MARKERS)], "color": COLORS[i % len(COLORS)]}
                (line,) = axis.plot(asked["stage"], y, ms=3.5, lw=1.2, label=PROBE_SETS[metric].short, **look)
                unit = " % of before" if words.startswith("utility") else ""
                texts = [
                    f"{point_name(method, stage, taus[method])}: {PROBE_SETS[metric].label} {value:.1f}{unit} "
                    f"(n={asked_of[method, stage, metric]})"
                    for stage, value in zip(asked["stage"], y, strict=True)
                ]
                tell(line, texts)
                mark_collapsed(axis, asked, asked["stage"], y, texts, collapsed)
            ticks = [
                "before" if stage == 0 else tau_name(stage, taus[method]) or str(stage) for stage in means["stage"]
            ]
            axis.set_xticks(means["stage"], ticks, rotation=45)
            axis.set(xlabel="stage, by τ" if by_tau else "stage", ylabel=words)
            axis.set_ylim(0, 1.08 * max([100, *values.max()]))
            if axis.lines:
                axis.legend(fontsize=SMALL)
        if len(methods) > 1:
            axes[0].set_title(display_name(method), fontsize=8, loc="left")
    return figure


def called_target(target: str) -> str:
    """The name of a target in figures, such as Isaac Newton."""
    return target.split("_", 1)[1].replace("_", " ")


def targets(long: pd.DataFrame, dev_targets: list[str], collapsed: pd.DataFrame | None = None) -> Figure:
    """Forget and neighbour recall of every target before and after the last stage."""
    rows = long[long["split"] == TEST]
    if rows.empty:
        return nothing()
    last = rows.groupby(["target", "method"])["stage"].transform("max")
    chosen = {"before": rows[rows["stage"] == 0], "after": rows[rows["stage"] == last]}
    names = sorted(rows["target"].unique(), key=lambda name: (name in dev_targets, int(name.split("_")[0])))
    methods = list(rows["method"].unique())
    shown = dict.fromkeys([primary("forget"), *typed(), primary("neighbour")])
    panels = [(method, metric) for method in methods for metric in shown]
    height = 1.1 + 0.22 * len(names)
    size = (2 * COLUMN, height * len(methods) + 0.15)
    figure, axes = plt.subplots(
        len(methods), len(shown), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    if probes := probe_counts(rows, shown):
        figure.supxlabel(f"test probes of all targets: {probes}", fontsize=SMALL)
    for axis, (method, metric) in zip(axes.flat, panels, strict=True):
        for offset, (when, part) in zip((0.2, -0.2), chosen.items(), strict=True):
            part = part[(part["method"] == method) & (part["metric"] == metric)]
            values, counts = part.groupby("target")["value"].mean().reindex(names), part.groupby("target")["n"].max()
            places = [len(names) - 1 - i + offset for i in range(len(names))]
            bars = axis.barh(
                places, values, height=0.38, label=when, hatch="" if when == "before" else "////", edgecolor="white"
            )
            for bar, name, value in zip(bars, names, values, strict=True):
                if name in counts:
                    tell(bar, [f"{called_target(name)}, {when}: {called(metric)} {value:.1f} (n={counts[name]})"])
        labels = [called_target(name) + " (dev)" * (name in dev_targets) for name in names]
        axis.set_yticks(range(len(names) - 1, -1, -1), labels)
        title = called(metric)
        if collapsed is not None:
            of_method = collapsed[(collapsed["method"] == method) & collapsed["collapsed"].astype(bool)]
            title += " †" if set(of_method["stage"]) & set(rows.loc[rows["method"] == method, "stage"]) else ""
        axis.set_title((f"{display_name(method)}: " if len(methods) > 1 else "") + title, fontsize=8)
        axis.set(xlabel=f"recall, % ({PROBE_SETS[metric].better} is better)", xlim=(0, 105))
        axis.grid(visible=False, axis="y")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=7)
    return figure


def training(steps: pd.DataFrame, dev_targets: list[str]) -> Figure:
    """Similarity of the predictions to the target, unlearning loss and alignment loss over all steps of training.

    Args:
        steps: rows of the runs' steps.csv with target, method, seed and stage; means over targets and seeds are drawn.
    """
    steps = reported(steps, dev_targets)
    panels = [
        ("unlearn", "similarity", "similarity with the target\n(lower is better)"),
        ("unlearn", "unlearn_loss", "unlearning loss\n(lower is better)"),
        ("align", "loss", "alignment loss\n(lower is better)"),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(2 * COLUMN, 2.4), layout="constrained")
    for axis, (phase, column, words) in zip(axes, panels, strict=True):
        part = steps[steps["phase"] == phase].reindex(columns=["method", "stage", "step", "tau", column])
        for i, (method, rows) in enumerate(part.groupby("method")):
            means = rows.groupby(["stage", "step"])[[column, "tau"]].mean().reset_index()
            smooth = means[column].rolling(max(1, len(means) // 100), min_periods=1).mean()
            axis.plot(means.index + 1, smooth, lw=1, color=COLORS[i % len(COLORS)], label=display_name(method))
            if column == "similarity":
                axis.plot(
                    means.index + 1,
                    means["tau"],
                    ds="steps-post",
                    ls=":",
                    lw=1,
                    color="0.4",
                    label="τ" if i == 0 else None,
                )
        axis.set(xlabel=f"{'unlearning' if phase == 'unlearn' else 'alignment'} step", ylabel=words)
    if axes[0].lines:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def interval(row: Any, value: str) -> str:
    """A value with its 95 % interval, if it has one, and its number of probes: 50.0 [20.0, 80.0] (n=8)."""
    between = "" if math.isnan(row.low) else f" [{row.low:.1f}, {row.high:.1f}]"
    return f"{getattr(row, value):.1f}{between} (n={row.probes})"


def attacks(table: pd.DataFrame) -> Figure:
    """Recall by type of adversarial probe, before and after each method, with 95 % intervals.

    Args:
        table: from :func:`atu.reporting.breakdown.by_type`.
    """
    kinds, runs = sorted(table["type"].unique(), reverse=True), list(table["run"].unique())
    columns = max(1, min(3, len(runs), LINE // (max(map(len, runs), default=0) + 6)))  # a marker takes 6 characters
    height = 0.75 + 0.15 * math.ceil(len(runs) / columns) + len(kinds) * max(0.2, 0.1 * len(runs))
    figure, axis = plt.subplots(figsize=(COLUMN, height), layout="constrained")
    step = 0.7 / max(len(runs), 2)  # points of one type spread over 0.7 of the distance between types
    for i, (run, part) in enumerate(table.groupby("run", sort=False)):
        places = [kinds.index(kind) + step * ((len(runs) - 1) / 2 - i) for kind in part["type"]]
        spread = [part["value"] - part["low"], part["high"] - part["value"]]
        look: dict[str, Any] = {
            "fmt": MARKERS[i % len(MARKERS)],
            "color": "0.45" if run == "Before" else COLORS[(i - 1) % len(COLORS)],
        }
        look |= {"mfc": "white"} if run == "Before" else {}
        drawn = axis.errorbar(part["value"], places, xerr=spread, ms=4, elinewidth=0.8, label=run, **look)
        tell(drawn.lines[0], [f"{run}, {row.type}: {interval(row, 'value')}" for row in part.itertuples()])
    probes = table.groupby("type")["probes"].max()
    axis.set_yticks(range(len(kinds)), [f"{kind} ({probes[kind]})" for kind in kinds])
    axis.set(xlabel="recall, % (lower is better)", xlim=(-4, 104))
    axis.grid(visible=False, axis="y")
    if runs:
        figure.legend(*axis.get_legend_handles_labels(), loc="outside upper right", ncols=columns, fontsize=7)
    return figure


def adversarial_types(types: pd.DataFrame, dev_targets: list[str]) -> Figure:
    """:func:`attacks` with remarks after the names of runs; the table already leaves dev targets out."""
    return attacks(remarked(types))


def robustness(attacked: pd.DataFrame, dev_targets: list[str]) -> Figure:
    """Recall of the primary forget set over the steps of each attack that trains, one panel per attack.

    Args:
        attacked: from :func:`atu.reporting.robustness.compare_attacks`, without dev targets.
    """
    rows = attacked[(attacked["set"] == primary("forget")) & (attacked["measure"] == "recall")]
    steps = rows.groupby("attack")["step"].nunique()
    shown = [name for name in rows["attack"].unique() if steps[name] > 1]
    if not shown:
        return nothing("No attack trains, so there are no steps to show.")
    size = (COLUMN * min(2, len(shown)), 2.6)
    figure, axes = plt.subplots(1, len(shown), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], shown, strict=True):
        of_attack = rows[rows["attack"] == name]
        base = of_attack.groupby("step")["base_after"].mean()
        axis.plot(base.index, base, ls="--", color="0.45", label="base model")
        for i, (method, curve) in enumerate(of_attack.groupby("method", sort=False)):
            curve = curve.sort_values("step")
            spread = [(curve["after"] - curve["low"]).clip(lower=0), (curve["high"] - curve["after"]).clip(lower=0)]
            look: dict[str, Any] = {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)], "ms": 3}
            label = display_name(method)
            drawn = axis.errorbar(curve["step"], curve["after"], yerr=spread, elinewidth=0.6, label=label, **look)
            tell(drawn.lines[0], [f"{label}, step {row.step}: {interval(row, 'after')}" for row in curve.itertuples()])
        axis.set(title=f"{name} (n={of_attack['probes'].max()})", xlabel="step", ylim=(-4, 104))
    axes[0][0].set_ylabel(f"{called(primary('forget'))} recall, % (lower is better)")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
    return figure


def layer_probe(layers: pd.DataFrame, dev_targets: list[str]) -> Figure:
    """How well hidden states of each layer tell the target from its neighbours, one line per method.

    Args:
        layers: from :func:`atu.reporting.layers.compare_layers`, without dev targets, with the columns REMARKED.
    """
    rows = layers[layers["measure"] == "auc"]
    known = [name for name in REMARKED if name in rows]
    plain = {BASE: {"color": "0.3", "ls": "--"}, CONTROL: {"color": "0.6", "ls": ":"}}
    figure, axis = plt.subplots(figsize=(COLUMN, 2.8), layout="constrained")
    methods = [name for name in rows["method"].unique() if name not in plain]
    for method, curve in rows.groupby("method", sort=False):
        look: dict[str, Any] = plain.get(method, {})
        name = method
        if method in methods:
            i = methods.index(method)
            look = {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)], "ms": 2.5}
            name = display_name(method) + remark(curve.iloc[0][known])
        (line,) = axis.plot(curve["layer"], curve["value"], lw=1, label=name, **look)
        if "marker" in look:
            tell(line, [f"{name}, layer {row.layer}: {row.value:.1f} (n={row.probes})" for row in curve.itertuples()])
        axis.fill_between(curve["layer"], curve["low"], curve["high"], color=look["color"], alpha=0.1, lw=0)
    axis.set(xlabel="layer (0: embeddings)", ylabel=f"AUC, % (n={rows['probes'].max()})", ylim=(-4, 104))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
    return figure


def save_figure(figure: Figure, paths: Iterable[str]) -> None:
    """Write a figure in the formats of the paths' endings; the same figure always gives the same files."""
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    for path in paths:
        kind = path.rpartition(".")[2]
        with atomic_path(path) as part:
            if kind == "svg":
                drawn = io.StringIO()
                figure.savefig(drawn, format=kind, metadata=dates[kind])
                part.write_text(with_titles(drawn.getvalue()), encoding="utf-8")
            else:
                figure.savefig(part, metadata=dates.get(kind))


# By name. The first argument's name is the figure's input: `long` (main.csv, with `collapsed` beside it), `steps`,
# `types` (adversarial_types.csv), `attacked` (robustness.csv) or `layers` (layer_probe.csv). The caption is in
# workflow/report/<name>.rst.
FIGURES = {
    "tradeoff": tradeoff,
    "stages": stages,
    "targets": targets,
    "training": training,
    "adversarial_types": adversarial_types,
    "robustness": robustness,
    "layer_probe": layer_probe,
}
