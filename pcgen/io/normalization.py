"""Normalisation of clouds: exact, recorded, invertible."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import Recorded

Scope = Literal["shape", "set", "none"]
Region = Literal["ball", "box"]
_CHUNK = 256  # clouds worked on at once: bounds the memory that float64 needs
_ROUNDING = 1e-6  # of the coordinates: more than a mean of equal numbers is off
_CACHED = 16  # clouds normalised at once, which in float64 stay in a processor's cache


@dataclass(frozen=True)
class Normalization(Recorded):
    """Moves and scales clouds by one number, never one for each axis: shapes keep their proportions.

    normalised = (points − center) / scale, computed in float64 (ModelNet's raw units run to 228 582).

    With `region="ball"` the center is the mean of the points and the farthest point comes to lie at `radius`, as in
    PointNet's `pc_normalize` and the unit-sphere evaluation of Achlioptas et al. 2018. With `region="box"` the center
    is the middle of the axis-aligned bounding box and its longest half side becomes `radius`, as `shape_bbox` of
    Luo & Hu 2021. With `scope="shape"` each cloud has its own center and scale (its size is lost); with
    `scope="set"` one center and scale are taken over all points of the training split and serve every split, so
    shapes keep their sizes and places relative to each other, and a cloud of another split may stick out.
    (PointFlow's set normalisation has the same center as the ball, but divides by the standard deviation.)

    Attributes:
        scope: `"shape"`, `"set"` or `"none"` (center 0, scale 1).
        region: `"ball"` or `"box"`.
        radius: Radius of the ball, or half the side of the box; 0.5 is what the Jensen-Shannon divergence wants.
        center: Of the set (3,), once fitted.
        scale: Of the set, once fitted.
    """

    scope: Scope = "shape"
    region: Region = "ball"
    radius: float = 1.0
    center: tuple[float, float, float] | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scope not in get_args(Scope):
            raise ConfigurationError(
                f"normalization scope is {self.scope!r}; it is one of {', '.join(get_args(Scope))}"
            )
        if self.region not in get_args(Region):
            raise ConfigurationError(f"normalization region is {self.region!r}; it is ball or box")
        if not (np.isfinite(self.radius) and self.radius > 0):
            raise ConfigurationError(f"normalization radius is {self.radius}; it must be above 0")

    @property
    def fitted(self) -> bool:
        """Whether `apply` can be called: only `scope="set"` has something to learn."""
        return self.scope != "set" or self.scale is not None

    def fit(self, points: ArrayLike) -> "Normalization":
        """Learn the set's center and scale.

        Args:
            points: Clouds (K, N, 3) of the training split.

        Returns:
            A fitted copy with `scope="set"`; itself otherwise.

        Raises:
            DataError: If all points of the set are equal, or one is not finite.
        """
        if self.scope != "set":
            return self
        clouds = _clouds(points)
        return self.fit_chunks(lambda: (clouds[i : i + _CHUNK] for i in range(0, len(clouds), _CHUNK)))

    def fit_chunks(self, chunks: Callable[[], Iterable[ArrayLike]]) -> "Normalization":
        """Learn the set's center and scale from clouds that come a chunk at a time.

        Args:
            chunks: Gives the clouds of the training split in chunks (k, N, 3), from the beginning at each call: one
                pass finds the center, and for a ball a second one the farthest point.

        Returns:
            As `fit`, which gives the same for the same clouds.

        Raises:
            DataError: As `fit`.
        """
        if self.scope != "set":
            return self
        center, scale = self._measure_set(chunks)
        if not scale > 0:
            raise DataError("all points of the set are equal: there is no scale to normalise by")
        x, y, z = center.tolist()
        return replace(self, center=(x, y, z), scale=scale / self.radius)

    def apply(self, points: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """Normalise clouds.

        Args:
            points: (K, N, 3).

        Returns:
            The clouds (K, N, 3) float32, and what `undo` takes: center (K, 3) and scale (K,), float64.

        Raises:
            DataError: If all points of a cloud are equal, or one is not finite.
            ConfigurationError: If `scope="set"` has not been fitted.
        """
        clouds = _clouds(points)
        if not self.fitted:
            raise ConfigurationError('a normalization with scope="set" must be fitted to the training split first')
        out = np.empty(clouds.shape, dtype=np.float32)
        center, scale = np.empty((len(clouds), 3)), np.empty(len(clouds))
        for start in range(0, len(clouds), _CACHED):
            part = slice(start, start + _CACHED)
            x = clouds[part].astype(np.float64)
            center[part], scale[part] = self._measure(x, start)
            x -= center[part, None]
            x /= scale[part, None, None]
            out[part] = x
        return out, center, scale

    def undo(self, points: ArrayLike, center: ArrayLike, scale: ArrayLike) -> NDArray[np.float32]:
        """Put normalised clouds back where they were: points · scale + center.

        Args:
            points: (K, N, 3), or one cloud (N, 3).
            center: (K, 3), or (3,) for all.
            scale: (K,), or one number for all.

        Returns:
            Clouds in their original units, float32, shaped like `points`.
        """
        x = np.asarray(points, dtype=np.float64)
        center, scale = np.asarray(center, dtype=np.float64), np.asarray(scale, dtype=np.float64)
        return np.asarray(x * scale[..., None, None] + center[..., None, :], dtype=np.float32).reshape(x.shape)

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain values, for a checkpoint or a score's protocol."""
        plain = asdict(self)
        return plain | {"center": None if self.center is None else list(self.center)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Normalization":
        """Make it again from what `to_plain` returned."""
        try:
            center = plain.get("center")
            return cls(**{**plain, "center": None if center is None else tuple(map(float, center))})
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{dict(plain)!r} is not a normalization: {error}") from error

    def _measure(self, x: NDArray[np.float64], start: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        K = len(x)
        if self.scope == "none":
            return np.zeros((K, 3)), np.ones(K)
        if self.scope == "set":
            return np.tile(np.array(self.center, dtype=np.float64), (K, 1)), np.full(K, self.scale, dtype=np.float64)
        center, extent = _measure(x, self.region)
        # the mean of equal points differs from them by rounding, so equality is asked of the box, not of the scale; and
        # of small clouds alone, because it takes as long as the rest
        small = np.flatnonzero(extent <= _ROUNDING * np.abs(x[:, 0]).max(-1))
        flat = np.zeros(K, dtype=bool)
        flat[small] = np.ptp(x[small], axis=1).max(-1) == 0
        if flat.any():
            raise DataError(f"all points of cloud {start + int(flat.argmax())} are equal: it has no size to scale by")
        return center, extent / self.radius

    def _measure_set(self, chunks: Callable[[], Iterable[ArrayLike]]) -> tuple[NDArray[np.float64], float]:
        low, high, total, count = np.full(3, np.inf), np.full(3, -np.inf), np.zeros(3), 0
        for x in map(_clouds, chunks()):
            low, high = np.minimum(low, x.min((0, 1))), np.maximum(high, x.max((0, 1)))
            total += x.sum((0, 1), dtype=np.float64)
            count += x.size // 3
        if not count:
            raise DataError("there is no cloud to fit the normalization to")
        if self.region == "box" or not (high > low).any():
            return (low + high) / 2, float((high - low).max() / 2)
        center = total / count
        return center, max(float(np.linalg.norm(x - center, axis=-1).max()) for x in map(np.asarray, chunks()))


def _measure(x: NDArray[np.float64], region: Region) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if region == "ball":
        center = x.mean(1)
        moved = x - center[:, None]
        moved *= moved
        squared = moved[..., 0] + moved[..., 1]  # by columns: NumPy sums rows of three slowly
        squared += moved[..., 2]
        return center, np.sqrt(squared.max(-1))
    low, high = x.min(1), x.max(1)
    return (low + high) / 2, (high - low).max(-1) / 2


def _clouds(points: ArrayLike) -> NDArray[Any]:
    array = np.asarray(points)
    if array.ndim != 3 or array.shape[-1] != 3 or not array.size:
        raise DataError(f"clouds of shape {array.shape} cannot be normalised: (K, N, 3) with K, N > 0 needed")
    if not np.isfinite(array).all():
        raise DataError("clouds that hold NaN or infinity cannot be normalised")
    return array
