"""Whether hidden states still tell the target from its neighbours, by a linear classifier for each layer.

The classifier is fit on states of the base model and applied to those of the unlearned one (a linear probe: Alain and
Bengio 2016, arXiv 1610.01644). If it still tells them apart, the knowledge is hidden from answers rather than gone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from atu.common.errors import ExplainedError
from atu.common.files import read_parquet
from atu.data.benchmark import of_test
from atu.data.metrics import PERCENT
from atu.data.probe_sets import PROBE_SETS
from atu.reporting.published import bounds

BASE, CONTROL = "base model", "permuted labels"
DIVISIONS = 5  # divisions into folds; a single one would compare few pairs and permute labels only once
MEASURES = ("auc", "accuracy")
COLUMNS = ["method", "layer", "measure", "value", "low", "high", "base", "targets", "probes"]


class LayerError(ExplainedError, ValueError):
    """States of layers cannot be compared."""


@dataclass(frozen=True)
class States:
    """States of one model on the probes of one person.

    Attributes:
        probes: one row per probe: set, id, split, about (1: the target, 0: a neighbour) and way (how its set is asked).
        values: [layers, probes, hidden].
    """

    probes: pd.DataFrame
    values: np.ndarray


def read_states(file: str) -> States | None:
    """The states that :func:`atu.evaluation.layers.read_layers` wrote; None if there was no model to read.

    Raises:
        DamagedError: if the file cannot be read.
    """
    table = read_parquet(file)
    if not len(table):
        return None
    table = table.sort_values(["layer", "id"], kind="stable")
    probes = table[table["layer"] == 0].reset_index(drop=True)[["set", "id", "split"]]
    sets = {name: PROBE_SETS[name] for name in probes["set"].unique()}
    about = {name: int(declared.role == "forget") for name, declared in sets.items()}
    way = {name: f"{declared.message}{declared.suffix}" for name, declared in sets.items()}
    probes = probes.assign(about=probes["set"].map(about), way=probes["set"].map(way))
    values = np.stack(table["states"].to_list()).astype(float)
    return States(probes, values.reshape(table["layer"].nunique(), len(probes), -1))


def fewest(probes: pd.DataFrame) -> int:
    """The smallest number of test probes of one side (target or neighbours) that are asked in one way."""
    sizes = of_test(probes).groupby(["about", "way"]).size()
    every = pd.MultiIndex.from_product([(0, 1), probes["way"].unique()])
    return int(sizes.reindex(every, fill_value=0).min())


def assign_folds(probes: pd.DataFrame, folds: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of each test probe, [probes]; -1 for dev probes, on which all classifiers are fit.

    For each side and way of asking, the numbers of probes in any two folds differ by at most one.
    """
    found = np.full(len(probes), -1)
    for _, alike in of_test(probes).groupby(["about", "way"]):
        found[rng.permutation(alike.index)] = np.arange(len(alike)) % folds
    return found


def fit(values: np.ndarray, about: np.ndarray, regularization: float) -> Callable[[np.ndarray], np.ndarray]:
    """Fit a classifier of one layer: it maps states [n, hidden] to scores [n], above 0 for the target.

    Args:
        values: states of the base model, [probes, hidden]; each column is first scaled to mean 0 and deviation 1.
        about: 1 for the target, 0 for a neighbour, [probes]; both sides have the same weight.
        regularization: the weight of the squared norm of the coefficients.
    """
    from sklearn.linear_model import LogisticRegression  # takes two seconds, and other tables do not need it
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logistic = LogisticRegression(C=1 / regularization, class_weight="balanced", max_iter=10_000)
    return make_pipeline(StandardScaler(), logistic).fit(values, about).decision_function


def scores_of(
    base: States, others: list[States], folds: np.ndarray, regularization: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Scores of each probe by classifiers fit without its fold, [layers, probes] each; NaN for dev probes.

    Args:
        others: states of kept models on the same probes.
        folds: from :func:`assign_folds`.

    Returns:
        Scores of the base model, scores of the base model by classifiers of permuted labels, and scores of each of
        ``others``.
    """
    about = base.probes["about"].to_numpy()
    own, control, *found = (np.full(base.values.shape[:2], np.nan) for _ in range(2 + len(others)))
    for fold in range(folds.max() + 1):
        fitted, told = folds != fold, folds == fold
        for layer, values in enumerate(base.values):
            classifier = fit(values[fitted], about[fitted], regularization)
            permuted = fit(values[fitted], rng.permutation(about[fitted]), regularization)
            own[layer, told], control[layer, told] = classifier(values[told]), permuted(values[told])
            for scores, other in zip(found, others, strict=True):
                scores[layer, told] = classifier(other.values[layer, told])
    return own, control, found


@dataclass(frozen=True)
class Told:
    """How well the test probes of one person are told apart at each layer.

    Attributes:
        above: whether the target's probe has the higher score (1, 0.5 or 0), for each pair of a probe about the target
            and one about a neighbour, [layers, targets, neighbours].
        pairs: 1 if both probes are asked in the same way and are in the same fold, so that one classifier scores both;
            otherwise 0, [targets, neighbours].
        right: for each side, whether a score is on that side of 0, [layers, probes of the side].
    """

    above: np.ndarray
    pairs: np.ndarray
    right: tuple[np.ndarray, np.ndarray]

    @property
    def sizes(self) -> tuple[int, int]:
        """The numbers of test probes about the target and about neighbours."""
        return self.pairs.shape

    def measured(self, counts: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
        """The AUC over pairs and the mean of both sides' accuracies, by measure, [draws, layers], 0 to 1.

        Args:
            counts: for each side, how often each probe counts, [draws, probes of the side].
        """
        whole = ((counts[0] @ self.pairs) * counts[1]).sum(1)
        won = np.einsum("dt,ltn,dn->dl", counts[0], self.above * self.pairs, counts[1], optimize=True)
        with np.errstate(invalid="ignore"):  # a draw without any pair has no AUC
            auc = won / whole[:, None]
        sides = [count @ right.T / count.sum(1)[:, None] for count, right in zip(counts, self.right, strict=True)]
        return {"auc": auc, "accuracy": (sides[0] + sides[1]) / 2}

    def whole(self) -> dict[str, np.ndarray]:
        """The values by measure, [layers], with each probe counted once."""
        first, second = (np.ones((1, size)) for size in self.sizes)
        return {name: values[0] for name, values in self.measured((first, second)).items()}


def tell(scores: np.ndarray, probes: pd.DataFrame, folds: np.ndarray) -> Told:
    """How well the scores of a person's probes, [layers, probes], tell the test probes apart."""
    test, about = folds >= 0, probes["about"].to_numpy()
    target, neighbour = np.flatnonzero(test & (about == 1)), np.flatnonzero(test & (about == 0))
    one, other = scores[:, target, None], scores[:, None, neighbour]
    way = probes["way"].to_numpy()
    pairs = (folds[target, None] == folds[neighbour]) & (way[target, None] == way[neighbour])
    # a score of exactly 0 is on neither side
    right = [
        (scores[:, side] * sign > 0) + 0.5 * (scores[:, side] == 0) for side, sign in ((target, 1), (neighbour, -1))
    ]
    return Told((one > other) + 0.5 * (one == other), pairs.astype(float), (right[0], right[1]))


def draw(people: list[list[Told]], resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Values for resampled people and probes, by measure, [resamples, people, layers].

    Arguments are as for :func:`rows_of`.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(people), size=(resamples, len(people)))
    layers = len(people[0][0].above)
    found = {name: np.full((*chosen.shape, layers), np.nan) for name in MEASURES}
    for number, runs in enumerate(people):
        here = chosen == number
        first, second = (rng.multinomial(size, np.full(size, 1 / size), here.sum()) for size in runs[0].sizes)
        measured = [told.measured((first.astype(float), second.astype(float))) for told in runs]
        for name, values in found.items():
            known = np.ma.masked_invalid([one[name] for one in measured])
            values[here] = known.mean(0).filled(np.nan)  # NaN if no division has a pair
    return found


def rows_of(people: list[list[Told]], resamples: int, seed: int) -> list[dict]:
    """Means over people and seeds, in percent, with 95 % intervals over people and their probes.

    Args:
        people: for each person, one entry per division and seed.

    Returns:
        One row per layer and measure: layer, measure, value, low, high, targets, probes.
    """
    if not people:
        return []
    draws = draw(people, resamples, seed)
    probes = sum(sum(runs[0].sizes) for runs in people)
    rows = []
    for name in MEASURES:
        values = np.mean([np.mean([told.whole()[name] for told in runs], axis=0) for runs in people], axis=0)
        for layer, value in enumerate(values):
            low, high = bounds(PERCENT * draws[name][:, :, layer], probes)
            row = {"layer": layer, "measure": name, "value": PERCENT * value, "low": low, "high": high}
            rows.append(row | {"targets": len(people), "probes": probes})
    return rows


def check_alike(base: States, other: States, file: str) -> None:
    """Refuse states whose probes or shape differ from the base model's.

    Raises:
        LayerError: names the file.
    """
    if not base.probes.equals(other.probes):
        raise LayerError(f"{file} has states of other probes than the base model's; delete it to have it made again")
    if base.values.shape != other.values.shape:
        (layers, _, size), (own_layers, _, own_size) = base.values.shape, other.values.shape
        raise LayerError(
            f"{file} is of a model with {own_layers - 1} layers of width {own_size}, and the base model has "
            f"{layers - 1} of {size}: its states cannot be told by classifiers of the base model; take the method out"
        )


def tell_person(
    base: States, runs: list[dict], folds: int, regularization: float, seed: int, read: Callable[[str], States | None]
) -> dict[str, list[Told]]:
    """How well the probes of one person are told apart, by method (including BASE and CONTROL).

    Each method has one entry per division into folds and seed.

    Args:
        runs: runs of this person; for the other arguments see :func:`compare_layers`.
    """
    kept: list[tuple[str, States]] = []
    for run in runs:
        (file,) = run["files"]
        if (states := read(file)) is not None:
            check_alike(base, states, file)
            kept.append((run["method"], states))
    rng = np.random.default_rng(seed)
    found: dict[str, list[Told]] = {}
    for _ in range(DIVISIONS):
        assigned = assign_folds(base.probes, folds, rng)
        own, control, others = scores_of(base, [states for _, states in kept], assigned, regularization, rng)
        names = [BASE, CONTROL, *(name for name, _ in kept)]
        for name, scores in zip(names, [own, control, *others], strict=True):
            found.setdefault(name, []).append(tell(scores, base.probes, assigned))
    return found


def compare_layers(
    runs: list[dict],
    folds: int,
    regularization: float,
    seed: int,
    bootstrap: dict,
    read: Callable[[str], States | None] = read_states,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """How well classifiers of the base model's states tell the target from its neighbours, by method and layer.

    Each test probe is scored by a classifier that was fit without its fold, on all dev probes and the other folds.
    Numbers are means over DIVISIONS into folds.

    Args:
        runs: one dict per run and person: target, method, seed, and ``files`` and ``base``, each with one file: the
            states of the kept model and of the base model.
        folds: the number of folds of test probes.
        regularization: as for :func:`fit`.
        seed: seed of folds and permutations.
        bootstrap: resamples and seed.

    Returns:
        COLUMNS in percent: rows for BASE, CONTROL (classifiers of permuted labels on the base model) and each method,
        with ``base`` for the same targets. A method whose models were not trained to the end has no rows. The second
        result says why a target is left out, by target.

    Raises:
        LayerError: if no target has enough probes, or states do not fit the base model's.
    """
    by_target: dict[str, list[dict]] = {}
    for run in runs:
        by_target.setdefault(run["target"], []).append(run)
    people, left_out = [], {}
    for target, of_target in by_target.items():
        (file,) = {file for run in of_target for file in run["base"]}
        base = read(file)
        if (count := 0 if base is None else fewest(base.probes)) < folds:
            left_out[target] = f"{count} test probes of one side that are asked in one way, for {folds} folds"
        elif base is not None:
            people.append(tell_person(base, of_target, folds, regularization, seed, read))
    if not people:
        target, why = next(iter(left_out.items()))
        raise LayerError(f"no target has probes enough ({target}: {why}); set layer_probe.folds lower")
    rows = []
    for method in dict.fromkeys([BASE, CONTROL, *(run["method"] for run in runs)]):
        found = [person for person in people if method in person]
        base_rows, own = (rows_of([person[name] for person in found], **bootstrap) for name in (BASE, method))
        beside = zip(own, base_rows, strict=True)
        rows += [{"method": method} | row | {"base": of_base["value"]} for row, of_base in beside]
    return pd.DataFrame(rows, columns=COLUMNS), left_out
