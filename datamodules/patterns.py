"""Generated images of which warp, albedo and shading are known: an emblem, bent, coloured and lit.

On them what a deforming autoencoder recovers can be measured. No photograph allows that: none comes with its true warp.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcgen.datamodules import _patterns as emblem
from pcgen.datamodules._images import ImageDataModule, Images
from pcgen.datamodules._splitted import check_not_negative
from pcgen.errors import ConfigurationError

_SPLITS = ("train", "val", "test")


class Patterns(ImageDataModule):
    """One coloured emblem, deformed and lit: images (3, S, S) in [0, 1], made in memory; nothing is read.

    Every image shows the same layout, a shield with a rim, four quarters, a disc, a triangle, a square, a ring and a
    bar on a plain ground, through a warp W of its own from the places of the image to those of the canonical frame:

        image(p) = albedo(W(p)) · shading(W(p)).

    Places are (x, y), −1 and 1 at the centres of the outermost pixels, x to the right and y downwards. The 14 factors
    are drawn independently and uniformly from [−1, 1] and given in `Batch.factors` (B, 14):

    - W(p) = p + Σ factor · amplitude · field(p), linear in its eight factors, so that the mean warp is the identity:
      `shift_x`, `shift_y` (0.10 of half the image's side), `turn` (tangent 0.18, 10 degrees, of a turn that also
      enlarges, by 1.6 % at most), `size` (10 %), and the nonrigid `bend` (x moved by 0.08 cos πy), `arch` (y moved by
      0.07 cos πx), `squeeze_x`, `squeeze_y` (0.07 sin πx, 0.07 sin πy). Along each axis the order of places is kept,
      the determinant of W stays positive, and the emblem stays whole.
    - The albedo has ten regions, each of one colour. `field`, `quarters`, `charges` and `rim` move the colours of two
      to four of them along fixed directions; all stay within [0.1, 0.8].
    - The shading is Lambert's, of a dome under a light from (0.6 `light_x`, 0.6 `light_y`, 1), with D = 0.6:

          shading(x, y) = (1 + 0.6 D (x light_x + y light_y)) / √(1 + D² (x² + y²)).

      It is 1 in the middle, between 0.2 and 1.32, and at most 1.27 on the emblem, so the product stays below 1.

    A pixel is the mean of 4 × 4 places spread over it, in steps of 1/255.

    Args:
        image_size: Side of the images in pixels, S.
        train_size: Images for training.
        val_size: Images for validation. With 0 the validation split IS the test split.
        test_size: Images for testing.
        batch_size: Images of a batch, on each process.
        pattern_seed: Decides the factors; splits never share an image, and a larger split begins with the same images.
        warp: Multiplies the amplitudes of the warp, in [0, 1]; 0 leaves every emblem in the canonical frame.
        shading: Multiplies the dome's slope D, in [0, 1]; 0 gives no shading: 1 everywhere.
        drop_last: Leave out a training batch smaller than the others.
        num_workers: Processes that gather; 0 is fastest for images in memory.
        seed: Decides shuffling.
    """

    factor_names = emblem.NAMES

    def __init__(
        self,
        image_size: int = 32,
        train_size: int = 5000,
        val_size: int = 500,
        test_size: int = 1000,
        batch_size: int = 64,
        pattern_seed: int = 0,
        warp: float = 1.0,
        shading: float = 1.0,
        drop_last: bool = False,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, drop_last=drop_last, num_workers=num_workers, seed=seed)
        if image_size < 8:
            raise ConfigurationError(f"image_size is {image_size}; the emblem needs 8 pixels or more")
        if min(train_size - 1, val_size, test_size - 1) < 0:
            raise ConfigurationError(
                f"train_size, val_size, test_size are {(train_size, val_size, test_size)}: at least 1, 0 and 1 are "
                "needed"
            )
        for name, strength in (("warp", warp), ("shading", shading)):
            if not 0 <= strength <= 1:
                raise ConfigurationError(f"{name} is {strength}; it is a strength in [0, 1]")
        check_not_negative(pattern_seed=pattern_seed)
        self.image_size, self.pattern_seed = image_size, pattern_seed
        self.warp, self.shading = warp, shading
        self.sizes = {"train": train_size, "val": val_size, "test": test_size}
        self.sample_shape = (3, image_size, image_size)

    def load(self) -> dict[str, Images]:
        """Draw the images."""
        splits = {name: self._make(k) for k, name in enumerate(_SPLITS) if self.sizes[name]}
        splits.setdefault("val", splits["test"])
        return splits

    def _make(self, k: int) -> Images:
        # Rounded before use, so that the factors of a batch are exactly those that the image was made with.
        factors = np.random.default_rng([self.pattern_seed, k]).uniform(-1, 1, (self.sizes[_SPLITS[k]], 14))
        rounded: NDArray[np.float32] = factors.astype(np.float32)
        return Images(emblem.draw(rounded, self.image_size, self.warp, self.shading), factors=rounded)

    def truth(self, split: str, n: int | None = None) -> dict[str, Tensor]:
        """Give warp, albedo, shading and landmarks of the images of `take(split, n)`.

        Args:
            split: `"train"`, `"val"` or `"test"`.
            n: How many; None for all.

        Returns:
            `"grid"` (n, S, S, 2), W at the pixels' centres; `"albedo"` (n, 3, S, S) and `"shading"` (n, 1, S, S), both
            in the canonical frame; `"landmarks"` (n, L, 2), the places of corners and centres of the emblem in the
            image, and `"template_landmarks"` (L, 2), those in the canonical frame; `"support"` (n, S, S), whether a
            pixel's centre shows the emblem and not the ground.
        """
        known = self.split(split).factors
        assert known is not None
        factors, S = known[self._rows(split, n)].astype(np.float64), self.image_size
        x, y = emblem.axes(emblem.centers(S))
        u, v = emblem.warp(x, y, factors, self.warp)
        return {
            "grid": _single(np.stack([u, v], axis=-1)),
            "albedo": _single(emblem.draw_albedo(factors, S)),
            "shading": _single(np.broadcast_to(emblem.shade(x, y, factors, self.shading), u.shape)[:, None]),
            "landmarks": _single(emblem.unwarp(emblem.LANDMARKS, factors, self.warp)),
            "template_landmarks": _single(emblem.LANDMARKS),
            "support": torch.from_numpy(emblem.level(u, v) <= 1),
        }


def _single(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))
