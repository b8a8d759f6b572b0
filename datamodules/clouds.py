"""What all datamodules of clouds share: splits, normalisation, batches."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcgen.base import Batch
from pcgen.datamodules._lazy import Lazy
from pcgen.datamodules._loading import Batches, Draw, InMemory, Points
from pcgen.datamodules._splits import FixedSubsets, Source, choose_rows, divide, fixed_subsets
from pcgen.datamodules._splitted import SplitDataModule
from pcgen.datamodules.augmentations import Augmentation
from pcgen.errors import ConfigurationError, DataError
from pcgen.io import Normalization
from pcgen.io.names import take as take_names

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """One split, ready to be gathered from."""

    points: Points  # (K, M, 3) normalised
    rows: Ints  # of the source (K,)
    label: Tensor | None
    factors: Tensor | None
    name: Sequence[str]
    offsets: tuple[Floats, Floats] | None = field(default=None, compare=False)  # of clouds in memory

    def __len__(self) -> int:
        return len(self.rows)


class CloudDataModule(SplitDataModule[Split]):
    """Base of datamodules of clouds; a subclass says in `load` where they come from.

    Splits are fixed and disjoint. Where the source has no validation split, a share of its training clouds is held
    out, class by class, by `split_seed` and the clouds' names alone: it is the same for any other argument. A batch
    is one gather; shuffling, subsets and augmentations depend on (seed, epoch, process, batch) alone, so a resumed
    run repeats exactly what the first one would have done.

    Args:
        num_points: Points of each cloud, N; None takes as many as the source has.
        batch_size: Clouds of a batch, on each process.
        classes: Names of the classes to keep, labels in this order; None keeps all.
        validation: Share of the training clouds held out for validation where the source has no such split. With 0
            the validation split IS the test split: then select no checkpoint by it.
        test: Share of the clouds held out for testing where the source has no test split.
        split_seed: Decides what is held out, and the points of each cloud in evaluation.
        scope: What is normalised together: each `"shape"`, the whole training `"set"`, or `"none"`.
        region: `"ball"` (mean to the origin, farthest point at the radius) or `"box"` (middle and longest side).
        radius: Of the ball, or half the side of the box.
        augment: Changes to training clouds, in this order.
        resample: Draw a fresh subset of the stored points of each training cloud in every epoch.
        drop_last: Leave out a training batch smaller than the others.
        up_axis: 0, 1 or 2; None takes the source's own.
        num_workers: Processes that gather; 0 is fastest for clouds in memory, by measurement.
        seed: Decides shuffling, fresh subsets and augmentations.
    """

    def __init__(
        self,
        num_points: int | None = None,
        batch_size: int = 32,
        classes: list[str] | None = None,
        validation: float = 0.1,
        test: float = 0.1,
        split_seed: int = 0,
        scope: Literal["shape", "set", "none"] = "shape",
        region: Literal["ball", "box"] = "ball",
        radius: float = 1.0,
        augment: list[Augmentation] | None = None,
        resample: bool = False,
        drop_last: bool = False,
        up_axis: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, drop_last=drop_last, num_workers=num_workers, seed=seed)
        _check(num_points=num_points, validation=validation, test=test, up_axis=up_axis)
        self.num_points, self.classes = num_points, classes
        self.validation, self.test, self.split_seed = validation, test, split_seed
        self.augment, self.resample = list(augment or []), resample
        self.up_axis = up_axis
        self.class_names = tuple(classes or ())
        self._normalization = Normalization(scope=scope, region=region, radius=radius)
        self.normalization = self._normalization.to_plain()
        self._fixed: dict[str, Tensor | FixedSubsets | None] = {}
        if num_points is not None:
            self.sample_shape = (num_points, 3)

    @abstractmethod
    def load(self) -> Source:
        """Find the clouds: with `num_points` points each, or with more of them if `resample` is asked for."""

    # ── setup ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002 -- all splits are made at once, statistics need train
        """Read, split and normalise the clouds, once."""
        if self._splits:
            return
        source = self.load()
        clouds = source.clouds
        rows = divide(clouds, validation=self.validation, test=self.test, seed=self.split_seed)
        if not len(rows["train"]):
            raise DataError(f"{clouds.source}: there is no cloud in the training split")
        self._fit(source, rows["train"])
        stored = (source.points if source.lazy is None else source.lazy).shape[1]
        self.sample_shape = (self.num_points or stored, 3)
        self.class_names, self.factor_names = clouds.class_names, clouds.factor_names
        self.up_axis = clouds.up_axis if self.up_axis is None else self.up_axis
        self.normalization = self._normalization.to_plain()
        self._splits = {name: self._make(source, r) for name, r in rows.items() if len(r)}

    def _fit(self, source: Source, rows: Ints) -> None:
        if source.lazy is None:
            self._normalization = self._normalization.fit(source.points[rows])
        else:
            self._normalization = self._normalization.fit_chunks(partial(source.lazy.watched_chunks, rows))

    def _make(self, source: Source, rows: Ints) -> Split:
        clouds, offsets = source.clouds, None
        if source.lazy is None:
            x, *measures = self._normalization.apply(source.points[rows])
            points: Points = InMemory(torch.from_numpy(x))
            offsets = (measures[0], measures[1])
        else:
            points = source.lazy.part(rows, self._normalization)
        return Split(
            points=points,
            rows=rows,
            label=None if clouds.label is None else torch.from_numpy(clouds.label[rows]),
            factors=None if clouds.factors is None else torch.from_numpy(clouds.factors[rows]),
            name=take_names(clouds.name, rows),
            offsets=offsets,
        )

    def _batches(self, name: str) -> Batches:
        split, (N, _) = self.split(name), self.sample_shape
        if name not in self._fixed:
            self._fixed[name] = self._subsets(split)
        return Batches(
            split.points,
            split.label,
            split.factors,
            num_points=N,
            fixed=self._fixed[name],
            augment=self.augment,
            up_axis=self.up_axis,
            batch_size=self.batch_size,
        )

    def _subsets(self, split: Split) -> Tensor | FixedSubsets | None:
        """Choose the points of each cloud in evaluation: at once for clouds in memory, else for each batch."""
        M, (N, _) = split.points.shape[1], self.sample_shape
        if isinstance(split.points, Lazy) and M > N:
            return FixedSubsets(M, N, split.name, self.split_seed)
        return fixed_subsets(M, N, split.name, self.split_seed)

    # ── looking at the data ───────────────────────────────────────────────────────────────────────────────────────────

    def take(self, split: str, n: int | None = None, *, seed: int | None = None) -> Batch:
        """Give fixed data of one split, without augmentation; see `pcgen.base.DataModule.take`."""
        return self._batches(split)[Draw(self._rows(split, n, seed))]

    def _rows(self, split: str, n: int | None, seed: int | None = None) -> Ints:
        """Give the rows of a split that `take` gives."""
        part = self.split(split)
        return choose_rows(len(part), part.label, n, seed)

    def offsets(self, split: str) -> tuple[Floats, Floats]:
        """Give what normalisation took away from each cloud of a split: center (K, 3) and scale (K,), float64."""
        part = self.split(split)
        if part.offsets is not None:
            return part.offsets
        if not isinstance(part.points, Lazy):
            raise DataError(f"the offsets of split {split!r} are not known")
        return part.points.offsets()

    def denormalize(self, split: str, indices: ArrayLike, x: Tensor) -> Tensor:
        """Put clouds back to where the data have them.

        Args:
            split: Where they come from.
            indices: Which clouds of the split (B,), for their offsets.
            x: Normalised clouds (B, N, 3), for instance reconstructions.

        Returns:
            Clouds (B, N, 3) in the units of the data, on the CPU.
        """
        rows = np.asarray(indices, dtype=np.int64)
        center, scale = self.offsets(split)
        undone = self._normalization.undo(x.detach().cpu().numpy(), center[rows], scale[rows])
        return torch.from_numpy(undone)


def _check(*, num_points: int | None, validation: float, test: float, up_axis: int | None) -> None:
    if num_points is not None and num_points < 1:
        raise ConfigurationError(f"num_points is {num_points}; at least 1, or None for all that there are")
    for name, share in (("validation", validation), ("test", test)):
        if not 0 <= share < 1:
            raise ConfigurationError(f"{name} is {share}; it is a share of the clouds, in [0, 1)")
    if up_axis not in (None, 0, 1, 2):
        raise ConfigurationError(f"up_axis is {up_axis}; it is 0, 1, 2, or None for the data's own")
