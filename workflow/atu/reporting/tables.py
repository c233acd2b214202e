"""The long table of all results, and the paper's table made from it."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # Student's t; scipy.stats has it too, and takes a second to import

from atu.common.errors import DivergedError, ExplainedError
from atu.common.files import parquet_attrs, read_parquet
from atu.common.names import in_words, label, written_out
from atu.data.benchmark import DEV, TEST, of_dev, of_test
from atu.data.metrics import BEST_WRONG, NO_ANSWER, PERCENT, PROBABILITY, is_refusal
from atu.data.probe_sets import AVERAGES, PROBE_SETS, generated, headings, of_role, primary, recalled
from atu.data.protocol import PROTOCOL, Protocol, ProtocolError, protocol_of
from atu.evaluation.collapse import SPEECHLESS, Judges, measured, why_collapsed, without_speech
from atu.evaluation.earlier import ASKED
from atu.evaluation.guessing import abilities

COLUMNS = ["model", "benchmark", "target", "method", "stage", "tau", "split", "metric", "value", "n", "seed"]
NOT_RUN = "not_run.json"  # marks a checkpoint that a stage passed on because the stage before had collapsed
KNOWN_RECALL = 0.5  # an answer with at least half of the words counts as known

# The columns of the paper's table; the arrow says which direction is better.
HEADINGS = headings()

# Shares of the answers about the target, in percent; the table has such a column if any row is above 0.
NO_SPEECH = {"forget_degenerate": "Degenerate %", "forget_empty": "Empty %", "forget_refused": "Refused %"}
NO_SPEECH_NOTE = (
    "Degenerate and empty: of the answers about the target, those that are no language at all (one word or pattern "
    f"over and over, say), and those that are nothing, which are scored as the word {NO_ANSWER}, as in RWKU. A model "
    "that has collapsed looks like one that has forgotten. Refused: those that refuse, or say that they do not know, "
    "by a list of phrases; that is no recall either, and says nothing of what the model knows."
)
JUDGED: Judges = {**SPEECHLESS, "refused": is_refusal}
ABOUT_TARGET = generated("forget")


def known_probes(predictions: pd.DataFrame) -> pd.DataFrame:
    """The forget and neighbour probes of one subject, with the base model's answers and whether they count as known."""
    asked = predictions[predictions["set"].isin(recalled("forget", "neighbour"))].copy()
    asked["answer"] = asked["answers"].str[0]
    asked["known"] = asked["score"] >= KNOWN_RECALL
    return asked[["set", "id", "split", "type", "query", "answer", "prediction", "score", "known"]]


def by_split(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The probes of each split (dev, test), and all probes."""
    return {DEV: of_dev(predictions), TEST: of_test(predictions), "all": predictions}


class ScoreError(ExplainedError, ValueError):
    """A score is not a finite number; the message names its probe."""


def check_scores(predictions: pd.DataFrame, place: str = "") -> None:
    """Refuse predictions with a score that is not finite, since a mean would hide it.

    Args:
        place: the file that holds them, for the message.
    """
    wrong = predictions[~np.isfinite(predictions["score"].astype(float))]
    if len(wrong):
        first = wrong.iloc[0]
        name = first.get("id", first["set"])
        where = f"{place}: " if place else ""
        mend = (
            f"delete {place} to ask again"
            if place
            else "check the model, and lower its learning rate if it was trained"
        )
        raise ScoreError(f"{where}the score of {name} is {first['score']}, as of {len(wrong)} probes in all; {mend}")


def summarize(predictions: pd.DataFrame) -> pd.DataFrame:
    """RWKU's numbers, computed from predictions.

    Returns:
        One row per split (dev, test, all) and metric: split, metric, value, n. Recall, accuracy, F1 and MC1 are in
        percent, fluency in bits x 100, membership as -100 x log-likelihood. Averages are weighted by the probe counts
        of the whole benchmark.

    Raises:
        ScoreError: if a score is not finite.
    """
    check_scores(predictions)
    rows = []
    for split, part in by_split(predictions).items():
        values = {}
        for name, group in part.groupby("set", sort=False):
            values[name] = (PROBE_SETS[name].scoring.scale * group["score"].mean(), len(group))
        for name, average in AVERAGES.items():
            if set(average.weights) <= set(values):
                means, sizes = zip(*(values[member] for member in average.weights), strict=True)
                values[name] = (np.average(means, weights=list(average.weights.values())), sum(sizes))
        rows += [{"split": split, "metric": metric, "value": v, "n": n} for metric, (v, n) in values.items()]
    return pd.DataFrame(rows, columns=["split", "metric", "value", "n"])


def summarize_speech(predictions: pd.DataFrame) -> pd.DataFrame:
    """Percentages of answers about the target that are degenerate, empty, or refuse.

    Rows are as from :func:`summarize`, with the metrics forget_degenerate, forget_empty and forget_refused; empty if no
    such answers were generated.
    """
    rows = []
    for split, part in by_split(predictions).items():
        answers = part[part["set"].isin(ABOUT_TARGET)]
        if len(answers):
            shares = without_speech(answers, JUDGED).items()
            rows += [(split, f"forget_{name}", PERCENT * share, len(answers)) for name, share in shares]
    return pd.DataFrame(rows, columns=["split", "metric", "value", "n"])


def summarize_probabilities(predictions: pd.DataFrame) -> pd.DataFrame:
    """Mean probabilities of the right answer and, for choices, of the likeliest wrong one, in percent.

    Rows are as from :func:`summarize`, with the metrics SET_probability and SET_best_wrong. Sets without probabilities
    in their details have no rows.
    """
    rows = []
    for split, part in by_split(predictions).items():
        for name, group in part.groupby("set", sort=False):
            for kind in (PROBABILITY, BEST_WRONG):
                known = measured(group, kind).dropna()
                if len(known):
                    rows.append((split, f"{name}_{kind}", PERCENT * known.mean(), len(known)))
    return pd.DataFrame(rows, columns=["split", "metric", "value", "n"])


def check_one_protocol(asked: Mapping[str, str | None]) -> None:
    """Refuse numbers of two protocols in one table.

    Args:
        asked: the protocol of each file or group of files; None if they do not say.

    Raises:
        ProtocolError: names a file of each protocol.
    """
    first: dict[str, str] = {}
    for files, name in asked.items():
        if name is not None:
            first.setdefault(name, files)
    if len(first) > 1:
        said = ", ".join(f"{files} by {name}" for name, files in first.items())
        raise ProtocolError(
            f"predictions of two protocols stand in no table together: {said}; ask all by one evaluation.protocol"
        )


def protocol_of_runs(runs: Iterable[dict]) -> Protocol:
    """The protocol by which the predictions of all runs were asked.

    Args:
        runs: dicts with files (Parquet predictions).

    Raises:
        DamagedError: if a file cannot be read.
        ProtocolError: if a file does not name its protocol, or the files name two.
    """
    asked = {file: parquet_attrs(file).get(PROTOCOL, "") for run in runs for file in run["files"]}
    for file, name in asked.items():
        if not name:
            raise ProtocolError(f"{file} does not say by which protocol it was asked; delete it to ask again")
    check_one_protocol(asked)
    return protocol_of(next(iter(asked.values())))


def read_predictions(files: Iterable[str]) -> pd.DataFrame:
    """The predictions of one evaluation from one or more files; ``attrs`` name the protocol if the files do.

    Raises:
        DamagedError: if a file cannot be read.
        ScoreError: if a score is not finite.
        ProtocolError: if the files were asked by two protocols.
    """
    frames = {file: read_parquet(file) for file in files}
    for file, frame in frames.items():
        check_scores(frame, str(file))
    asked = {str(file): frame.attrs.get(PROTOCOL) for file, frame in frames.items()}
    check_one_protocol(asked)
    predictions = pd.concat(frames.values(), ignore_index=True)
    # concat drops attrs that differ between files, such as the digest of what answered
    for name in filter(None, asked.values()):
        predictions.attrs[PROTOCOL] = name
    return predictions


def was_asked(predictions: pd.DataFrame) -> bool:
    """Whether there was a model to ask; it may have no predictions if the target lacks all sets that are asked."""
    return len(predictions) > 0 or ASKED in predictions.attrs


COLLAPSED = ["target", "method", "seed", "stage", "collapsed", "why", "degenerate", "empty", "foreign"]


def find_collapsed(runs: list[dict], fluency_share: float) -> pd.DataFrame:
    """Which stages of which runs have collapsed.

    Args:
        runs: as for :func:`collect`; stage 0 is the base model.

    Returns:
        One row per run and stage, without stage 0: target, method, seed, stage, collapsed, why (in words), the shares
        of answers about the target that are degenerate and that are empty, and foreign (whether it is a model from
        elsewhere that has not forgotten this target). A stage also counts as collapsed if it was not run because the
        stage before had collapsed, or was not reached because training diverged.
    """
    before = {run["target"]: run["files"] for run in runs if run["stage"] == 0}
    rows = []
    for run in runs:
        if run["stage"] > 0:
            predictions = read_predictions(run["files"])
            if was_asked(predictions):
                why = why_collapsed(predictions, read_predictions(before[run["target"]]), fluency_share)
            else:
                why = [predictions.attrs.get("diverged", "not run: the stage before had collapsed")]
            keys = {key: run[key] for key in ("target", "method", "seed", "stage")}
            shares = without_speech(predictions[predictions["set"].isin(ABOUT_TARGET)])
            judged = {"collapsed": bool(why), "why": "; ".join(why), "foreign": run.get("foreign", False)}
            rows.append(keys | judged | shares)
    return pd.DataFrame(rows, columns=COLLAPSED)


FOREIGN = "of targets that it has not forgotten"
# Words for the shares after a row's name: shares of its runs, and of answers about the target.
MARKED = {"collapsed": "collapsed", "foreign": FOREIGN}
REMARKED = MARKED | {"degenerate": "degenerate", "empty": "empty"}


def remark(shares: Mapping[str, float]) -> str:
    """The remark after a row's name: " † 50% collapsed, 12% empty"; empty if all shares are 0 or unknown.

    Args:
        shares: shares by key of REMARKED.
    """
    said = [
        f"{share:.0%} {REMARKED[name]}" if share >= 0.005 else f"<1% {REMARKED[name]}"
        for name, share in shares.items()
        if share > 0
    ]
    return f" † {', '.join(said)}" if said else ""


SUMMARIES = (summarize, summarize_speech, summarize_probabilities)


def collect(runs: list[dict], model: str, benchmark: str) -> pd.DataFrame:
    """The long table of all runs.

    Args:
        runs: dicts of target, method, seed, stage, tau and files (Parquet predictions of one evaluation).

    Returns:
        One row per number: model, benchmark, target, method, stage (0 is the base model), tau, split, metric, value, n,
        seed.

    Raises:
        ProtocolError: if the runs were asked by two protocols.
    """
    frames = []
    summaries: dict[tuple, pd.DataFrame] = {}  # all methods and seeds share the base model's files
    asked: dict[str, str | None] = {}
    for run in runs:
        files = tuple(run["files"])
        if files not in summaries:
            predictions = read_predictions(files)
            asked[", ".join(map(str, files))] = predictions.attrs.get(PROTOCOL)
            summaries[files] = pd.concat([summarized(predictions) for summarized in SUMMARIES])
        keys = {key: run[key] for key in ("target", "method", "stage", "tau", "seed")}
        frames.append(summaries[files].assign(model=model, benchmark=benchmark, **keys))
    check_one_protocol(asked)
    return pd.concat(frames, ignore_index=True)[COLUMNS]


def main_table(long: pd.DataFrame, dev_targets: list[str], collapsed: pd.DataFrame | None = None) -> pd.DataFrame:
    """The paper's table: one row per method and stage, with means over targets and seeds on test probes.

    Methods are in their order of appearance. Dev targets are left out, unless there are no others. The name of a row
    says if runs have collapsed, or if a model from elsewhere has not forgotten its target (from
    :func:`find_collapsed`). Each row has the number of targets whose runs reached its stage; the base model has one row
    for each group of targets.
    Shares of degenerate, empty and refused answers about the target are columns if there are any. With several seeds,
    cells are texts, mean ± half of a 95 % interval (:func:`half_width`), and a column has the number of seeds.
    """
    wide, people = stage_rows(long, dev_targets, collapsed)
    # methods of the same targets have the same row Before
    before = wide["stage"] == 0
    wide = wide[~(before & wide.assign(people=wide["method"].map(people)).duplicated(["stage", "people"]))]
    return wide.drop(columns=["method", "stage"]).reset_index(drop=True).rename_axis(columns=None)


def stage_rows(
    long: pd.DataFrame, dev_targets: list[str], collapsed: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, pd.Series]:
    """The rows of :func:`main_table`, including repeated rows of the base model.

    Returns:
        The rows, with method and stage (0 is the base model) beside the columns of the table; and the targets of each
        method.
    """
    rows = reported(long, dev_targets)
    rows = rows[rows["split"] == TEST]
    if rows.empty:
        columns = ("method", "stage", "Method", "Targets")
        return pd.DataFrame({name: pd.Series(dtype=object) for name in columns}), rows["method"]
    rows = rows.assign(tau=rows["tau"].astype(float).fillna(np.inf))
    wide = rows.pivot_table(index=["method", "stage", "tau"], columns="metric", values="value", aggfunc="mean")
    shown = [name for name in NO_SPEECH if name in wide and (wide[name] > 0).any()]
    wide = wide.reindex(columns=[*(name for name in HEADINGS if name in wide), *shown])
    wide = wide.reindex(rows["method"].unique(), level="method")
    seeds = rows["seed"].nunique()
    if seeds > 1:
        wide = with_half_widths(wide, rows)
    wide = wide.rename(columns=HEADINGS | NO_SPEECH).reset_index()
    taus = taus_of(wide)
    wide.insert(0, "Method", [label(row.method, row.stage, taus[row.method]) for row in wide.itertuples()])
    if collapsed is not None:
        means = reported(collapsed, dev_targets).groupby(["method", "stage"])[list(MARKED)].mean()
        shares = means.to_dict("index")
        wide["Method"] += [remark(shares.get(key, {})) for key in zip(wide["method"], wide["stage"], strict=True)]
    people = rows.groupby("method")["target"].agg(lambda targets: tuple(sorted(set(targets))))
    reached = rows.groupby(["method", "stage"])["target"].nunique()  # a run may have ended at a collapse before
    wide.insert(1, "Targets", [reached[key] for key in zip(wide["method"], wide["stage"], strict=True)])
    if seeds > 1:
        wide.insert(2, "Seeds", seeds)
    return wide.drop(columns="tau"), people


DAMAGED = "†"  # follows a number that a collapsed model can keep
DAMAGED_NOTE = (
    f"{DAMAGED}: of these runs some, or all, have collapsed (the row says how many): what they write is no language, "
    "though what is told by the likelihood of a choice, or scored by one word of it, may look kept."
)


def mark_damaged(table: pd.DataFrame) -> pd.DataFrame:
    """The table for readers, in which abilities in rows with collapsed runs are texts such as "25.1 †".

    Args:
        table: from :func:`main_table`, or like it.
    """
    fallen = table["Method"].str.contains(f"% {MARKED['collapsed']}", regex=False)
    shown = table.copy()
    abilities = {*of_role("utility")}
    means = [name for name, average in AVERAGES.items() if abilities.issuperset(average.weights)]
    for heading in {HEADINGS[name] for name in (*abilities, *means)} & {*table}:
        cells = table[heading]
        if (damaged := fallen & cells.notna()).any():
            texts = cells.map(lambda cell: cell if isinstance(cell, str) else f"{cell:.1f}")
            shown[heading] = texts.where(~damaged, texts + f" {DAMAGED}").astype(object).where(cells.notna(), np.nan)
    return shown


def damage_notes(shown: pd.DataFrame) -> list[str]:
    """The note below a table from :func:`mark_damaged`; empty if no number is marked."""
    marked = shown.map(lambda cell: isinstance(cell, str) and cell.endswith(f" {DAMAGED}"))
    return [DAMAGED_NOTE] if marked.to_numpy().any() else []


def guess_notes(runs: list[dict], dev_targets: Collection[str]) -> list[str]:
    """A note below a table on abilities in which the base model is no better than a guess; empty if there are none.

    Args:
        runs: as for :func:`collect`.
    """
    base = [run for run in runs if run["stage"] == 0]
    counted = [run for run in base if run["target"] not in dev_targets] or base
    files = dict.fromkeys(file for run in counted for file in run["files"])
    if not files:
        return []
    found = abilities(of_test(read_predictions(files)))
    unable = [
        f"{PROBE_SETS[row.set].label} ({PERCENT * row.share:.1f} of {row.count}, by guessing {PERCENT * row.guess:.1f})"
        for row in found[~found["able"]].itertuples()
    ]
    if not unable:
        return []
    return [
        f"The base model does no better than guessing on {', '.join(unable)}, so that nothing can be seen to be lost "
        "there."
    ]


def taus_of(rows: pd.DataFrame) -> dict[str, dict[int, float]]:
    """The tau of each stage but 0, by method.

    Args:
        rows: with columns method, stage and tau.
    """
    stages = rows.loc[rows["stage"] > 0, ["method", "stage", "tau"]].drop_duplicates()
    found = {method: dict(zip(part["stage"], part["tau"], strict=True)) for method, part in stages.groupby("method")}
    return {method: found.get(method, {}) for method in rows["method"].unique()}


def half_width(values: pd.Series) -> float:
    """Half of the 95 % confidence interval of a mean over seeds, by Student's t; NaN for fewer than two seeds.

    It covers only differences between seeds, since all seeds have the same targets and probes.
    """
    n = values.count()
    return float(stdtrit(n - 1, 0.975) * values.std() / np.sqrt(n)) if n > 1 else float("nan")


def with_half_widths(means: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The cells as texts, "51.2 ± 1.3"; the base model does not depend on seeds and has only its number.

    Args:
        means: rows (method, stage, tau), columns metrics.
        rows: rows of the long table.
    """
    keys = list(means.index.names)
    of_seeds = rows.pivot_table(index=[*keys, "seed"], columns="metric", values="value", aggfunc="mean")
    halves = of_seeds.groupby(level=keys).agg(half_width).reindex(index=means.index, columns=means.columns)
    halves[means.index.get_level_values("stage") == 0] = np.nan
    plain = means.map("{:.1f}".format)
    cells = plain.where(halves.isna(), plain + halves.map(" ± {:.1f}".format))
    return cells.astype(object).where(means.notna(), np.nan)


Grids = Mapping[str, Mapping[str, Mapping]]  # by method and variant: learning_rate, and settings by dotted keys


def find_diverged(runs: list[dict], grids: Grids, dev_targets: list[str]) -> set[str]:
    """The variants of grids whose training has diverged in a run by which they are judged (see :func:`dev_rows`).

    Arguments are as for :func:`collect` and :func:`choose_rates`.
    """
    asked = stages_of(runs, grids)
    judged = [run for run in asked if run["target"] in dev_targets] or asked
    return {run["method"] for run in judged if any("diverged" in read_parquet(file).attrs for file in run["files"])}


def find_unreached(runs: list[dict], grids: Grids, dev_targets: list[str]) -> set[str]:
    """The variants of grids with a run, among those that judge them (see :func:`dev_rows`), that did not reach a stage.

    Nothing was asked there, because the stage before had collapsed or training had diverged.
    """
    asked = stages_of(runs, grids)
    judged = [run for run in asked if run["target"] in dev_targets] or asked
    return {run["method"] for run in judged if not any(was_asked(read_parquet(file)) for file in run["files"])}


def find_fallen(collapsed: pd.DataFrame, grids: Grids, dev_targets: list[str]) -> set[str]:
    """The variants of grids with a run, among those that judge them (see :func:`dev_rows`), that collapsed at a stage.

    Args:
        collapsed: from :func:`find_collapsed`.
    """
    variants = {variant for method in grids.values() for variant in method}
    rows = collapsed[collapsed["method"].isin(variants)]
    own = rows[rows["target"].isin(dev_targets)]
    judged = own if len(own) else rows
    return set(judged.loc[judged["collapsed"].astype(bool), "method"])


def stages_of(runs: list[dict], grids: Grids) -> list[dict]:
    """The stages after the base model of all variants of grids."""
    variants = {variant for method in grids.values() for variant in method}
    return [run for run in runs if run["method"] in variants and run["stage"] > 0]


def dev_rows(long: pd.DataFrame, dev_targets: list[str]) -> pd.DataFrame:
    """The rows by which settings and stages are chosen: recall of the two primary sets on dev probes.

    They are of the dev targets, or of all targets if there are no dev targets.
    """
    rows = long[(long["split"] == DEV) & long["metric"].isin([primary("forget"), primary("neighbour")])]
    chosen_on = rows["target"].isin(dev_targets)
    return rows[chosen_on] if chosen_on.any() else rows


SHARES = ["neighbour_kept", "forget_left"]
RATES = ["method", "variant", "learning_rate", *SHARES, "score", "chosen", "diverged", "collapsed", "settings"]


def choose_rates(
    long: pd.DataFrame,
    grids: Grids,
    dev_targets: list[str],
    diverged: Collection[str] = (),
    unreached: Collection[str] = (),
    fallen: Collection[str] = (),
) -> pd.DataFrame:
    """The variant of each grid with the best dev score after the last stage.

    The score is recall of the primary neighbour set (neighbour QA) minus recall of the primary forget set (forget QA),
    each as a share of its value before, on dev probes (:func:`dev_rows`). Test probes play no part.

    Args:
        grids: methods without rows are left out.
        diverged, unreached: variants that get no score and are never chosen, since a score would favour settings that
            destroy models; from :func:`find_diverged` and :func:`find_unreached`.
        fallen: variants that are chosen only if all others of their method are too; from :func:`find_fallen`. Tables
            then mark the chosen one.

    Returns:
        Rows of method, variant, learning_rate, the two shares, score, chosen, diverged, collapsed and settings (the
        values of the grid, as text).

    Raises:
        ExplainedError: if the base model knew none of the dev probes, or no setting was run to its end by all runs.
        DivergedError: if training has diverged at all variants of a grid.
    """
    forget, neighbour = primary("forget"), primary("neighbour")
    rows = dev_rows(long, dev_targets)
    found = []
    for method, variants in grids.items():
        if not set(variants) & set(long["method"]):
            continue
        scores: dict[str, float] = {}
        shares: dict[str, dict[str, float]] = {}
        for variant in variants:
            if variant in diverged or variant in unreached:
                continue
            means = rows[rows["method"] == variant].groupby(["metric", "stage"])["value"].mean()
            before = means.groupby(level=0).first()
            if not {forget, neighbour} <= {*before.index} or not (before > 0).all():
                raise ExplainedError(
                    f"{method}: nothing of its grid can be chosen, since no dev probe was known before; set "
                    "split.dev_share higher, run dev targets whom it knows, or give one value of each setting"
                )
            share = {metric: values.iloc[-1] / values.iloc[0] for metric, values in means.groupby(level=0)}
            scores[variant] = share[neighbour] - share[forget]
            shares[variant] = dict(zip(SHARES, (share[neighbour], share[forget]), strict=True))
        if not scores and not set(variants) <= set(diverged):
            raise ExplainedError(
                f"{method}: nothing of its grid can be chosen, since at every setting some run has collapsed or "
                "diverged; add gentler settings"
            )
        if not scores:
            rates = sorted({variant["learning_rate"] for variant in variants.values()})
            raise DivergedError(
                f"{method}: training has diverged at every setting of its grid (learning rates "
                f"{', '.join(f'{rate:g}' for rate in rates)}); add a lower learning rate, {rates[0] / 10:g} say"
            )
        best = max([variant for variant in scores if variant not in fallen] or scores, key=scores.__getitem__)
        for variant, tried in variants.items():
            row = {"method": method, "variant": variant, "learning_rate": tried["learning_rate"]}
            row |= shares.get(variant, {})
            row |= {"score": scores.get(variant), "chosen": variant == best, "diverged": variant in diverged}
            row |= {"collapsed": variant in fallen, "settings": written_out(tried["settings"])}
            found.append(row)
    return pd.DataFrame(found, columns=RATES)


def without_unchosen(rows: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table with a column method, without the variants that :func:`choose_rates` did not choose."""
    return rows[~rows["method"].isin(rates.loc[~rates["chosen"].astype(bool), "variant"])]


def reported(long: pd.DataFrame, dev_targets: list[str]) -> pd.DataFrame:
    """The rows of targets that count in means: held-out targets, or all targets if there are none."""
    held_out = long[~long["target"].isin(dev_targets)]
    return held_out if len(held_out) else long


def probe_counts(rows: pd.DataFrame, sets: Iterable[str]) -> str:
    """The number of probes asked of each given set, in words: "90 of Forget QA and 80 of Neighbor QA".

    Args:
        rows: rows of the long table, of one split; a probe counts once, in however many runs and stages it was asked.
    """
    probes = rows.drop_duplicates(["target", "metric"]).groupby("metric")["n"].sum()
    said = [f"{probes[name]} of {PROBE_SETS[name].label}" for name in sets if name in probes]
    return in_words(said) if said else ""


def scope(long: pd.DataFrame, dev_targets: list[str]) -> str:
    """A sentence about the means on test probes: over which targets, and over how many probes of the primary sets."""
    rows = reported(long, dev_targets)
    rows = rows[rows["split"] == TEST]
    people, others = set(rows["target"]), set(long["target"]) & set(dev_targets)
    kind = "dev " if people <= others else "held-out " if others else ""
    alone = ", as there are no others" if people <= others else ""
    probes = probe_counts(rows, (primary("forget"), primary("neighbour")))
    whose = f"{len(people)} {kind}target{'s' * (len(people) != 1)}{alone}"
    return f"Means over {whose}; test probes{': ' * bool(probes)}{probes}."


LATEX = {"↓": r"$\downarrow$", "↑": r"$\uparrow$", "τ": r"$\tau$", "†": r"$\dagger$"}


def to_latex(table: pd.DataFrame) -> str:
    """The table as LaTeX for a paper, in characters that every LaTeX can set; it needs booktabs."""
    text = table.to_latex(index=False, float_format="%.1f", na_rep="--", escape=True)
    for character, command in LATEX.items():
        text = text.replace(character, command)
    return text


def reported_runs(runs: list[dict], rates: pd.DataFrame, dev_targets: list[str]) -> list[dict]:
    """The runs that count in comparisons: chosen settings, on held-out targets if there are any.

    Args:
        runs: as for :func:`collect`.
        rates: from :func:`choose_rates`.
    """
    unchosen = set(rates.loc[~rates["chosen"].astype(bool), "variant"])
    chosen = [run for run in runs if run["method"] not in unchosen]
    return [run for run in chosen if run["target"] not in dev_targets] or chosen
