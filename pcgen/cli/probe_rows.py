"""What `pcgen probe` measures of each checkpoint: a row for its probe, and one for a classifier's own predictions."""

import argparse
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcgen.cli import common
from pcgen.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import GenerativeModel
    from pcgen.cli.modeldata import ModelData
    from pcgen.metrics.probe import Accuracy, ProbeResult
    from pcgen.metrics.robustness import Robustness

OWN_HEAD = "own head"


@dataclass
class Splits:
    """The two splits of a model's data, as it knows them, with labels of the same classes."""

    train: "ModelData"
    test: "ModelData"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty where the data have none."""
        return self.test.class_names


@dataclass
class Row:
    """One line of the table.

    Attributes:
        name: What the line is called.
        model: Class of the model.
        features: The verb that gave features, or `OWN_HEAD` where there was no probe.
        num_points: Points of a cloud, None for images.
        normalization: Of the clouds, as plain values.
        test: How well the test split was classified.
        result: Of the probe; None for a classifier's own head.
        robustness: None where it was not asked for, or the data are images.
        remarks: What a reader has to know.
    """

    name: str
    model: str
    features: str
    num_points: int | None
    normalization: dict[str, Any]
    test: "Accuracy"
    result: "ProbeResult | None" = None
    robustness: "Robustness | None" = None
    remarks: list[str] = field(default_factory=list)

    def to_plain(self) -> dict[str, Any]:
        """Give it as plain values."""
        from pcgen.metrics.probe import plain_accuracy

        scores = plain_accuracy(self.test) if self.result is None else self.result.to_plain()
        return {
            "model": self.model,
            "features": self.features,
            "num_points": self.num_points,
            "normalization": self.normalization,
            **scores,
            "robustness": None if self.robustness is None else self.robustness.to_plain(),
            "remarks": self.remarks,
        }


def splits_of(model: "GenerativeModel", arguments: argparse.Namespace) -> Splits:
    """Read the two splits of all classes that --data have, unless others were asked for, or of the training data.

    Raises:
        ConfigurationError: If there are not two splits, or the model's own data are of one class.
        DataError: If there are no labels.
    """
    from pcgen.cli.modeldata import model_data, train_split

    asked = copy.copy(arguments)
    if arguments.data is not None and arguments.classes is None:
        asked.classes = ",".join(_all_classes(model, arguments)) or None
    test = model_data(model, asked)
    train = train_split(model, asked, test.split)
    if train is None:
        raise ConfigurationError(
            f"{test.place}: a probe is fitted to a training split and tested on another; give data with splits, and "
            "not --split train"
        )
    if train.label is None or test.label is None:
        raise DataError(f"{test.source} has no labels, and a probe tells classes apart")
    if arguments.data is None and len(train.label.unique()) == 1:
        raise ConfigurationError(
            f"{test.source} has one class alone, and a probe tells classes apart: give data of several, --data FILE"
        )
    return Splits(_some(train, arguments), _some(test, arguments))


def _all_classes(model: "GenerativeModel", arguments: argparse.Namespace) -> tuple[str, ...]:
    from pathlib import Path

    from pcgen.cli.images import read_images
    from pcgen.cli.modeldata import data_shape, is_images
    from pcgen.io import catalog

    if is_images(model):
        return tuple(read_images(Path(arguments.data), data_shape(model)).class_names)
    return tuple(catalog(arguments.data).class_names)


def _some(data: "ModelData", arguments: argparse.Namespace) -> "ModelData":
    """Take -n data at random, with what the probe looks at."""
    from dataclasses import replace

    assert data.label is not None  # checked before
    rows = common.random_rows(data.x, arguments.n, arguments.seed)
    return replace(data, x=data.x[rows], label=data.label[rows])


def rows_of(name: str, model: "GenerativeModel", data: Splits, arguments: argparse.Namespace) -> Iterator[Row]:
    """Measure a checkpoint: a classifier's own predictions first, then the probe of its features."""
    if model.can("classify"):
        own = _own_classes(model, data)
        if isinstance(own, str):
            common.say(f"{name}: {own}")
        else:
            yield _own_head(f"{name}, {OWN_HEAD}", model, data, own, arguments)
    yield _probe(name, model, data, arguments)


def _own_classes(model: "GenerativeModel", data: Splits) -> "np.ndarray[Any, Any] | str":
    """Give the data's label of each class that a classifier knows, or say why its predictions do not count."""
    own = tuple((model.data_info or {}).get("class_names") or ())
    if not own or sorted(own) != sorted(data.class_names):
        known = ", ".join(own) or "none that have names"
        return f"no row for its own predictions: it was trained on the classes {known}, the data have others"
    return np.array([data.class_names.index(word) for word in own])


def _own_head(name: str, model: "GenerativeModel", data: Splits, own: Any, arguments: argparse.Namespace) -> Row:
    from pcgen.metrics.model_features import classes_of
    from pcgen.metrics.probe import score_predictions

    labels = _labels(data.test)
    with common.progress(f"{name}: classifying", len(labels)) as report:
        predicted = own[classes_of(model, data.test.x, progress=report)]
    test = score_predictions(labels, predicted, num_classes=len(data.class_names), seed=arguments.seed)
    row = Row(name, type(model).__name__, OWN_HEAD, *_input(model, data), test)
    _damage(row, model, data, lambda x: own[classes_of(model, x)], arguments)
    return row


def _probe(name: str, model: "GenerativeModel", data: Splits, arguments: argparse.Namespace) -> Row:
    from pcgen.metrics.model_features import feature_verb, features_of
    from pcgen.metrics.probe import linear_probe

    total = len(data.train.x) + len(data.test.x)
    with common.progress(f"{name}: features", total) as report:
        train = features_of(model, data.train.x, progress=lambda done, _: report(done, total))
        before = len(data.train.x)
        test = features_of(model, data.test.x, progress=lambda done, _: report(before + done, total))
    with common.progress(f"{name}: fitting") as report:
        result = linear_probe(
            train,
            _labels(data.train),
            test,
            _labels(data.test),
            class_names=data.class_names,
            costs=arguments.costs,
            folds=arguments.folds,
            seed=arguments.seed,
            progress=report,
        )
    verb = feature_verb(model)
    row = Row(name, type(model).__name__, verb, *_input(model, data), result.test, result)
    row.remarks += result.remarks
    _damage(row, model, data, lambda x: result.probe.predict(features_of(model, x)), arguments)
    return row


def _damage(
    row: Row, model: "GenerativeModel", data: Splits, predict: "Callable[[Tensor], Any]", arguments: argparse.Namespace
) -> None:
    """Add the curves of damage, where they are asked for and the data are clouds."""
    from pcgen.metrics.model_features import takes_any_number
    from pcgen.metrics.robustness import robustness

    if arguments.no_robustness:
        return
    if row.num_points is None:
        row.remarks.append("no curves of damage: they are for clouds, and these are images")
        return
    fixed = not takes_any_number(model, data.test.x)
    if fixed:
        row.remarks.append(
            f"the model takes clouds of {row.num_points} points alone: copies of others take the places of lost "
            "points, and outliers take places instead of being added"
        )
    levels = {name: getattr(arguments, name) for name in ("kept", "outliers", "jitter")}
    with common.progress(f"{row.name}: damage", sum(map(len, levels.values()))) as report:
        row.robustness = robustness(
            predict,
            data.test.x,
            _labels(data.test),
            **levels,
            outlier_std=arguments.outlier_std,
            same_number=fixed,
            seed=arguments.seed,
            progress=report,
        )


def _labels(data: "ModelData") -> Any:
    assert data.label is not None  # checked when they were read
    return data.label.numpy()


def _input(model: "GenerativeModel", data: Splits) -> tuple[int | None, dict[str, Any]]:
    """Give the number of points and the normalisation of what the model was shown."""
    from pcgen.cli.modeldata import is_images

    if is_images(model):
        return None, {}
    return int(data.test.x.shape[1]), dict((model.data_info or {}).get("normalization") or {})
