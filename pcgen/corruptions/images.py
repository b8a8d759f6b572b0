"""Damage to images: single pixels, rectangles."""

import torch
from torch import Tensor

from pcgen.corruptions.base import Chance, Corruption, check_share
from pcgen.errors import ConfigurationError, DataError


class SaltAndPepper(Corruption):
    """Turns each pixel white or black, with equal chance, with the probability `share`; all channels of it at once.

    Args:
        share: Expected share of pixels, in [0, 1).
        max_share: If given, each image has a share of its own, uniform between `share` and this.
    """

    clouds = False

    def __init__(self, share: float, max_share: float | None = None) -> None:
        super().__init__()
        self.high = check_share("SaltAndPepper", share, max_share)
        self.share = share

    def corrupt(self, x: Tensor, chance: Chance) -> Tensor:
        """Give images with white and black pixels."""
        B, _, H, W = x.shape
        share = chance.uniform(B, 1, 1, 1, low=self.share, high=self.high)
        u = chance.uniform(B, 1, H, W)
        # one draw decides both: below half the share black, between half and the whole share white
        return torch.where(u < share, (u >= share / 2).to(x.dtype), x)


class EraseRectangle(Corruption):
    """Fills a rectangle of every image with one value; what was there is to be completed.

    Height and width are drawn independently as shares of the image's, uniform between two bounds and rounded to whole
    pixels, at least one; then the place, uniform among those where the rectangle lies whole in the image.

    Args:
        min_side: Smallest side, as a share of the image's side, above 0.
        max_side: Largest side, below 1.
        value: That the rectangle is filled with, in [0, 1]. What is black on a black ground does not show where it is;
            0.5 does.
    """

    clouds = False

    def __init__(self, min_side: float = 0.25, max_side: float = 0.5, value: float = 0.0) -> None:
        super().__init__()
        if not 0 < min_side <= max_side < 1:
            raise ConfigurationError(
                f"EraseRectangle(min_side={min_side}, max_side={max_side}): 0 < min_side <= max_side < 1 is needed"
            )
        if not 0 <= value <= 1:
            raise ConfigurationError(f"EraseRectangle(value={value}): images are in [0, 1]")
        self.min_side, self.max_side, self.value = min_side, max_side, value

    def corrupt(self, x: Tensor, chance: Chance) -> Tensor:
        """Give images with a rectangle each of one value."""
        B, _, H, W = x.shape
        if all(max(1, round(self.max_side * size)) >= size for size in (H, W)):
            raise DataError(
                f"EraseRectangle with max_side {self.max_side} can erase the whole of an image of {H} × {W} pixels: "
                "lower it"
            )
        rows, columns = self._within(B, H, chance), self._within(B, W, chance)
        erased = rows[:, None, :, None] & columns[:, None, None, :]  # (B, 1, H, W)
        return x.masked_fill(erased, self.value)

    def _within(self, B: int, size: int, chance: Chance) -> Tensor:
        """Draw an interval of each image's side, as a mask (B, size)."""
        share = chance.uniform(B, 1, low=self.min_side, high=self.max_side)
        length = (share * size).round_().long().clamp_min_(1)  # (B, 1)
        start = chance.below(size - length + 1, B, 1)
        place = torch.arange(size, device=start.device)
        return (place >= start) & (place < start + length)
