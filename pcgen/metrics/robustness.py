"""How a classifier of clouds stands damage that it was never taught: lost points, outliers, jitter.

The three curves of J. Xie, Y. Xu, Z. Zheng, S.-C. Zhu, Y. N. Wu: Generative PointNet, CVPR 2021,
https://arxiv.org/abs/2004.01301; `DEVIATIONS` says what is done otherwise.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor

from pcgen.corruptions import DropPoints, GaussianNoise
from pcgen.errors import ConfigurationError, DataError

KEPT = (1.0, 0.75, 0.5, 0.25, 0.12, 0.06)
OUTLIERS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)
JITTER = (0.0, 0.002, 0.004, 0.006, 0.008, 0.01)
OUTLIER_STD = 0.3
CHUNK = 64  # clouds damaged at once; part of the seed
# Against the authors' code, github.com/fei960922/GPointNet, tools/classification_torch.py.
DEVIATIONS = (
    "points are lost before the network, published: before the pool, when layers have been normalised over all of them",
    "outliers are points of the cloud, published: a cloud of their own, whose features are merged in by the maximum",
    "each cloud loses points of its own choice, published: the same places in every cloud",
)
Predict = Callable[[Tensor], NDArray[np.int64]]  # clouds (b, M, 3) -> labels (b,)
Report = Callable[[float, float | None], None]


class Curve(NamedTuple):
    """Accuracies (L,) at levels (L,) of one kind of damage."""

    levels: tuple[float, ...]
    accuracy: tuple[float, ...]

    def last(self) -> float:
        """Give the accuracy under the worst damage."""
        return self.accuracy[-1]


class Robustness(NamedTuple):
    """How accuracy falls with damage.

    Attributes:
        kept: By the share of the points that are left, falling.
        outliers: By the number of outliers as a share of the number of points, rising.
        jitter: By the standard deviation of the noise on each coordinate, in the unit of the clouds, rising.
        same_number: Whether damaged clouds have as many points as whole ones, see `robustness`.
    """

    kept: Curve
    outliers: Curve
    jitter: Curve
    same_number: bool

    def to_plain(self) -> dict[str, Any]:
        """Give it as plain values."""
        curves = {name: getattr(self, name) for name in ("kept", "outliers", "jitter")}
        plain: dict[str, Any] = {
            name: [{"level": level, "accuracy": value} for level, value in zip(*curve, strict=True)]
            for name, curve in curves.items()
        }
        return {**plain, "same_number": self.same_number}


def robustness(
    predict: Predict,
    x: Tensor,
    labels: ArrayLike,
    *,
    kept: Sequence[float] = KEPT,
    outliers: Sequence[float] = OUTLIERS,
    jitter: Sequence[float] = JITTER,
    outlier_std: float = OUTLIER_STD,
    same_number: bool = False,
    seed: int = 0,
    progress: Report | None = None,
) -> Robustness:
    """Measure the accuracy on damaged clouds.

    What a cloud loses at one level it has lost at every worse one, its outliers (up to N) and its noise stay the same
    but for their number and size, so that a curve is not rough by chance.

    Args:
        predict: A probe on a model's features, or a classifier's own head.
        x: Clouds (n, N, 3), as the model knows them.
        labels: (n,).
        kept: Shares of the points that are left, above 0.
        outliers: Numbers of outliers as shares of N, drawn from N(0, outlier_std² I).
        jitter: Standard deviations of noise on each coordinate.
        outlier_std: In the unit of the clouds.
        same_number: For models of one number of points: copies of other points take the places of lost ones, and
            outliers take places instead of being added.
        seed: 0 or more.
        progress: Called with the number of levels done and of how many.

    Raises:
        ConfigurationError: If a level is out of range.
        DataError: If the data are no clouds.
    """
    y = np.asarray(labels)
    if x.ndim != 3 or x.shape[2] != 3 or y.shape != (len(x),) or not len(x):
        raise DataError(f"data have shape {tuple(x.shape)} and labels {y.shape}; damage is for clouds (n, N, 3), (n,)")
    levels = check_levels(kept, outliers, jitter, same_number=same_number)
    damages = {"kept": _kept, "outliers": _outliers, "jitter": _jitter}
    found: dict[str, Curve] = {}
    done, total = 0, sum(map(len, levels.values()))
    for name, values in levels.items():
        accuracies = []
        for value in values:
            damaged = _damage(damages[name], x, value, seed, same_number=same_number, std=outlier_std)
            right = [predict(part) == y[i * CHUNK : (i + 1) * CHUNK] for i, part in enumerate(damaged)]
            accuracies.append(float(np.concatenate(right).mean()))
            done += 1
            if progress is not None:
                progress(done, total)
        found[name] = Curve(tuple(values), tuple(accuracies))
    return Robustness(**found, same_number=same_number)


def check_levels(
    kept: Sequence[float], outliers: Sequence[float], jitter: Sequence[float], *, same_number: bool = False
) -> dict[str, list[float]]:
    """Give the levels of each damage, the worst last.

    Raises:
        ConfigurationError: If there is none, or one is out of range.
    """
    most = 1.0 if same_number else np.inf
    ranges: dict[str, tuple[Sequence[float], Callable[[float], bool], str]] = {
        "kept": (kept, lambda v: 0 < v <= 1, "shares above 0 and up to 1"),
        "outliers": (outliers, lambda v: 0 <= v < most, "shares from 0" + (" and below 1" if same_number else "")),
        "jitter": (jitter, lambda v: 0 <= v < np.inf, "standard deviations from 0"),
    }
    for name, (values, fits, words) in ranges.items():
        if not len(values) or not all(fits(value) for value in values):
            raise ConfigurationError(f"{name} is {list(values)}; give {words}")
    return {name: sorted(set(values), reverse=name == "kept") for name, (values, *_) in ranges.items()}


# ── damage: clouds (b, N, 3) -> (b, M, 3) ─────────────────────────────────────────────────────────────────────────────


def _damage(kind: Any, x: Tensor, level: float, seed: int, **how: Any) -> Any:
    """Give damaged clouds, a chunk at a time, each under a generator of its own."""
    for k, part in enumerate(x.split(CHUNK)):
        state = int(np.random.SeedSequence([seed, k]).generate_state(1, np.uint64)[0])
        yield kind(part, level, Generator().manual_seed(state >> 1), **how)


def _kept(x: Tensor, share: float, generator: Generator, *, same_number: bool, std: float) -> Tensor:  # noqa: ARG001 -- alike
    if same_number:
        dropped: Tensor = DropPoints(1 - share)(x, generator=generator)
        return dropped
    B, N, _ = x.shape
    order = torch.rand(B, N, generator=generator).argsort(1)[:, : max(1, round(share * N))]
    places = order.sort(1).values[..., None]  # (B, M, 1): what is left stays in its order
    return x.gather(1, places.to(x.device).expand(-1, -1, 3))


def _outliers(x: Tensor, share: float, generator: Generator, *, same_number: bool, std: float) -> Tensor:
    B, N, _ = x.shape
    number, whole = round(share * N), N * max(1, math.ceil(share))
    # All levels up to N outliers draw as many, so that more outliers begin with the fewer ones.
    extra = (std * torch.randn(B, whole, 3, generator=generator)[:, :number]).to(x)  # (B, M, 3)
    if not same_number:
        return torch.cat([x, extra], dim=1)
    places = torch.rand(B, N, generator=generator).argsort(1)[:, :number, None]  # (B, M, 1)
    return x.scatter(1, places.to(x.device).expand(-1, -1, 3), extra)


def _jitter(x: Tensor, level: float, generator: Generator, *, same_number: bool, std: float) -> Tensor:  # noqa: ARG001 -- alike
    moved: Tensor = GaussianNoise(level)(x, generator=generator)
    return moved
