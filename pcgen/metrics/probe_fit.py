"""The linear classifier of a probe: standardised features, a path of costs, and cross-validation along it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcgen.errors import DataError
from pcgen.metrics.linear_svm import LinearSVM, fit_path

PATIENCE = 2  # costs in a row that are worse than the best before the dearer ones, which are the slowest, are left out
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Report = Callable[[float, float | None], None]


@dataclass(frozen=True)
class FittedProbe:
    """A linear classifier of features, standardised by the data it was fitted to.

    Attributes:
        mean: Of each feature (F,).
        scale: Deviation of each (F,), 1 for one that is constant.
        weight: (F, K').
        intercept: (K',).
        classes: The label that each of the K' columns stands for, ascending.
    """

    mean: Floats
    scale: Floats
    weight: Floats
    intercept: Floats
    classes: Labels

    def decision(self, features: ArrayLike) -> Floats:
        """Give how much speaks for each class (n, K') in features (n, F)."""
        x = checked_features(features, "given")
        if x.shape[1] != len(self.mean):
            raise DataError(f"features have {x.shape[1]} columns; this probe was fitted to {len(self.mean)}")
        scores: Floats = (x - self.mean) / self.scale @ self.weight + self.intercept
        return scores

    def predict(self, features: ArrayLike) -> Labels:
        """Give the labels (n,) of features (n, F)."""
        labels: Labels = self.classes[self.decision(features).argmax(axis=1)]
        return labels


def _standardization(x: Floats) -> tuple[Floats, Floats]:
    deviation = deviation_of(x)
    return x.mean(axis=0), np.where(deviation > 0, deviation, 1.0)


def deviation_of(x: Floats) -> Floats:
    """Give the deviation (F,) of each feature, 0 for one that differs by rounding alone."""
    deviation: Floats = x.std(axis=0)
    return np.where(deviation > 1e-7 * np.abs(x).max(axis=0), deviation, 0.0)  # float32 has seven digits


def _path(x: Floats, index: Labels, K: int, costs: Sequence[float]) -> Iterator[tuple[Floats, Floats, LinearSVM]]:
    """Give the standardisation of the data with the machine of each cost."""
    mean, scale = _standardization(x)
    for machine in fit_path((x - mean) / scale, index, K, costs):
        yield mean, scale, machine


def fit(x: Floats, index: Labels, classes: Labels, costs: Sequence[float]) -> tuple[FittedProbe, bool]:
    """Fit the machine of the last cost, on the way through the smaller ones."""
    *_, (mean, scale, machine) = _path(x, index, len(classes), costs)
    return FittedProbe(mean, scale, machine.weight, machine.intercept, classes), machine.converged


def cross_validate(
    x: Floats, index: Labels, K: int, costs: Sequence[float], dealt: Sequence[Labels], report: Report
) -> tuple[dict[float, float], list[float]]:
    """Give the mean accuracy over the folds of each cost that was tried, and the costs that were not fitted to the end.

    Args:
        x: (n, F).
        index: Classes (n,) from 0 to K − 1.
        K: Number of classes.
        costs: Ascending.
        dealt: Rows of each fold.
        report: Told of the progress.
    """
    outside = [np.setdiff1d(np.arange(len(x)), rows) for rows in dealt]
    paths = [_path(x[rows], index[rows], K, costs) for rows in outside]
    found: dict[float, float] = {}
    dull: list[float] = []
    for k, cost in enumerate(costs):
        shares = []
        for j, (path, rows) in enumerate(zip(paths, dealt, strict=True)):
            mean, scale, machine = next(path)
            scores = (x[rows] - mean) / scale @ machine.weight + machine.intercept
            shares.append(float((scores.argmax(axis=1) == index[rows]).mean()))
            dull += [] if machine.converged or cost in dull else [cost]
            report(k * len(dealt) + j + 1, 1 + len(costs) * len(dealt))
        found[cost] = float(np.mean(shares))
        best = max(found.values())
        if len(found) > PATIENCE and all(value < best for value in list(found.values())[-PATIENCE:]):
            break
    return found, dull


def deal(index: Labels, folds: int, seed: int) -> list[Labels]:
    """Deal the rows to the folds, those of each class evenly."""
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [rows for _, rows in splitter.split(np.zeros((len(index), 1)), index)]


def checked_features(given: ArrayLike, whose: str) -> Floats:
    """Give features (n, F) in float64, finite ones of at least one datum."""
    x = np.asarray(given, dtype=np.float64)
    if x.ndim != 2 or not x.size:
        raise DataError(f"{whose} features have shape {x.shape}; give (n, F) of at least one datum and one feature")
    bad = int((~np.isfinite(x)).any(axis=1).sum())
    if bad:
        raise DataError(f"features of {bad} of {len(x)} {whose} data hold NaN or infinity: the model has diverged")
    return x
