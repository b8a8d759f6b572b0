"""The linear probe: how well a linear classifier tells classes apart by features that were learnt without labels.

The protocol of J. Xie, Y. Xu, Z. Zheng, S.-C. Zhu, Y. N. Wu: Generative PointNet, CVPR 2021,
https://arxiv.org/abs/2004.01301, as far as it can be followed; `DEVIATIONS` says where it is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics.bootstrap import Interval, bootstrap_interval
from pcgen.metrics.probe_fit import (
    FittedProbe,
    Floats,
    Labels,
    Report,
    checked_features,
    cross_validate,
    deal,
    deviation_of,
    fit,
)

DEFAULT_COSTS = (1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0)
# Against the authors' code, github.com/fei960922/GPointNet, tools/classification_torch.py.
DEVIATIONS = (
    "C is chosen by cross-validation on the training split, published: C and one of six solvers by the test split",
    "features are standardised by the training split's mean and deviation, published: taken as they are",
    "squared hinge loss (LinearSVC's default), published: of six solvers the hinge loss at C = 0.01",
    "clouds are normalised as the model's own training data, published: by the range of all training coordinates",
    "models know their own number of points, published: 2048",
)


class Accuracy(NamedTuple):
    """How well labels were predicted.

    Attributes:
        accuracy: Share of the data that are right.
        mean_class_accuracy: Mean over the classes that occur of the share of each that is right.
        interval: 95 % of a bootstrap over the data, of the accuracy.
        confusion: (K, K), row i column j: data of class i taken for class j.
    """

    accuracy: float
    mean_class_accuracy: float
    interval: Interval
    confusion: Labels


@dataclass(frozen=True)
class ProbeResult:
    """What a linear probe found.

    Attributes:
        test: On the test split.
        train_accuracy: Share of the training split that is right: how far the features can be told apart at all.
        cost: C that was chosen.
        cross_validation: Mean accuracy of the folds by C, for those that were tried.
        folds: Of the cross-validation.
        num_train: Training data.
        num_test: Test data.
        num_features: F.
        num_constant: Features that are the same for all training data, which no probe can use.
        class_names: Of the K classes.
        probe: Classifies further features.
        remarks: What a reader has to know, each a sentence without a full stop.
    """

    test: Accuracy
    train_accuracy: float
    cost: float
    cross_validation: dict[float, float]
    folds: int
    num_train: int
    num_test: int
    num_features: int
    num_constant: int
    class_names: tuple[str, ...]
    probe: FittedProbe
    remarks: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """Share of the test split that is right."""
        return self.test.accuracy

    @property
    def mean_class_accuracy(self) -> float:
        """Mean over the classes of the test split of the share of each that is right."""
        return self.test.mean_class_accuracy

    @property
    def interval(self) -> Interval:
        """Of the accuracy, 95 % of a bootstrap over the test data."""
        return self.test.interval

    @property
    def confusion(self) -> Labels:
        """(K, K) of the test split, row i column j: data of class i taken for class j."""
        return self.test.confusion

    def to_plain(self) -> dict[str, Any]:
        """Give it as plain values, without the probe's weights."""
        names = ("train_accuracy", "cost", "folds", "num_train", "num_test", "num_features", "num_constant")
        return {
            **plain_accuracy(self.test),
            **{name: getattr(self, name) for name in names},
            "cross_validation": [{"cost": c, "accuracy": a} for c, a in self.cross_validation.items()],
            "remarks": list(self.remarks),
        }


def plain_accuracy(found: Accuracy) -> dict[str, Any]:
    """Give an accuracy as plain values."""
    return {**found._asdict(), "interval": list(found.interval), "confusion": found.confusion.tolist()}


def linear_probe(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    class_names: Sequence[str] = (),
    costs: Sequence[float] = DEFAULT_COSTS,
    folds: int = 5,
    seed: int = 0,
    progress: Report | None = None,
) -> ProbeResult:
    """Fit a linear support vector machine to features and say how well it classifies others.

    Features are standardised by the mean and deviation of what the machine is fitted to. Each class is told from the
    rest by a machine of its own, as in scikit-learn's `LinearSVC` with its defaults, see `pcgen.metrics.linear_svm`.
    The cost C is the one of best accuracy in a stratified cross-validation within the training data, the smallest
    where several are best; costs are tried in ascending order until two in a row do worse than the best. The test
    data decide nothing.

    Args:
        train_features: (n, F).
        train_labels: (n,) whole numbers from 0.
        test_features: (m, F).
        test_labels: (m,).
        class_names: Of labels 0, 1, …; none takes their numbers.
        costs: Values of C to choose from.
        folds: Of the cross-validation; fewer if a class has fewer training data, which is remarked.
        seed: Deals the data to the folds, and is that of the bootstrap.
        progress: Called with how many fits are done and of how many.

    Raises:
        DataError: If features are not finite or of other shapes than these; if there is only one class, or a single
            datum of one; if a label has no name, or the training data lack one of the test's.
        ConfigurationError: If a cost is not above 0, or there are fewer than two folds.
    """
    costs = _checked_costs(costs)
    x, other = checked_features(train_features, "training"), checked_features(test_features, "test")
    if x.shape[1] != other.shape[1]:
        raise DataError(f"training data have {x.shape[1]} features and test data {other.shape[1]}; give the same")
    y, expected = _checked_labels(train_labels, x, "training"), _checked_labels(test_labels, other, "test")
    names = _names(class_names, y, expected)
    classes, index, counts = np.unique(y, return_inverse=True, return_counts=True)
    used, remarks = _usable_folds(folds, counts, [names[k] for k in classes])
    dealt = deal(index, used, seed)
    report = progress or (lambda done, total: None)  # noqa: ARG005 -- nobody watches
    found, dull = cross_validate(x, index, len(classes), costs, dealt, report)
    cost = max(found, key=lambda c: (found[c], -c))
    probe, converged = fit(x, index, classes, [c for c in costs if c <= cost])
    report(1 + len(costs) * used, 1 + len(costs) * used)
    return ProbeResult(
        test=score_predictions(expected, probe.predict(other), num_classes=len(names), seed=seed),
        train_accuracy=float((probe.predict(x) == y).mean()),
        cost=cost,
        cross_validation=found,
        folds=used,
        num_train=len(x),
        num_test=len(other),
        num_features=x.shape[1],
        num_constant=int((deviation_of(x) == 0).sum()),
        class_names=names,
        probe=probe,
        remarks=(*remarks, *_remarks(found, costs, cost), *_unfinished([*dull, *([] if converged else [cost])])),
    )


def score_predictions(labels: ArrayLike, predicted: ArrayLike, *, num_classes: int, seed: int = 0) -> Accuracy:
    """Compare predicted labels (m,) with the true ones (m,).

    Args:
        labels: From 0 to K − 1.
        predicted: As labels.
        num_classes: K.
        seed: Of the bootstrap.
    """
    y, z = np.asarray(labels, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (y, z), 1)
    there = confusion.sum(axis=1)
    right = np.diagonal(confusion)[there > 0] / there[there > 0]
    interval = bootstrap_interval(torch.from_numpy((y == z).astype(np.float64)), seed=seed)
    return Accuracy(float((y == z).mean()), float(right.mean()), interval, confusion)


# ── checks and remarks ────────────────────────────────────────────────────────────────────────────────────────────────


def _checked_labels(given: ArrayLike, x: Floats, whose: str) -> Labels:
    labels = np.asarray(given)
    if labels.shape != (len(x),) or not (np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0):
        raise DataError(
            f"{whose} labels are {labels.dtype} {labels.shape} for {len(x)} data; give a whole number from 0 for each"
        )
    return labels.astype(np.int64)


def _checked_costs(costs: Sequence[float]) -> tuple[float, ...]:
    if not len(costs) or not all(np.isfinite(c) and c > 0 for c in costs):
        raise ConfigurationError(f"costs are {list(costs)}; give numbers above 0, such as 0.001, 0.01, 0.1")
    return tuple(sorted({float(c) for c in costs}))


def _names(given: Sequence[str], train: Labels, test: Labels) -> tuple[str, ...]:
    """Give a name for every class, and see that the labels can be learnt."""
    highest = int(max(train.max(), test.max()))
    if given and highest >= len(given):
        raise DataError(f"there is a label {highest}, but only {len(given)} class names: {', '.join(given)}")
    names = tuple(given) or tuple(str(k) for k in range(highest + 1))
    known = np.unique(train)
    if len(known) < 2:
        raise DataError(f"all training data are of class {names[known[0]]}; a probe tells at least two classes apart")
    strange = [names[k] for k in np.setdiff1d(test, known)]
    if strange:
        raise DataError(f"test data are of class {', '.join(strange)}, of which there are no training data")
    return names


def _usable_folds(folds: int, counts: Labels, names: Sequence[str]) -> tuple[int, list[str]]:
    if folds < 2:
        raise ConfigurationError(f"folds is {folds}; cross-validation wants at least 2")
    least = int(counts.min())
    rarest = names[int(counts.argmin())]
    if least < 2:
        raise DataError(f"class {rarest} has a single training datum; C is chosen on others than it is fitted to: two")
    if least >= folds:
        return folds, []
    return least, [f"{least} folds instead of {folds}: class {rarest} has only {least} training data"]


def _remarks(found: Mapping[float, float], costs: Sequence[float], cost: float) -> list[str]:
    """Say if the best C is at an end of those given, and better than the one beside it."""
    if len(costs) == 1 or cost not in (costs[0], costs[-1]):
        return []
    if found[costs[1] if cost == costs[0] else costs[-2]] == found[cost]:
        return []
    end, further = ("smallest", "a smaller") if cost == costs[0] else ("largest", "a larger")
    return [f"C = {cost:g} is the {end} of those given; {further} one may do better"]


def _unfinished(costs: Sequence[float]) -> list[str]:
    if not costs:
        return []
    which = ", ".join(f"{c:g}" for c in sorted(set(costs)))
    return [f"the fit of C = {which} did not converge: its accuracy is that of weights on the way"]
