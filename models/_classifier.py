"""What all classifiers share: an encoder, dropout, one linear layer, cross-entropy and the confusion matrix."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from pcgen import __version__
from pcgen.base import Batch, DataModule, OptimizerFactory, SchedulerFactory, in_chunks, verb
from pcgen.errors import ConfigurationError
from pcgen.metrics import MeanOverData, data_name
from pcgen.metrics.extractors import Extractor, rounded_extractor, save_extractor
from pcgen.models._evaluation import Evaluated
from pcgen.models._labels import check_classes, labels_of
from pcgen.nets import Encoder
from pcgen.training.together import log_equal


class Classifier(Evaluated):
    """Features, dropout, and a linear layer to the classes.

    Logs `val/accuracy`, the share of the data that is classified rightly, and `val/mean_class_accuracy`, the mean of
    that share over the classes, so that each counts alike; both are exact for any number of processes.

    Args:
        encoder: Data (B, …) to features (B, F).
        num_classes: K.
        dropout: Share of the features that are left out at random in training.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer, stepped once an epoch.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        dropout: float,
        optimizer: OptimizerFactory,
        lr_scheduler: SchedulerFactory | None,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ConfigurationError(f"num_classes is {num_classes}; a classifier chooses among at least 2")
        if not 0 <= dropout < 1:
            raise ConfigurationError(f"dropout is {dropout}; it is a share of the features, in [0, 1)")
        self.encoder, self.num_classes, self.dropout = encoder, num_classes, dropout
        self.head = nn.Linear(encoder.out_features, num_classes)
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.mean_loss, self.counts = MeanOverData(1), MulticlassConfusionMatrix(num_classes, validate_args=False)

    # ── networks ──────────────────────────────────────────────────────────────────────────────────────────────────

    def logits(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Give log p(class | x) + constant (B, K) of data (B, …), with dropout if the model is in training mode.

        Args:
            x: Data.
            generator: Draws what is left out; None takes `step_generator()`.
        """
        features = self.encoder(x)  # (B, F)
        if self.training and self.dropout:
            chance = torch.rand(features.shape, generator=generator or self.step_generator())
            features = features * (chance >= self.dropout).to(features) / (1 - self.dropout)
        logits: Tensor = self.head(features)
        return logits

    # ── verbs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @verb
    def features(self, x: Tensor) -> Tensor:
        """Give the last layer before the classes (B, F) for data (B, …)."""
        return in_chunks(self.encoder, x, self.chunk_size)

    @verb
    def classify(self, x: Tensor) -> Tensor:
        """Give the probabilities (B, K) of the classes for data (B, …)."""
        return in_chunks(lambda part: self.logits(part).softmax(1), x, self.chunk_size)

    def export_extractor(
        self, path: str | Path, *, name: str, datamodule: DataModule | None = None, **known: Any
    ) -> Extractor:
        """Write the network as a feature extractor, for the Fréchet distance and its kin.

        Matrices are rounded to half precision; the accuracies in the card are those of the rounded network.

        Args:
            path: The file, some `.pt`.
            name: What scores will call it; it is part of their names.
            datamodule: The data of the training, to measure the accuracies on its validation and test splits; None
                leaves them out.
            known: What else the card shall say, as plain data.

        Returns:
            What `pcgen.metrics.extractor(path)` gives.

        Raises:
            ConfigurationError: If the model does not say what its data were: it has not been trained by a Trainer.
        """
        if self.data_info is None:
            raise ConfigurationError(f"this {type(self).__name__} does not know what data it was trained on: train it")
        card = {
            "name": name,
            "input": _input(self.data_info),
            "data": _public(self.data_info),
            "training": {"model": self.card()["model"], "version": __version__, **known},
        }
        if datamodule is not None:
            rounded = rounded_extractor(self.encoder, self.head, card)
            card["accuracy"] = {split: _accuracy(rounded, datamodule.take(split)) for split in ("val", "test")}
        return save_extractor(path, self.encoder, self.head, card)

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────────

    def setup(self, stage: str) -> None:
        """See that the data have the classes that the model tells apart."""
        super().setup(stage)
        check_classes(self, self.num_classes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Give −mean log p(label | x) of a batch."""
        label = labels_of(batch, self, self.num_classes)
        logits = self.logits(batch.x, generator=self.step_generator(batch_idx))
        loss = F.cross_entropy(logits, label)
        named: dict[str, Any] = {
            "train/loss": loss.detach(),
            "train/accuracy": (logits.argmax(1) == label).float().mean(),
        }
        self.log_dict(named, batch_size=len(label), on_step=False, on_epoch=True, sync_dist=True)
        self.log("loss", named["train/loss"], prog_bar=True, logger=False, batch_size=len(label))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 -- Lightning's signature
        """Count what is taken for what."""
        label = labels_of(batch, self, self.num_classes)
        logits = self.logits(batch.x)
        self.mean_loss.update(F.cross_entropy(logits, label)[None], len(label))
        self.counts.update(logits.argmax(1), label)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 -- Lightning's signature
        """Give the probabilities (B, K) of the classes."""
        return self.classify(batch.x)

    def log_evaluation(self, stage: str) -> None:
        """Log the loss and both accuracies."""
        loss, confusion = self.mean_loss.compute().squeeze(), self.counts.compute()
        self.mean_loss.reset()
        self.counts.reset()
        self.confusion = confusion
        overall, mean_class = accuracies(confusion)
        values = {"loss": loss, "accuracy": overall, "mean_class_accuracy": mean_class}
        log_equal(self, {f"{stage}/{name}": value for name, value in values.items()})


def _input(info: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the network was trained on, for those who bring it something else."""
    shape = info["sample_shape"]
    if len(shape) == 3:
        return {"kind": "images", "shape": shape}
    radius, up_axis = info["normalization"].get("radius"), info["up_axis"]
    if radius is None or up_axis is None or info["normalization"].get("scope") == "none":
        raise ConfigurationError(
            "an extractor brings clouds to the size and the up axis of its training, and these data do not say them: "
            "train on normalised clouds with a known up_axis"
        )
    return {"kind": "clouds", "num_points": shape[0], "radius": radius, "up_axis": up_axis}


def _public(info: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is known of the data, without the folders of the machine that they lay on."""
    path, arguments = info["recipe"]["class_path"], dict(info["recipe"]["init_args"])
    for key in {"path", "root", "cache"} & arguments.keys():
        arguments[key] = None if arguments[key] is None else Path(arguments[key]).name
    return {
        "name": data_name(path.rpartition(".")[2], {"recipe": info["recipe"]}),
        "class_names": info["class_names"],
        "normalization": info["normalization"],
        "recipe": {"class_path": path, "init_args": arguments},
    }


def _accuracy(rounded: Extractor, batch: Batch) -> dict[str, float | int]:
    """Measure what an extractor and its head get right."""
    assert batch.label is not None
    chosen = torch.cat([rounded.classify(part).argmax(1) for part in batch.x.split(64)])
    K = rounded.num_classes
    confusion = torch.bincount(batch.label * K + chosen, minlength=K * K).view(K, K)
    overall, mean_class = (round(float(value), 6) for value in accuracies(confusion))
    return {"data": len(chosen), "accuracy": overall, "mean_class_accuracy": mean_class}


def accuracies(confusion: Tensor) -> tuple[Tensor, Tensor]:
    """Give overall and mean class accuracy of a confusion matrix (K, K); classes without data are left out."""
    right, there = confusion.diag().float(), confusion.sum(1).float()
    present = there > 0
    return right.sum() / there.sum().clamp(min=1), (right[present] / there[present]).mean()
