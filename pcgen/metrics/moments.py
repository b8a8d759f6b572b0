"""Number, mean and covariance of features, kept without the features."""

from typing import Self

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics.precision import in_double
from pcgen.ops.frechet import frechet_distance


class FeatureMoments:
    """Number, mean and covariance of features, added batch by batch in float64; the features are not kept.

    What is kept is n, the mean and Σ (x − mean)(x − mean)ᵀ, merged as Chan, Golub & LeVeque (1979) do: plain sums
    Σx and Σxxᵀ lose the covariance of features whose mean is large. Merging partial moments in any order gives the
    same to rounding.

    Args:
        num_features: d.
        extractor: Name of what made the features; moments of different ones are not merged or compared.

    >>> moments = FeatureMoments(2)
    >>> moments.update(torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]))
    >>> moments.count, moments.mean.tolist(), moments.covariance.tolist(), moments.rank
    (3, [2.0, 1.0], [[4.0, 0.0], [0.0, 0.0]], 1)
    """

    def __init__(self, num_features: int, *, extractor: str = "features") -> None:
        if num_features < 1:
            raise ConfigurationError(f"num_features is {num_features}; give at least one")
        self.num_features, self.extractor = num_features, extractor
        self.packed = empty_moments(num_features)

    @classmethod
    def of(cls, features: Tensor, *, extractor: str = "features") -> Self:
        """Make the moments of features (n, d)."""
        moments = cls(features.shape[-1], extractor=extractor)
        moments.update(features)
        return moments

    def update(self, features: Tensor) -> None:
        """Add features (B, d).

        Raises:
            DataError: If the shape is another or a feature is not finite.
        """
        batch = moments_of(check_features(features, self.num_features, self.extractor))
        self.packed = merge_moments(torch.stack([self.packed.to(batch.device), batch]))

    def merge(self, other: "FeatureMoments") -> None:
        """Add the moments of other features of the same extractor."""
        self._require_same(other)
        self.packed = merge_moments(torch.stack([self.packed, other.packed.to(self.packed.device)]))

    @property
    def count(self) -> int:
        """Number of rows, n."""
        return int(self.packed[0])

    @property
    def mean(self) -> Tensor:
        """Mean (d,), float64."""
        self._require_rows(1)
        return self.packed[1 : self.num_features + 1]

    @property
    def covariance(self) -> Tensor:
        """Covariance (d, d), float64: the unbiased one, over n − 1."""
        self._require_rows(2)
        scatter = self.packed[self.num_features + 1 :].view(self.num_features, self.num_features)
        return scatter / (self.count - 1)

    @property
    def rank(self) -> int:
        """Numerical rank of the covariance: at most d, and at most n − 1."""
        values = torch.linalg.eigvalsh(self.covariance).abs()
        floor = 8 * max(self.count, self.num_features) * torch.finfo(values.dtype).eps * values.max()
        return int((values > floor).sum())

    def frechet_distance(self, other: "FeatureMoments") -> Tensor:
        """Give the Fréchet distance to other moments, scalar float64.

        Raises:
            ConfigurationError: If their features are another extractor's.
            DataError: If either has fewer than two rows.
        """
        self._require_same(other)
        return frechet_distance(self.mean, self.covariance, other.mean, other.covariance)

    def _require_same(self, other: "FeatureMoments") -> None:
        if (self.extractor, self.num_features) != (other.extractor, other.num_features):
            raise ConfigurationError(
                f"features of {self.extractor!r} ({self.num_features}) are not compared with those of "
                f"{other.extractor!r} ({other.num_features}): extract both with the same network"
            )

    def _require_rows(self, n: int) -> None:
        if self.count < n:
            raise DataError(f"moments of {self.count} rows of {self.extractor!r} were asked for; give at least {n}")


def empty_moments(d: int) -> Tensor:
    """Give the packed moments (1 + d + d²,) float64 of nothing: count, mean, scatter."""
    return torch.zeros(1 + d + d * d, dtype=torch.float64)


def moments_of(features: Tensor) -> Tensor:
    """Give the packed moments of features (B, d)."""
    x = in_double(features.detach())
    mean = x.mean(0) if len(x) else x.new_zeros(x.shape[1])
    centered = x - mean
    return torch.cat([x.new_tensor([len(x)]), mean, (centered.T @ centered).flatten()])


def merge_moments(packed: Tensor) -> Tensor:
    """Merge packed moments (K, 1 + d + d²) into one; those of nothing do not show."""
    d = int(((4 * packed.shape[1] - 3) ** 0.5 - 1) / 2 + 0.5)
    count, means, scatters = packed[:, 0], packed[:, 1 : d + 1], packed[:, d + 1 :]
    total = count.sum()
    weights = count / total.clamp(min=1)
    anchor = means[int(count.argmax())]  # differences to a mean near all of them lose nothing
    mean = anchor + weights @ (means - anchor)
    apart = (means - mean) * count.sqrt()[:, None]
    return torch.cat([total[None], mean, scatters.sum(0) + (apart.T @ apart).flatten()])


def check_features(features: Tensor, num_features: int, extractor: str) -> Tensor:
    """Check what an extractor gave.

    Raises:
        DataError: If it is not (B, num_features) or not finite.
    """
    if features.ndim != 2 or features.shape[1] != num_features:
        raise DataError(
            f"extractor {extractor!r} gave features {tuple(features.shape)}, not (B, {num_features}) as it says"
        )
    if not features.isfinite().all():
        row = int((~features.isfinite()).any(1).nonzero()[0])
        raise DataError(
            f"extractor {extractor!r} gave features that are not finite (first in row {row} of the batch); look for "
            "NaN or infinity in its input"
        )
    return features
