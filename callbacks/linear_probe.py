"""How well a linear classifier tells classes apart by what a model has learnt without them."""

import math

import torch
from pytorch_lightning import LightningModule, Trainer

from pcgen.base import Batch, GenerativeModel
from pcgen.callbacks._picture import Drawing, Picture, Table, at_least, check_split, datamodule_of, warn
from pcgen.errors import ConfigurationError
from pcgen.metrics.model_features import features_of
from pcgen.metrics.probe import DEFAULT_COSTS, ProbeResult, linear_probe
from pcgen.viz import draw_confusion


class LinearProbe(Picture):
    """Fits a linear classifier to the features of training data and draws which class it takes for which.

    Features are those of the model, or its codes where it has none, standardised; the classifier is a linear support
    vector machine whose C is chosen by cross-validation on the training split. Logged are `probe/accuracy`,
    `probe/mean_class_accuracy` (the mean over the classes of the share of each that is right) and
    `probe/train_accuracy`; the confusion matrix is in `linear_probe.csv` in the run's folder.

    Args:
        every_n_epochs: Probe after every n-th epoch; 0 for the end of the training alone.
        train_split: Of the datamodule, that the classifier is fitted to.
        split: That it is tested on; another one.
        num_train: Data to fit it to; None for all.
        num_test: Data to test it on; None for all.
        costs: Values of C to choose from; None for ten from 1e-5 to 10.
        folds: Of the cross-validation.
        seed: Chooses the data and deals them to the folds.
    """

    name = "linear_probe"

    def __init__(
        self,
        every_n_epochs: int = 0,
        train_split: str = "train",
        split: str = "val",
        num_train: int | None = 2000,
        num_test: int | None = None,
        costs: list[float] | None = None,
        folds: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(every_n_epochs)
        at_least(2, folds=folds)
        at_least(0, seed=seed)
        for name, value, least in (("num_train", num_train, 4), ("num_test", num_test, 1)):
            if value is not None:
                at_least(least, **{name: value})
        if costs is not None and not (len(costs) and all(0 < cost < math.inf for cost in costs)):
            raise ConfigurationError(f"costs is {costs}; give numbers above 0, such as [0.001, 0.01, 0.1]")
        if split == train_split:
            raise ConfigurationError(
                f"split and train_split are both {split!r}; a classifier is tested on data that it was not fitted to"
            )
        self.train_split, self.split, self.num_train, self.num_test = train_split, split, num_train, num_test
        self.costs, self.folds, self.seed = list(DEFAULT_COSTS if costs is None else costs), folds, seed
        self._remarked: set[str] = set()

    def unable(self, model: GenerativeModel) -> str | None:
        """Refuse a model that has neither features nor codes."""
        if model.can("features") or model.can("encode"):
            return None
        return str(model.unsupported("features")).removeprefix(f"{type(model).__name__} ")

    def check(self, trainer: Trainer) -> None:
        """See that the splits are there, and that their data have labels of at least two classes."""
        for split in (self.train_split, self.split):
            check_split(trainer, self, split)
        labels = self._take(trainer, self.train_split, self.num_train).label
        found = 0 if labels is None else len(torch.unique(labels))
        if found < 2:
            what = "no labels" if labels is None else "labels of one class alone"
            raise ConfigurationError(
                f"LinearProbe: the data of split {self.train_split!r} have {what}; it tells at least two classes apart"
            )

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Fit, test and draw the confusion matrix."""
        assert isinstance(model, GenerativeModel)
        found = self.measure(trainer, model)
        for remark in found.remarks:
            if remark not in self._remarked:
                self._remarked.add(remark)
                warn(trainer, f"LinearProbe: {remark}")
        names = found.class_names
        title = f"linear probe: {100 * found.accuracy:.1f} % of split {self.split} (epoch {epoch})"
        rows = [[name, *row] for name, row in zip(names, found.confusion.tolist(), strict=True)]
        numbers = {
            "probe/accuracy": found.accuracy,
            "probe/mean_class_accuracy": found.mean_class_accuracy,
            "probe/train_accuracy": found.train_accuracy,
        }
        image = draw_confusion(found.confusion, names, title=title)
        return Drawing(image, table=Table(self.name, ("is", *names), rows), numbers=numbers)

    def measure(self, trainer: Trainer, model: GenerativeModel) -> ProbeResult:
        """Fit the classifier and test it.

        Raises:
            DataError: If the data or the features are not such as `pcgen.metrics.probe.linear_probe` takes.
        """
        train = self._take(trainer, self.train_split, self.num_train)
        test = self._take(trainer, self.split, self.num_test)
        assert train.label is not None and test.label is not None  # noqa: PT018 -- one check of the data, made before
        return linear_probe(
            features_of(model, train.x),
            train.label.numpy(),
            features_of(model, test.x),
            test.label.numpy(),
            class_names=datamodule_of(trainer, self).class_names,
            costs=self.costs,
            folds=self.folds,
            seed=self.seed,
        )

    def _take(self, trainer: Trainer, split: str, n: int | None) -> Batch:
        return datamodule_of(trainer, self).take(split, n, seed=self.seed)
