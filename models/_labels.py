"""What every model that learns from labels asks of its data."""

from torch import Tensor

from pcgen.base import Batch, DataModule, GenerativeModel
from pcgen.errors import ConfigurationError, DataError


def check_classes(model: GenerativeModel, num_classes: int) -> None:
    """See that the trainer's data have the classes that the model tells apart.

    Raises:
        ConfigurationError: If they have other classes, with both numbers.
    """
    datamodule = getattr(model.trainer, "datamodule", None)
    names = datamodule.class_names if isinstance(datamodule, DataModule) else ()
    if names and len(names) != num_classes:
        raise ConfigurationError(
            f"num_classes is {num_classes} and the data have {len(names)} classes ({', '.join(names)}): "
            f"set the model's num_classes to {len(names)}"
        )


def labels_of(batch: Batch, model: GenerativeModel, num_classes: int) -> Tensor:
    """Give the labels (B,) of a batch.

    Raises:
        DataError: If there are none, or one is beyond the model's classes.
    """
    if batch.label is None:
        raise DataError(f"{type(model).__name__} learns from labels, and these data have none")
    wrong = batch.label[(batch.label < 0) | (batch.label >= num_classes)]
    if len(wrong):
        raise DataError(f"the data have a label {int(wrong[0])}, and the model's num_classes is {num_classes}")
    return batch.label
