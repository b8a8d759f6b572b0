"""Damage to clouds: outliers, dropped points, parts cut away.

The number of points stays: the places of points that are removed are taken by copies of kept ones, drawn at random
for each place. Kept points stay where they were in the order.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from pcgen.corruptions.base import Chance, Corruption, check_share
from pcgen.errors import ConfigurationError, DataError


class _ShareOfPoints(Corruption):
    """Base of what does something to a share of every cloud's points."""

    images = False

    def __init__(self, share: float, max_share: float | None = None) -> None:
        super().__init__()
        self.high = check_share(type(self).__name__, share, max_share)
        self.share = share

    def counts(self, x: Tensor, chance: Chance) -> Tensor:
        """Draw how many points of each cloud (B, 1) are to go, int64: the share of N, rounded."""
        B, N, _ = x.shape
        if (1 - self.high) * N < 1 - 1e-9:  # tolerant: 0.9 of 10 points leaves one, as it is meant to
            raise DataError(
                f"{type(self).__name__} with a share of {self.high} leaves less than one of N = {N} points: lower it, "
                "or take more points"
            )
        share = chance.uniform(B, 1, low=self.share, high=self.high)
        return (share * N).round_().long().clamp_(max=N - 1)


class _Removal(_ShareOfPoints):
    """Base of what removes the points that a subclass gives the highest scores."""

    def corrupt(self, x: Tensor, chance: Chance) -> Tensor:
        """Replace the points of highest score by copies of others."""
        kept = x.shape[1] - self.counts(x, chance)  # (B, 1)
        return keep_lowest(x, self.score(x, chance), kept, chance)

    @abstractmethod
    def score(self, x: Tensor, chance: Chance) -> Tensor:
        """Give a number (B, N) for each point; the highest go."""


class DropPoints(_Removal):
    """Drops a share of every cloud's points at random; copies of kept points take their places.

    Args:
        share: Of the points, in [0, 1); rounded to whole points.
        max_share: If given, each cloud has a share of its own, uniform between `share` and this.
    """

    def score(self, x: Tensor, chance: Chance) -> Tensor:
        """Give a random order."""
        return chance.uniform(*x.shape[:2])


class CutHalfSpace(_Removal):
    """Cuts every cloud by a plane of random direction and takes away the share of the points beyond it.

    What is left is to be completed. Directions are uniform on the sphere; copies of kept points take the places.

    Args:
        share: Of the points, in [0, 1); rounded to whole points.
        max_share: If given, each cloud has a share of its own, uniform between `share` and this.
    """

    def score(self, x: Tensor, chance: Chance) -> Tensor:
        """Give how far the points lie along a random direction."""
        direction = chance.normal(len(x), 3, 1).to(x.dtype)  # length does not change the order
        return (x @ direction)[..., 0]


class CutBall(_Removal):
    """Cuts a hole into every cloud: the share of the points that lie nearest to one of them, drawn at random.

    What is left is to be completed. Copies of kept points take the places.

    Args:
        share: Of the points, in [0, 1); rounded to whole points.
        max_share: If given, each cloud has a share of its own, uniform between `share` and this.
    """

    def score(self, x: Tensor, chance: Chance) -> Tensor:
        """Give how near the points lie to the centre drawn."""
        B, N, _ = x.shape
        center = chance.below(torch.full((B, 1), N, device=x.device), B, 1)  # (B, 1)
        c = x.gather(1, center[..., None].expand(B, 1, 3))
        return -(x - c).square().sum(2)


class OutlierPoints(_ShareOfPoints):
    """Replaces a share of every cloud's points by outliers, uniform in a ball about the origin or normally distributed.

    Args:
        share: Of the points, in [0, 1); rounded to whole points.
        radius: Of the ball, in the unit of the clouds: 1 is where normalised clouds live.
        max_share: If given, each cloud has a share of its own, uniform between `share` and this.
        std: If given, outliers are drawn from N(0, std² I) instead of the ball.
    """

    def __init__(
        self, share: float, radius: float = 1.0, max_share: float | None = None, std: float | None = None
    ) -> None:
        super().__init__(share, max_share)
        if not 0 < radius < math.inf:
            raise ConfigurationError(f"OutlierPoints(radius={radius}): a ball has a radius above 0")
        if std is not None and not 0 < std < math.inf:
            raise ConfigurationError(f"OutlierPoints(std={std}): outliers spread by more than 0")
        self.radius, self.std = radius, std

    def corrupt(self, x: Tensor, chance: Chance) -> Tensor:
        """Replace the points that come first in a random order."""
        B, N, _ = x.shape
        count = self.counts(x, chance)  # (B, 1)
        most = math.ceil(self.high * N)  # no more than these need a draw
        chosen = chance.uniform(B, N).argsort(1)[:, :most, None].expand(B, -1, 3)  # (B, K, 3)
        outliers = self.draw(B, most, chance).to(x.dtype)
        gone = torch.arange(most, device=x.device) < count  # (B, K)
        return x.scatter(1, chosen, torch.where(gone[..., None], outliers, x.gather(1, chosen)))

    def draw(self, B: int, N: int, chance: Chance) -> Tensor:
        """Draw outliers (B, N, 3)."""
        if self.std is not None:
            return self.std * chance.normal(B, N, 3)
        return self.radius * uniform_in_ball(B, N, chance)


def keep_lowest(x: Tensor, score: Tensor, kept: Tensor, chance: Chance) -> Tensor:
    """Keep the points of lowest score, and put copies of them, drawn with replacement, in the others' places.

    Args:
        x: Clouds (B, N, 3).
        score: Of each point (B, N).
        kept: How many points of each cloud stay (B, 1), 1 to N.
        chance: Decides which points are copied.

    Returns:
        Clouds (B, N, 3).
    """
    B, N = score.shape
    order = score.argsort(1)  # (B, N): those that stay come first
    place = torch.arange(N, device=x.device)
    source = torch.where(place < kept, place, chance.below(kept, B, N))  # (B, N): places in the order
    index = torch.empty_like(order).scatter_(1, order, order.gather(1, source))
    return x.gather(1, index[..., None].expand(B, N, 3))


def uniform_in_ball(B: int, N: int, chance: Chance) -> Tensor:
    """Draw points (B, N, 3) uniformly in the unit ball: a direction, and the cube root of the share of the volume."""
    direction = torch.nn.functional.normalize(chance.normal(B, N, 3), dim=-1)
    return direction * chance.uniform(B, N, 1).pow_(1 / 3)
