"""Dividing what was found into splits, and choosing clouds and points of them: by names and seeds alone."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcgen.datamodules._lazy import Lazy
from pcgen.errors import ConfigurationError
from pcgen.io import CloudSet
from pcgen.io import resample as draw_points
from pcgen.io.listing import Catalog
from pcgen.io.names import encode

Ints = NDArray[np.int64]
_SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class Source:
    """What a datamodule has found: clouds with their splits, in memory or in a file.

    Attributes:
        clouds: Points (K, M, 3) and what is known of them; of `lazy` clouds everything but the points.
        lazy: The clouds that stay in their files.
    """

    clouds: CloudSet | Catalog
    lazy: Lazy | None = None

    @property
    def points(self) -> NDArray[np.float32]:
        """Points (K, M, 3) in memory."""
        if not isinstance(self.clouds, CloudSet):
            raise TypeError(f"the points of {self.clouds.source} stay in their files")
        return self.clouds.points


def divide(clouds: CloudSet | Catalog, *, validation: float, test: float, seed: int) -> dict[str, Ints]:
    """Divide all clouds into splits: as the source says, and by shares where it has no such split.

    Args:
        clouds: All clouds.
        validation: Share of the training clouds held out where there is no validation split.
        test: Share of the clouds held out where there is no test split.
        seed: Decides what is held out.

    Returns:
        Rows of `"train"`, `"val"` (those of the test split if there are no others) and `"test"`, perhaps none.
    """
    given = np.full(len(clouds), "train") if clouds.split is None else clouds.split
    rows: dict[str, Ints] = {name: np.flatnonzero(given == name) for name in _SPLIT_NAMES}
    for name, share in (("test", test), ("val", validation)):
        if not len(rows[name]) and share:
            rows["train"], rows[name] = hold_out(clouds, rows["train"], share, seed, name)
    if not len(rows["val"]):
        rows["val"] = rows["test"]
    return rows


def hold_out(clouds: CloudSet | Catalog, rows: Ints, share: float, seed: int, purpose: str) -> tuple[Ints, Ints]:
    """Divide rows into those that stay and those held out, class by class.

    A class's choice depends on the seed, the purpose and its clouds' names, so that reading one class or all, or the
    files in another order, holds out the same clouds. Of every class with two or more clouds at least one is held
    out and at least one stays.

    Args:
        clouds: All clouds.
        rows: Those to divide.
        share: Share to hold out, in (0, 1).
        seed: Decides which.
        purpose: The name of the split to be made.

    Returns:
        Rows that stay and rows held out, each in ascending order.
    """
    label = np.zeros(len(clouds), np.int64) if clouds.label is None else clouds.label
    out: list[int] = []
    names, start = encode(clouds.name), zlib.crc32(f"{seed}:{purpose}:".encode())
    for k in np.unique(label[rows]):
        members = rows[label[rows] == k]
        count = min(max(1, int(share * len(members) + 0.5)), len(members) - 1)
        lots = np.array([zlib.crc32(name, start) for name in names[members].tolist()], np.int64)
        out += members[np.lexsort((names[members], lots))[:count]].tolist()
    held = np.array(sorted(out), np.int64)
    return np.setdiff1d(rows, held), held


def choose_rows(size: int, label: Tensor | None, n: int | None, seed: int | None) -> Ints:
    """Choose rows for `take`: all, the first of every class in turn, or a random subset."""
    if n is not None and n < 0:
        raise ConfigurationError(f"n is {n}; take 0 or more, or None for all")
    if seed is not None:
        return np.random.default_rng(seed).permutation(size)[:n]
    if n is None or n >= size or label is None:
        return np.arange(size)[:n]
    y = label.numpy()
    order = np.argsort(y, kind="stable")
    turn = np.empty(size, np.int64)  # how many of its class come before a cloud
    turn[order] = np.arange(size) - np.searchsorted(y[order], y[order])
    return np.lexsort((y, turn))[:n]


def fixed_subsets(M: int, N: int, names: Sequence[str], seed: int) -> Tensor | None:
    """Choose N of M points of each cloud once and for all (K, N), by the clouds' names; None if all are wanted."""
    return None if M == N else FixedSubsets(M, N, names, seed)[torch.arange(len(names))]


class FixedSubsets:
    """N of M points of each cloud, by the clouds' names, drawn when they are asked for.

    Args:
        M: Points of each cloud.
        N: How many of them.
        names: Of the clouds (K,).
        seed: Makes the draw repeatable.
    """

    def __init__(self, M: int, N: int, names: Sequence[str], seed: int) -> None:
        self.M, self.N, self.names, self.seed = M, N, names, seed

    def __getitem__(self, rows: Tensor) -> Tensor:
        numbers = np.repeat(np.arange(self.M, dtype=np.float32)[:, None], 3, axis=1)
        drawn = [draw_points(numbers, self.N, self.seed, self.names[i])[:, 0] for i in rows.tolist()]
        return torch.from_numpy(np.stack(drawn).astype(np.int64))  # (B, N)


def thin(clouds: CloudSet, num_points: int | None, seed: int, *, keep_more: bool) -> CloudSet:
    """Bring clouds to `num_points`, or only up to it where more are to be kept for fresh subsets."""
    stored = clouds.points.shape[1]
    if num_points is None or (keep_more and stored >= num_points):
        return clouds
    return clouds.resample(num_points, seed=seed)
