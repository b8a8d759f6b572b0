"""Clouds that stay in their HDF5 file: gathered, thinned and normalised a batch at a time."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcgen.io import LazyClouds, Normalization, resample
from pcgen.io.names import take as take_names
from pcgen.io.progress import progress

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_CHUNK = 256  # clouds read at once where all must be seen


class Lazy:
    """Clouds (K, M, 3) in a file, which give the same numbers as they would in memory.

    Args:
        clouds: The file's rows.
        names: Of the clouds (K,), which decide their subsets.
        num_points: Points to keep of each cloud.
        seed: Of the subsets.
        normalization: Applied to what is gathered, once it is known.
    """

    def __init__(
        self,
        clouds: LazyClouds,
        names: Sequence[str],
        num_points: int,
        seed: int,
        normalization: Normalization | None = None,
    ) -> None:
        self.clouds, self.names, self.num_points, self.seed = clouds, names, num_points, seed
        self.normalization = normalization
        self.shape: tuple[int, int, int] = (len(names), num_points, 3)

    def part(self, rows: Ints, normalization: Normalization) -> "Lazy":
        """Give some of the clouds, normalised."""
        names = take_names(self.names, rows)
        return Lazy(self.clouds.take(rows), names, self.num_points, self.seed, normalization)

    def raw(self, rows: Ints) -> NDArray[np.float32]:
        """Give clouds (B, M, 3) as the file has them."""
        points = self.clouds.gather(rows)
        if points.shape[1] == self.num_points or not len(points):
            return points[:, : self.num_points]
        kept = [resample(p, self.num_points, self.seed, self.names[i]) for p, i in zip(points, rows, strict=True)]
        return np.stack(kept)

    def gather(self, rows: Ints) -> Tensor:
        """Give clouds (B, M, 3), normalised."""
        x = self.raw(rows)
        if self.normalization is not None and self.normalization.scope != "none" and len(x):
            x = self.normalization.apply(x)[0]
        return torch.from_numpy(x)

    def chunks(self, rows: Ints) -> Iterator[NDArray[np.float32]]:
        """Give some clouds as the file has them, a chunk at a time."""
        for start in range(0, len(rows), _CHUNK):
            yield self.raw(rows[start : start + _CHUNK])

    def watched_chunks(self, rows: Ints) -> Iterator[NDArray[np.float32]]:
        """Give chunks as `chunks` does, with a bar on a terminal."""
        with progress("Measuring the training clouds", len(rows)) as report:
            for i, chunk in enumerate(self.chunks(rows)):
                yield chunk
                report(min((i + 1) * _CHUNK, len(rows)), None)

    def offsets(self) -> tuple[Floats, Floats]:
        """Give what normalisation takes away from each cloud: center (K, 3) and scale (K,)."""
        return self._offsets

    @cached_property
    def _offsets(self) -> tuple[Floats, Floats]:
        normalization = self.normalization or Normalization(scope="none")
        parts = [normalization.apply(x)[1:] for x in self.chunks(np.arange(len(self.names)))]
        return np.concatenate([c for c, _ in parts]), np.concatenate([s for _, s in parts])
