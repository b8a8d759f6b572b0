"""What all datamodules of images share: splits kept as bytes, and batches of them in [0, 1]."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pcgen.base import Batch
from pcgen.datamodules._loading import Draw
from pcgen.datamodules._splits import choose_rows
from pcgen.datamodules._splitted import SplitDataModule
from pcgen.errors import DataError

Ints = NDArray[np.int64]


class Images:
    """Images of one split as bytes, a quarter of the memory of float32, with what is known of each.

    Args:
        pixels: (K, H, W) of one channel or (K, C, H, W), uint8; 255 is 1.
        label: (K,) int64, or None.
        factors: (K, F) float32, or None.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], label: Ints | None = None, factors: NDArray[np.float32] | None = None
    ) -> None:
        self.pixels = pixels[:, None] if pixels.ndim == 3 else pixels  # (K, C, H, W)
        self.label, self.factors = label, factors

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def digit(self) -> Ints:
        """The labels, of images that have some."""
        if self.label is None:
            raise DataError("these images have no labels")
        return self.label

    def select(self, rows: Ints) -> "Images":
        """Give some of the images."""
        return Images(
            self.pixels[rows],
            None if self.label is None else self.label[rows],
            None if self.factors is None else self.factors[rows],
        )

    def batch(self, rows: Ints) -> Batch:
        """Give chosen images (B, C, H, W) in [0, 1] with what is known of them."""
        # NumPy gathers and divides on one thread and in one pass: faster than torch for so little, see
        # benchmarks/images.py
        x = np.divide(self.pixels.take(rows, axis=0), np.float32(255), dtype=np.float32)
        return Batch(
            torch.from_numpy(x),
            None if self.label is None else torch.from_numpy(self.label.take(rows)),
            None if self.factors is None else torch.from_numpy(self.factors.take(rows, axis=0)),
        )


class ImageBatches(Dataset[Batch]):
    """A split whose items are batches.

    Args:
        images: The split.
        batch_size: Of the batches by number, which is what Lightning's `overfit_batches` asks for.
    """

    def __init__(self, images: Images, batch_size: int) -> None:
        self.images, self.batch_size = images, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, draw: Draw | int) -> Batch:
        if isinstance(draw, int):
            draw = Draw(np.arange(len(self.images))[draw * self.batch_size : (draw + 1) * self.batch_size])
        return self.images.batch(draw.rows)


class ImageDataModule(SplitDataModule[Images]):
    """Base of datamodules of images; a subclass says in `load` where they come from.

    A batch is one gather; its images depend on (seed, epoch, process, batch) alone, so a resumed run repeats exactly
    what the first one would have done.

    Args:
        batch_size: Images of a batch, on each process.
        drop_last: Leave out a training batch smaller than the others.
        num_workers: Processes that gather; 0 is fastest for images in memory.
        seed: Decides shuffling.
    """

    def __init__(self, batch_size: int, *, drop_last: bool, num_workers: int, seed: int) -> None:
        super().__init__(batch_size, drop_last=drop_last, num_workers=num_workers, seed=seed)
        self.normalization = {}

    @abstractmethod
    def load(self) -> dict[str, Images]:
        """Find the images of `"train"`, `"val"` and `"test"`, labelled by `class_names` where there are classes."""

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002 -- all splits are small
        """Find and divide the images, once."""
        if not self._splits:
            self._splits = self.load()

    def _batches(self, name: str) -> ImageBatches:
        return ImageBatches(self.split(name), self.batch_size)

    def take(self, split: str, n: int | None = None, *, seed: int | None = None) -> Batch:
        """Give fixed data of one split; see `pcgen.base.DataModule.take`."""
        return self.split(split).batch(self._rows(split, n, seed))

    def _rows(self, split: str, n: int | None, seed: int | None = None) -> Ints:
        """Give the rows of a split that `take` gives."""
        images = self.split(split)
        label = None if images.label is None else torch.from_numpy(images.label)
        return choose_rows(len(images), label, n, seed)


def require_classes(splits: Mapping[str, Images], class_names: Sequence[str], source: str) -> None:
    """Refuse data in which a split has no image of a class that was asked for.

    Raises:
        DataError: With the class, the split and the remedy.
    """
    for name, images in splits.items():
        counts = np.bincount(images.digit, minlength=len(class_names))
        absent = [c for c, count in zip(class_names, counts, strict=True) if not count]
        if absent:
            remedy = "" if name == "test" else ", or change the share that is held out (validation)"
            raise DataError(
                f"{source} has no image of class {', '.join(absent)} in its {name} split: leave it out of "
                f"classes{remedy}"
            )
