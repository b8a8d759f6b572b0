"""A set of clouds in memory: what every reader returns and every writer takes."""

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import ConfigurationError, DataError
from pcgen.io.names import take

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class CloudSet:
    """Clouds of one size with what is known of each. Checked when made: what exists is sound.

    Attributes:
        points: (K, N, 3) float32, finite, K and N at least 1.
        label: Index into `class_names` (K,) int64, or None.
        split: `"train"`, `"val"` or `"test"` of each cloud (K,), or None.
        name: One name a cloud; numbers where nothing better is known.
        class_names: Names of the labels.
        factors: Known generating factors (K, F) float32, or None.
        factor_names: F names.
        up_axis: 0, 1 or 2, or None where it is not known.
        source: Where it came from, for messages.

    Raises:
        DataError: If shapes do not fit together or a coordinate is not finite.
    """

    points: NDArray[np.float32]
    label: NDArray[np.int64] | None = None
    split: NDArray[np.str_] | None = None
    name: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    factors: NDArray[np.float32] | None = None
    factor_names: tuple[str, ...] = ()
    up_axis: int | None = None
    source: str = "clouds"

    def __post_init__(self) -> None:
        points = check_clouds(self.points, self.source)
        K = len(points)
        self._set("points", points)
        self._set("name", tuple(self.name) or tuple(f"{i:05d}" for i in range(K)))
        if self.label is not None:
            self._set("label", np.asarray(self.label).reshape(-1).astype(np.int64))
        if self.split is not None:
            self._set("split", np.asarray(self.split, dtype=np.str_))
        if self.factors is not None:
            self._set("factors", np.asarray(self.factors, dtype=np.float32))
        for field in ("label", "split", "name", "factors"):
            value = getattr(self, field)
            if value is not None and len(value) != K:
                raise DataError(f"{self.source}: {K} clouds but {len(value)} entries in {field}; one for each cloud")
        self._set("class_names", check_classes(self.label, self.class_names, self.source))
        unknown = set() if self.split is None else set(self.split.tolist()) - set(SPLITS)
        if unknown:
            raise DataError(f"{self.source}: unknown split {min(unknown)!r}; splits are {', '.join(SPLITS)}")
        if self.up_axis not in (None, 0, 1, 2):
            raise DataError(f"{self.source}: up_axis is {self.up_axis!r}; it is 0, 1, 2 or None")

    def _set(self, field: str, value: Any) -> None:
        object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return len(self.points)

    def select(self, *, split: str | None = None, classes: Sequence[str] | str | None = None) -> "CloudSet":
        """Keep one split, or some classes, or both.

        Args:
            split: `"train"`, `"val"` or `"test"`; None keeps all.
            classes: Names; labels are numbered anew in the order given. None keeps all.

        Returns:
            The clouds that remain, in their order.

        Raises:
            DataError: If there is no such split or class, with those that there are.
        """
        rows, known = choose(self, split, classes)
        return replace(self, points=self.points[rows], **known)

    def resample(self, num_points: int, *, seed: int = 0) -> "CloudSet":
        """Give every cloud the same number of its own points.

        A cloud's draw depends on the seed and its name alone, so that choosing a class before or after makes no
        difference.

        Args:
            num_points: Points a cloud. With N or fewer, a subset without repeats; with more, every point once and
                some again, with a warning.
            seed: Makes the draw repeatable.

        Returns:
            A set of (K, num_points, 3).
        """
        N = self.points.shape[1]
        if num_points == N:
            return self
        if num_points > N:
            warn_repeats(self.source, N, num_points, len(self))
        points = np.stack([resample(p, num_points, seed, n) for p, n in zip(self.points, self.name, strict=True)])
        return replace(self, points=points)


def check_clouds(points: Any, source: str) -> NDArray[np.float32]:
    """Return clouds (K, N, 3) as float32, or say what is wrong with them."""
    array = np.asarray(points)
    if array.ndim != 3 or array.shape[-1] != 3 or array.dtype.kind not in "fiu":
        raise DataError(f"{source}: clouds of shape {array.shape} and type {array.dtype}; (K, N, 3) numbers needed")
    if not array.size:
        raise DataError(f"{source}: {array.shape[0]} clouds of {array.shape[1]} points; at least one of each needed")
    with np.errstate(over="ignore"):  # what overflows float32 is caught as infinity
        array = np.ascontiguousarray(array, dtype=np.float32)
    bad = ~np.isfinite(array).all((1, 2))
    if bad.any():
        raise DataError(
            f"{source}: {bad.sum()} of {len(array)} clouds hold NaN or infinity, the first at row {bad.argmax()}; "
            "drop them or repair the file"
        )
    return array


def check_classes(label: NDArray[np.int64] | None, class_names: Sequence[str], source: str) -> tuple[str, ...]:
    """Return names for all labels, numbers where there are none, or say which labels cannot be."""
    if label is None or not len(label):
        return tuple(class_names)
    low, high = int(label.min()), int(label.max())
    names = tuple(class_names) or tuple(str(i) for i in range(min(high, 65535) + 1))
    if low < 0 or high >= len(names):
        raise DataError(f"{source}: labels run from {low} to {high}, but there are {len(names)} class names")
    return names


def choose(
    clouds: Any, split: str | None, classes: Sequence[str] | str | None
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Find the rows of a split and of classes, and what is known of them.

    Args:
        clouds: Anything with `label`, `split`, `name`, `factors`, `class_names`, `source` and a length.
        split: As in `CloudSet.select`.
        classes: As in `CloudSet.select`.

    Returns:
        Rows, and of these `label` (numbered in the order of the classes asked for), `class_names` (those that remain),
        `split`, `name` and `factors`, by name, for `dataclasses.replace`.

    Raises:
        DataError: If there is no such split or class, with those that there are.
    """
    keep = np.ones(len(clouds), dtype=bool)
    label, class_names = clouds.label, tuple(clouds.class_names)
    if split is not None:
        keep &= _in_split(clouds, split)
    if classes is not None:
        wanted = (classes,) if isinstance(classes, str) else tuple(classes)
        label, class_names = _relabel(clouds, wanted), wanted
        keep &= label >= 0
    if not keep.any():
        raise DataError(f"{clouds.source}: no cloud of the classes {', '.join(class_names)} in split {split!r}")
    rows = np.flatnonzero(keep)
    return rows, {
        "label": None if label is None else label[rows],
        "class_names": class_names,
        "split": None if clouds.split is None else clouds.split[rows],
        "name": take(clouds.name, rows),
        "factors": None if clouds.factors is None else clouds.factors[rows],
    }


def _in_split(clouds: Any, split: str) -> NDArray[np.bool_]:
    if clouds.split is None:
        raise DataError(f"{clouds.source}: split {split!r} asked for, but the clouds are not split")
    mask: NDArray[np.bool_] = clouds.split == split
    if not mask.any():
        there = [s for s in SPLITS if (clouds.split == s).any()]
        raise DataError(f"{clouds.source}: there is no split {split!r}; there is {', '.join(there)}")
    return mask


def _relabel(clouds: Any, wanted: tuple[str, ...]) -> NDArray[np.int64]:
    if clouds.label is None:
        raise DataError(f"{clouds.source}: classes {', '.join(wanted)} asked for, but the clouds have no labels")
    if not wanted or len(set(wanted)) != len(wanted):
        raise ConfigurationError(f"classes is {list(wanted)}; name at least one, each once")
    for name in wanted:
        if name not in clouds.class_names:
            raise DataError(f"{clouds.source}: there is no class {name!r}; there are {', '.join(clouds.class_names)}")
    new = np.array([wanted.index(n) if n in wanted else -1 for n in clouds.class_names], dtype=np.int64)
    return np.asarray(new[clouds.label])


def seed_of(seed: int, name: str) -> int:
    """Make a seed (31 bits) from a seed and a name: the same on every machine, whatever else is read beside it."""
    return zlib.crc32(f"{seed}:{name}".encode()) & 0x7FFFFFFF


def resample(points: NDArray[np.float32], num_points: int, seed: int, name: str) -> NDArray[np.float32]:
    """Draw points (num_points, 3) of one cloud (N, 3): no repeats as long as there are enough."""
    if num_points < 1:
        raise ConfigurationError(f"num_points is {num_points}; it must be at least 1")
    if num_points == len(points):
        return points
    rng = np.random.default_rng(seed_of(seed, name))
    whole, rest = divmod(num_points, len(points))
    index = np.concatenate([np.tile(np.arange(len(points)), whole), rng.permutation(len(points))[:rest]])
    return np.asarray(points[index])


def warn_repeats(source: str, there: int, wanted: int, clouds: int) -> None:
    """Say once that points are repeated."""
    warnings.warn(
        f"{source}: {wanted} points asked for, but {clouds} cloud{'s' * (clouds != 1)} with as few as {there}; "
        "points are repeated",
        stacklevel=3,
    )
