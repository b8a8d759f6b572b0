"""The simplest images with two factors: one white dot on black.

The experiment on which annealed β-VAEs are shown needs data whose only factors are known and independent, and here they
are the dot's place. (dSprites, Higgins et al. 2017, has more: shape, scale, rotation.)
"""

import numpy as np
from numpy.typing import NDArray

from pcgen.datamodules._images import ImageDataModule, Images
from pcgen.datamodules._splitted import check_not_negative
from pcgen.errors import ConfigurationError

Floats = NDArray[np.float64]

_SPLITS = ("train", "val", "test")
_CHUNK = 1024  # images drawn at once


class Dots(ImageDataModule):
    """One white dot of fixed size on black: images (1, S, S) in [0, 1], made in memory; nothing is read.

    The only factors are the dot's x and y, drawn independently and uniformly from [−1, 1] and given in
    `Batch.factors` (B, 2). x points to the right and y up. At (0, 0) the dot stands in the middle of the image; at ±1
    it touches the border and is still whole. In pixels from the upper left corner of the image its centre is

        S/2 + x (S/2 − radius) to the right,  S/2 − y (S/2 − radius) down.

    A pixel's value is the share of it that the disc covers, in steps of 1/255, so that the smallest movement shows.

    Args:
        image_size: Side of the images in pixels, S.
        radius: Of the dot, in pixels; less than half of S.
        train_size: Images for training.
        val_size: Images for validation. With 0 the validation split IS the test split.
        test_size: Images for testing.
        batch_size: Images of a batch, on each process.
        dot_seed: Decides where the dots are; splits never share one, and a larger split begins with the same dots.
        drop_last: Leave out a training batch smaller than the others.
        num_workers: Processes that gather; 0 is fastest for images in memory.
        seed: Decides shuffling.
    """

    factor_names = ("x", "y")

    def __init__(
        self,
        image_size: int = 32,
        radius: float = 3.0,
        train_size: int = 10000,
        val_size: int = 1000,
        test_size: int = 2000,
        batch_size: int = 64,
        dot_seed: int = 0,
        drop_last: bool = False,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, drop_last=drop_last, num_workers=num_workers, seed=seed)
        if not 0 < 2 * radius < image_size:
            raise ConfigurationError(
                f"radius is {radius} and image_size {image_size}: a dot of {2 * radius:g} pixels across cannot move in "
                "such an image; take 0 < radius < image_size / 2"
            )
        if min(train_size - 1, val_size, test_size - 1) < 0:
            raise ConfigurationError(
                f"train_size, val_size, test_size are {(train_size, val_size, test_size)}: at least 1, 0 and 1 are "
                "needed"
            )
        check_not_negative(dot_seed=dot_seed)
        self.image_size, self.radius, self.dot_seed = image_size, radius, dot_seed
        self.sizes = {"train": train_size, "val": val_size, "test": test_size}
        self.sample_shape = (1, image_size, image_size)

    def load(self) -> dict[str, Images]:
        """Draw the dots."""
        splits = {name: self._make(k) for k, name in enumerate(_SPLITS) if self.sizes[name]}
        splits.setdefault("val", splits["test"])
        return splits

    def _make(self, k: int) -> Images:
        place = np.random.default_rng([self.dot_seed, k]).uniform(-1, 1, (self.sizes[_SPLITS[k]], 2))
        return Images(draw_dots(place, self.image_size, self.radius), factors=place.astype(np.float32))


def draw_dots(place: Floats, size: int, radius: float) -> NDArray[np.uint8]:
    """Draw one disc an image.

    Args:
        place: x to the right and y up, in [−1, 1] (K, 2); ±1 touches the border.
        size: Side of the images in pixels, S.
        radius: In pixels.

    Returns:
        The share of each pixel that the disc covers (K, S, S), 255 for all of it.
    """
    center = size / 2 + np.array([1.0, -1.0]) * place * (size / 2 - radius)  # (K, 2): from the left, from the top
    pixels = np.zeros((len(place), size, size), np.uint8)
    wide = min(size, int(np.ceil(2 * radius)) + 1)  # as many pixels in a row as a disc may touch
    corner = np.clip(np.floor(center - radius), 0, size - wide).astype(np.int64)  # (K, 2): column, row
    step = np.arange(wide)
    for start in range(0, len(place), _CHUNK):
        part = slice(start, start + _CHUNK)
        column, row = corner[part, :1] + step, corner[part, 1:] + step  # (k, W)
        share = _covered(center[part] - corner[part], wide, radius)  # (k, W, W)
        image = np.arange(len(place))[part, None, None]
        pixels[image, row[:, :, None], column[:, None, :]] = np.rint(255 * share)
    return pixels


def _covered(center: Floats, wide: int, radius: float) -> Floats:
    """Give the share of each of W × W pixels (k, W, W) that discs at (k, 2), from the left and the top, cover."""
    edge = np.arange(wide + 1.0)
    a = np.clip(edge - center[:, :1], -radius, radius)[:, None, :]  # (k, 1, W + 1): of columns, from the centre
    b = np.clip(edge - center[:, 1:], -radius, radius)[:, :, None]  # (k, W + 1, 1): of rows
    below = _corner_area(a, b, radius)  # (k, W + 1, W + 1)
    covered: Floats = np.diff(np.diff(below, axis=1), axis=2)
    return covered


def _corner_area(a: Floats, b: Floats, radius: float) -> Floats:
    """Give the area of the part X <= a, Y <= b of a disc about the origin, exactly, for a and b in [−radius, radius].

    If the corner (a, b) lies in the disc, the part is a sector, a rectangle and two triangles. If not, the lines meet
    outside, and the part is what one of them, or both, leave of the disc.
    """
    whole = np.pi * radius**2
    left, down = _cut_area(a, radius), _cut_area(b, radius)
    inside = a * b + (left + down) / 2 - whole / 4
    outside = np.where(a < 0, np.where(b < 0, 0.0, left), np.where(b < 0, down, left + down - whole))
    area: Floats = np.where(a**2 + b**2 < radius**2, inside, outside)
    return area


def _cut_area(a: Floats, radius: float) -> Floats:
    """Give the area of the part X <= a of a disc about the origin."""
    area: Floats = radius**2 * (np.pi / 2 + np.arcsin(a / radius)) + a * np.sqrt(radius**2 - a**2)
    return area
