"""A model's data: read from files or made again as in its training, brought to what the model knows, and back."""

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pcgen.cli.common import split_list
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import Batch, DataModule, GenerativeModel

FAR = 3  # times the model's own radius: a box's corners are at 1.7
_MADE: "WeakKeyDictionary[GenerativeModel, DataModule]" = WeakKeyDictionary()
Rows = slice | NDArray[np.int64]


@dataclass(frozen=True)
class ModelData:
    """Clouds or images as the model wants them, what is known of them, and the way back.

    Attributes:
        x: Clouds (K, N, 3), normalised as in the model's training, or images (K, C, H, W) in [0, 1]; on the CPU.
        center: Of each cloud (K, 3), in the file's units; None for images.
        scale: Of each cloud (K,); None for images.
        name: Of each datum.
        source: File or datamodule, for protocols and captions.
        split: The split that was taken, or None where there are none.
        label: Class indices (K,), or None where they are not known.
        factors: Generating factors (K, F), or None where they are not known.
        class_names: Of the labels.
        factor_names: F names.
    """

    x: "Tensor"
    center: NDArray[np.float64] | None
    scale: NDArray[np.float64] | None
    name: tuple[str, ...]
    source: str
    split: str | None
    label: "Tensor | None" = None
    factors: "Tensor | None" = None
    class_names: tuple[str, ...] = ()
    factor_names: tuple[str, ...] = ()

    @property
    def batch(self) -> "Batch":
        """What datamodules give: data, labels and factors."""
        from pcgen.base import Batch

        return Batch(self.x, self.label, self.factors)

    @property
    def place(self) -> str:
        """Where they come from, in words: the source and its split."""
        return f"{self.source} ({self.split})" if self.split else self.source

    def undo(self, x: "Tensor", rows: Rows = slice(None)) -> NDArray[np.float32]:
        """Put clouds (k, N, 3) back into the file's units; images are cut to [0, 1]."""
        if self.center is None or self.scale is None:
            return as_images(x)
        from pcgen.io import Normalization

        return Normalization(scope="none").undo(x.cpu().numpy(), self.center[rows], self.scale[rows])

    def row(self, word: str, flag: str) -> int:
        """Find the row that an option names, by its number or by its name.

        Raises:
            ConfigurationError: If there is none.
        """
        if word in self.name:
            return self.name.index(word)
        if word.isdecimal() and int(word) < len(self.x):
            return int(word)
        few = ", ".join(self.name[:3])
        raise ConfigurationError(
            f"{flag} {word}: {self.source} has rows 0 to {len(self.x) - 1}, and names such as {few}"
        )

    def rows(self, words: str, flag: str) -> list[int]:
        """Find the rows that an option names, separated by commas.

        Raises:
            ConfigurationError: If there is none, or one of them is not there.
        """
        found = [self.row(word, flag) for word in split_list(words)]
        if not found:
            raise ConfigurationError(f"{flag} {words}: name at least one row")
        return found

    def of_class(self, name: str, flag: str = "--class") -> NDArray[np.int64]:
        """Find the rows (k,) of a class that an option names.

        Raises:
            ConfigurationError: If no datum is known to be of that class.
        """
        if self.label is None or name not in self.class_names:
            known = "" if self.label is None else ", ".join(self.class_names)
            raise ConfigurationError(f"{flag} {name}: the classes known of {self.source} are {known or 'none'}")
        rows = np.flatnonzero(self.label.numpy() == self.class_names.index(name))
        if not len(rows):
            raise ConfigurationError(f"{flag} {name}: {self.place} holds none of that class")
        return rows


def is_images(model: "GenerativeModel") -> bool:
    """Say whether a model's data are images (C, H, W) and not clouds (N, 3)."""
    return len(data_shape(model)) == 3


def data_shape(model: "GenerativeModel") -> tuple[int, ...]:
    """Give the shape of a model's data: of what it makes, or of what a classifier was trained on.

    Raises:
        ConfigurationError: If nobody knows.
    """
    known = getattr(model, "sample_shape", None) or (model.data_info or {}).get("sample_shape")
    if known is None:
        raise ConfigurationError(
            f"this {type(model).__name__} does not say what data it was trained on, clouds or images: train it by a "
            "Trainer with a pcgen datamodule"
        )
    return tuple(known)


def as_images(x: "Tensor") -> NDArray[np.float32]:
    """Give what a model made as images: float32, on the CPU, cut to [0, 1] where the model does not keep to it."""
    images: NDArray[np.float32] = x.detach().float().clamp(0, 1).cpu().numpy()
    return images


def model_data(model: "GenerativeModel", arguments: argparse.Namespace, split: str | None = None) -> ModelData:
    """Read data for a model and normalise clouds as its training data were.

    Args:
        model: Knows its data's classes, points and normalisation.
        arguments: With `data`, `split`, `classes`, `normalize` and `seed`.
        split: Instead of the arguments' own.

    Raises:
        DataError: As `pcgen.io.read_clouds`, or if images are not of the model's shape.
        ConfigurationError: If there is no data to take.
    """
    split = split or arguments.split
    if arguments.data is None:
        return _training_data(model, arguments, split)
    found = _of_images(model, arguments, split) if is_images(model) else _of_clouds(model, arguments, split)
    assert found is not None
    return found


def train_split(model: "GenerativeModel", arguments: argparse.Namespace, split: str | None) -> ModelData | None:
    """Give the training split of the source that `model_data` read a split of; None where it has no other."""
    if split in {None, "train"}:
        return None
    if arguments.data is None:
        return _training_data(model, arguments, "train")
    of_kind = _of_images if is_images(model) else _of_clouds
    return of_kind(model, arguments, "train", missing_ok=True)


def _training_data(model: "GenerativeModel", arguments: argparse.Namespace, split: str | None) -> ModelData:
    if model.data_info is None:
        raise ConfigurationError("the checkpoint does not say what data it was trained on: name a file of data")
    if arguments.normalize is not None:
        raise ConfigurationError("--normalize is for the clouds of a file: name one, or leave it out")
    if arguments.classes is not None:
        raise ConfigurationError("--classes selects from a file: name one, or leave it out for the training data's own")
    split = split or "test"
    datamodule = datamodule_of(model, trust=arguments.trust)
    batch = datamodule.take(split)
    K, images = len(batch.x), is_images(model)
    return ModelData(
        batch.x,
        None if images else np.zeros((K, 3)),
        None if images else np.ones(K),
        tuple(f"{split}_{i:05d}" for i in range(K)),
        type(datamodule).__name__,
        split,
        batch.label,
        batch.factors,
        tuple(datamodule.class_names),
        tuple(datamodule.factor_names),
    )


def datamodule_of(model: "GenerativeModel", *, trust: bool) -> "DataModule":
    """Make the datamodule again that the model was trained on, which the model must know; once for each model."""
    from pcgen.recipe import build_data

    assert model.data_info is not None
    if model not in _MADE:
        datamodule: DataModule = build_data(model.data_info["recipe"], trust=trust)
        datamodule.prepare_data()
        datamodule.setup("test")
        _MADE[model] = datamodule
    return _MADE[model]


def _of_images(
    model: "GenerativeModel", arguments: argparse.Namespace, split: str | None, *, missing_ok: bool = False
) -> ModelData | None:
    from pcgen.cli.images import read_images

    if arguments.normalize is not None:
        raise ConfigurationError("--normalize is for clouds: this model makes images, which are in [0, 1] already")
    images = read_images(Path(arguments.data), data_shape(model))
    selected, split = _select(images, split, _classes(arguments, model), missing_ok=missing_ok)
    if selected is None:
        return None
    import torch

    return ModelData(
        torch.from_numpy(selected.images), None, None, selected.name, str(arguments.data), split, **_known(selected)
    )


def _of_clouds(
    model: "GenerativeModel", arguments: argparse.Namespace, split: str | None, *, missing_ok: bool = False
) -> ModelData | None:
    import torch

    clouds, split = read_selected(
        arguments.data, split, _classes(arguments, model), arguments.seed, missing_ok=missing_ok
    )
    if clouds is None:
        return None
    N = (model.data_info or {}).get("sample_shape", clouds.points.shape[1:])[0]
    if clouds.points.shape[1] > N:
        clouds = clouds.resample(N, seed=arguments.seed)
    x, center, scale = normalization(model, arguments.normalize).apply(clouds.points)
    _warn_far(model, x)
    return ModelData(torch.from_numpy(x), center, scale, clouds.name, str(arguments.data), split, **_known(clouds))


def _known(data: Any) -> dict[str, Any]:
    """What a file knows of its data."""
    import torch

    return {
        "label": None if data.label is None else torch.from_numpy(data.label),
        "factors": None if data.factors is None else torch.from_numpy(data.factors),
        "class_names": tuple(data.class_names),
        "factor_names": tuple(data.factor_names),
    }


def normalization(model: "GenerativeModel | None", asked: Literal["none", "ball", "box"] | None) -> Any:
    """Give the normalisation that was asked for, or else the one that a model's training data had."""
    from pcgen.io import Normalization

    plain = ((model.data_info if model is not None else None) or {}).get("normalization")
    if asked is not None and asked != "none":
        return Normalization(scope="shape", region=asked, radius=(plain or {}).get("radius", 1.0))
    return Normalization.from_plain(plain) if plain and asked is None else Normalization(scope="none")


def _warn_far(model: "GenerativeModel", x: NDArray[np.float32]) -> None:
    """Tell the user of clouds in other units than the model's: what it makes of them means nothing."""
    radius = ((model.data_info or {}).get("normalization") or {}).get("radius")
    reach = float(np.sqrt(np.square(x, dtype=np.float64).sum(-1).max()))
    if radius is not None and reach > FAR * radius:
        warnings.warn(
            f"the clouds reach {reach:.4g} from the origin and those that the model was trained on {radius:.4g}: "
            "--normalize ball (or box) brings them there",
            stacklevel=2,
        )


def read_selected(
    path: str | Path,
    split: str | None,
    classes: tuple[list[str], bool] | None,
    seed: int,
    *,
    missing_ok: bool = False,
) -> tuple[Any, str | None]:
    """Read clouds and keep a split and some classes.

    Args:
        path: Anything that `pcgen.io.read_clouds` reads.
        split: None takes the test split where there is one.
        classes: Names, and whether they were asked for; those that were not are passed over where the file lacks them.
        seed: For meshes, and for subsets of points.
        missing_ok: Give None instead of an error where there is no such split.

    Returns:
        The CloudSet and the split that was taken.
    """
    from pcgen.io import read_clouds

    return _select(read_clouds(path, seed=seed), split, classes, missing_ok=missing_ok)


def _select(
    data: Any, split: str | None, classes: tuple[list[str], bool] | None, *, missing_ok: bool
) -> tuple[Any, str | None]:
    """Keep a split and some classes of a CloudSet or an ImageSet, as `read_selected`."""
    if split is None and data.split is not None and "test" in data.split:
        split = "test"
    if missing_ok and (data.split is None or split not in data.split):
        return None, split
    names, asked = classes if classes is not None else (None, False)
    if names is not None and not asked and not set(names) <= set(data.class_names):
        names = None
    return data.select(split=split, classes=names), split


def _classes(arguments: argparse.Namespace, model: "GenerativeModel") -> tuple[list[str], bool] | None:
    if arguments.classes is not None:
        return split_list(arguments.classes), True
    trained = (model.data_info or {}).get("class_names")
    return (list(trained), False) if trained else None
