"""How far two distributions of a network's features are apart: Fréchet distance and kernel distance.

A score hangs on the network as much as on the clouds. Its name therefore carries the extractor's, such as
`FPD(pointnet-modelnet10-v1)`, and moments of different extractors refuse to be compared.
"""

import warnings
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics.kernel_distance import KID_KERNEL, kernel_distance
from pcgen.metrics.moments import FeatureMoments, check_features, empty_moments, merge_moments, moments_of
from pcgen.metrics.rows import RowSets
from pcgen.ops.kernels import Kernel

SIDES = ("generated", "real")


@runtime_checkable
class FeatureExtractor(Protocol):
    """Anything that turns a batch into features and has a name: a network, or a function with these attributes.

    Attributes:
        name: Identity, which becomes part of the score's name. Two extractors that give different features must have
            different names.
        num_features: d.
    """

    name: str
    num_features: int

    def __call__(self, x: Tensor) -> Tensor:
        """Give the features (B, d) of a batch (B, …)."""


class GivenFeatures:
    """Takes rows as features as they are: latents, for instance, whose kernel MMD² is wanted as a metric.

    Args:
        name: What the rows are, which becomes part of the score's name.
        num_features: d.

    >>> from pcgen.ops.kernels import InverseMultiquadratic
    >>> latents = GivenFeatures("latents", 2)
    >>> metric = KernelDistance(latents, prefix="MMD2", kernel=InverseMultiquadratic(), subsets=0)
    >>> metric.update(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), real=True)
    >>> metric.update(torch.tensor([[0.0, 2.0], [1.0, 2.0]]), real=False)
    >>> round(metric.compute()["MMD2(latents)"].item(), 4)  # ½ + ½ − 2 (1/5 + 1/6)/2
    0.6333
    """

    def __init__(self, name: str, num_features: int) -> None:
        self.name, self.num_features = name, num_features

    def __call__(self, x: Tensor) -> Tensor:
        """Give the rows (B, d) themselves."""
        return x


class _FeatureMetric(Metric):
    """Has an extractor that is nobody's submodule: it would leak into every checkpoint's state dict."""

    full_state_update = False

    def _take(self, extractor: Any, prefix: str) -> None:
        name, size = getattr(extractor, "name", None), getattr(extractor, "num_features", None)
        if not callable(extractor) or not isinstance(name, str) or not name or not isinstance(size, int) or size < 1:
            raise ConfigurationError(
                f"extractor is a {type(extractor).__name__} with name {name!r} and num_features {size!r}; give "
                "something callable with a name and the number of its features"
            )
        self.__dict__["extractor"] = extractor  # past nn.Module's own __setattr__
        self.extractor_name, self.num_features = name, size
        self.name = f"{prefix}({name})"

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Give the checked features (B, d) of data (B, …)."""
        extractor, x = self.__dict__["extractor"], x.detach().to(self.device)
        if isinstance(extractor, nn.Module):
            extractor.to(self.device).eval()  # neither Lightning nor Metric.to reaches it
        with torch.autocast(x.device.type, enabled=False):  # a model's precision is not the score's
            features = extractor(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x)
        return check_features(features, self.num_features, self.extractor_name)

    def forward(self, x: Tensor, real: bool) -> None:
        """Add data, as `update` does; a batch of one side has no distance of its own."""
        self.update(x, real=real)


class FrechetDistance(_FeatureMetric):
    """Fréchet distance between the features of generated and of real data: FPD for clouds, FID for images.

    `compute` gives `{"FPD(extractor's name)": value}`, float64, by `pcgen.ops.frechet_distance` with unbiased
    covariances. Memory O(d²), whatever the number of data. Processes and their order show in the last bits alone,
    and all processes give the same bits.

    Args:
        extractor: Of the features; a network is put into evaluation mode and on the metric's device.
        prefix: What the score is called.
        reset_real: Whether `reset` forgets the real data too; without, a validation's reference is fed once.
        kwargs: Of every `torchmetrics.Metric`.

    Warns:
        UserWarning: Once, with the rank, if there are not more data than features.
    """

    real: Tensor
    generated: Tensor

    def __init__(
        self, extractor: FeatureExtractor, *, prefix: str = "FPD", reset_real: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._take(extractor, prefix)
        self.reset_real, self._warned = reset_real, False
        for side in SIDES:
            self.add_state(side, default=empty_moments(self.num_features), dist_reduce_fx=merge_moments)

    @property
    def names(self) -> list[str]:
        """Names of the scores it gives."""
        return [self.name]

    def update(self, x: Tensor, real: bool) -> None:
        """Add data (B, …): real or generated."""
        side, batch = SIDES[bool(real)], moments_of(self.features(x))
        before = getattr(self, side)
        setattr(self, side, merge_moments(torch.stack([before, batch.to(before.device)])))

    def moments(self, side: str) -> FeatureMoments:
        """Give the moments of a side, "real" or "generated"."""
        moments = FeatureMoments(self.num_features, extractor=self.extractor_name)
        moments.packed = getattr(self, side)
        return moments

    def compute(self) -> dict[str, Tensor]:
        """Give the score by name, a scalar in float64.

        Raises:
            DataError: If either side has fewer than two data.
        """
        generated, real = (self.moments(side) for side in SIDES)
        for side, moments in zip(SIDES, (generated, real), strict=True):
            if moments.count < 2:
                raise DataError(f"{self.name} of {moments.count} {side} data was asked for; give at least 2 of each")
        self._warn_of_rank(generated, real)
        return {self.name: generated.frechet_distance(real)}

    def _warn_of_rank(self, *sides: FeatureMoments) -> None:
        poor = [m for m in sides if m.count <= self.num_features]
        if poor and not self._warned:
            self._warned = True
            said = " and ".join(f"{m.count} data, rank {m.rank}" for m in poor)
            warnings.warn(
                f"{self.name} from fewer data than {self.num_features} features ({said}): the covariance is singular "
                "and the distance biased upwards; compare only scores of as many data",
                stacklevel=3,
            )

    def reset(self) -> None:
        """Forget the generated data, and the real ones too unless `reset_real` is False."""
        _reset(self, super().reset)


class KernelDistance(_FeatureMetric, RowSets):
    """Kernel distance between the features of generated and of real data; with the default kernel the KID.

    `compute` gives, by name and in float64, the unbiased MMD² of the whole sets (`KID(…)`, the value to report), and
    mean and standard deviation over subsets (`KID(…) subset mean`, what papers call KID, and `KID(…) subset std`).
    Keeps every feature. Neither the order of the data nor the number of processes shows, to the
    last bit.

    Args:
        extractor: Of the features; a network is put into evaluation mode and on the metric's device.
        prefix: What the score is called.
        kernel: See `kernel_distance`.
        subsets: As there.
        subset_size: As there.
        seed: As there.
        reset_real: Whether `reset` forgets the real data too.
        kwargs: Of every `torchmetrics.Metric`.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        *,
        prefix: str = "KID",
        kernel: Kernel = KID_KERNEL,
        subsets: int = 100,
        subset_size: int | None = None,
        seed: int = 0,
        reset_real: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._take(extractor, prefix)
        self.kernel, self.subsets, self.subset_size, self.seed = kernel, subsets, subset_size, seed
        self.reset_real = reset_real
        for side in SIDES:
            self.add_rows(side)

    @property
    def names(self) -> list[str]:
        """Names of the scores it gives."""
        return [self.name, f"{self.name} subset mean", f"{self.name} subset std"]

    def update(self, x: Tensor, real: bool) -> None:
        """Add data (B, …): real or generated."""
        self.append_rows(SIDES[bool(real)], self.features(x))

    def compute(self) -> dict[str, Tensor]:
        """Give the scores by name, scalars in float64.

        Raises:
            DataError: If either side has fewer than two data.
            ConfigurationError: If a subset would be larger than a side.
        """
        generated, real = (self.rows(side, self.num_features) for side in SIDES)
        for side, rows in zip(SIDES, (generated, real), strict=True):
            if len(rows) < 2:
                raise DataError(f"{self.name} of {len(rows)} {side} data was asked for; give at least 2 of each")
        found = kernel_distance(
            generated, real, kernel=self.kernel, subsets=self.subsets, subset_size=self.subset_size, seed=self.seed
        )
        return dict(zip(self.names, found[:3], strict=True))

    def reset(self) -> None:
        """Forget the generated data, and the real ones too unless `reset_real` is False."""
        _reset(self, super().reset)


def _reset(metric: Any, forget: Callable[[], None]) -> None:
    kept = list(metric.real) if isinstance(metric.real, list) else metric.real  # a list is emptied, not replaced
    forget()
    if not metric.reset_real:
        metric.real = kept
