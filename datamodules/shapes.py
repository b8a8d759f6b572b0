"""The embedded default: furniture made of solids, from a seed, in seconds, with every factor known."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcgen.datamodules._catalogue import CLASSES, FACTORS, PARTS, generate
from pcgen.datamodules._splits import Source
from pcgen.datamodules._splitted import check_not_negative
from pcgen.datamodules.augmentations import Augmentation
from pcgen.datamodules.clouds import CloudDataModule
from pcgen.errors import ConfigurationError, DataError
from pcgen.io import CloudSet

_SPLITS = ("train", "val", "test")


class Shapes(CloudDataModule):
    """Chairs, tables, lamps and other furniture, generated in memory; nothing is read or downloaded.

    A shape is put together from boxes, rounded slabs, rods, cones, ellipsoids and rings. Its points are uniform by
    area on the surface of the union: none lies inside. Seven continuous factors are drawn independently and
    uniformly for each shape and given in `Batch.factors`; what a style adds (arms or not, square, round or tapered
    legs, a column, the kind of back, the number of boards, drawers or cushions) varies besides, and `part_factors`
    tells of it. Clouds fill the unit ball about the middle of their box, z up, front towards −y; each class has a
    scale of its own, so that all are about equally large. Lengths are in the unit of the clouds before normalisation,
    angles in radians.

    What the factors mean:

    | class | width, depth | leg_height | upper_height | tilt | thickness | roundness (0 to 1) |
    |---|---|---|---|---|---|---|
    | bed | of the frame | floor to frame | headboard over the mattress | headboard backwards | mattress | corners |
    | chair | of the seat | floor to seat | back over the seat | back backwards | seat | of the seat's outline |
    | desk | of the top | floor to drawer | drawer under the top | legs outwards | top | of the top's corners |
    | lamp | diameter of shade, of base | pole below the shade | shade | upper half of the pole | radius of the pole | \
0: shade is a cone, 1: a cylinder |
    | shelf | of the case | floor to case | case | boards, front down | boards | of sides or boards |
    | sofa | over all, without chaise | floor to base | back over the cushions | back backwards | arms | of arms \
and cushions |
    | stool | of the seat | floor to seat | cushion over the seat | legs outwards, or flare of the column | seat | \
of the seat's outline |
    | table | of the top | floor to apron | apron | legs outwards, or flare of the column | top | of the top's outline |

    Args:
        num_points: Points of each cloud, N.
        train_size: Shapes for training; classes take turns.
        val_size: Shapes for validation. With 0 the validation split IS the test split.
        test_size: Shapes for testing.
        classes: Names of the classes to make, labels in this order; None makes all eight.
        batch_size: Clouds of a batch, on each process.
        shape_seed: Decides the shapes; splits never share one.
        scope: What is normalised together: each `"shape"`, the whole training `"set"`, or `"none"`, which keeps the
            factors' lengths true and the clouds in the unit ball all the same.
        region: `"ball"` (mean to the origin, farthest point at the radius) or `"box"` (middle and longest side).
        radius: Of the ball, or half the side of the box.
        augment: Changes to training clouds, in this order.
        resample: Draw a fresh subset of each training cloud's points in every epoch.
        stored_points: Points made for each cloud, to draw subsets from; None makes `num_points`, or four times as
            many with `resample`.
        drop_last: Leave out a training batch smaller than the others.
        num_workers: Processes that gather; 0 is fastest, by measurement.
        seed: Decides shuffling, fresh subsets and augmentations.
        part_factors: Parts, such as ["arm"], for each of which `Batch.factors` gets one column more, "has_arm": 1 for a
            shape that has the part and 0 for one without. They follow the seven factors.

    Attributes:
        part_names: Names of the parts that `part_labels` and `truth` tell.
    """

    part_names = truth_names = PARTS

    def __init__(
        self,
        num_points: int = 1024,
        train_size: int = 2000,
        val_size: int = 200,
        test_size: int = 400,
        classes: list[str] | None = None,
        batch_size: int = 32,
        shape_seed: int = 0,
        scope: Literal["shape", "set", "none"] = "none",
        region: Literal["ball", "box"] = "ball",
        radius: float = 1.0,
        augment: list[Augmentation] | None = None,
        resample: bool = False,
        stored_points: int | None = None,
        drop_last: bool = False,
        num_workers: int = 0,
        seed: int = 0,
        part_factors: list[str] | None = None,
    ) -> None:
        super().__init__(
            num_points=num_points,
            batch_size=batch_size,
            classes=classes,
            validation=0.0,
            test=0.0,
            split_seed=shape_seed,
            scope=scope,
            region=region,
            radius=radius,
            augment=augment,
            resample=resample,
            drop_last=drop_last,
            up_axis=2,
            num_workers=num_workers,
            seed=seed,
        )
        check_not_negative(shape_seed=shape_seed)
        self.sizes = {"train": train_size, "val": val_size, "test": test_size}
        self.shape_seed = shape_seed
        self.stored_points = stored_points or (4 if resample else 1) * num_points
        if classes == []:
            raise ConfigurationError("classes is []; name at least one, or leave it out for all")
        self.class_names = _checked("class", tuple(CLASSES) if classes is None else classes, tuple(CLASSES))
        self.part_factors = _checked("part", part_factors or (), PARTS)
        self.factor_names = (*FACTORS, *(f"has_{part}" for part in self.part_factors))
        if min(self.sizes.values()) < 0 or train_size < 1:
            raise ConfigurationError(
                f"train_size, val_size, test_size are {tuple(self.sizes.values())}: at least 1, 0 and 0 are needed"
            )
        if self.stored_points < num_points:
            raise ConfigurationError(f"stored_points is {stored_points}, below num_points, which is {num_points}")
        self._labels: NDArray[np.int64] | None = None

    def load(self) -> Source:
        """Make the shapes."""
        split = np.repeat(_SPLITS, [self.sizes[s] for s in _SPLITS])
        number = np.concatenate([np.arange(self.sizes[s]) for s in _SPLITS])
        label = number % len(self.class_names)
        # A shape depends on the seed, its split, its class and its turn: a larger set begins with the same shapes, on
        # which points are drawn anew.
        seeds = [
            (self.shape_seed, _SPLITS.index(s), list(CLASSES).index(self.class_names[k]), i // len(self.class_names))
            for s, k, i in zip(split, label, number, strict=True)
        ]
        names = tuple(f"{s}/{self.class_names[k]}_{i:05d}" for s, k, i in zip(split, label, number, strict=True))
        made = generate([self.class_names[k] for k in label], self.stored_points, seeds)
        self._labels = made.part
        has = made.has[:, [PARTS.index(p) for p in self.part_factors]]  # (K, P)
        return Source(
            CloudSet(
                points=made.points,
                label=label,
                split=split,
                name=names,
                class_names=self.class_names,
                factors=np.concatenate([made.factors, has.astype(np.float32)], axis=1),
                factor_names=self.factor_names,
                up_axis=2,
                source="Shapes",
            )
        )

    def truth(self, split: str, n: int | None = None) -> dict[str, Tensor]:
        """Tell which part each point of `take(split, n)` belongs to: `"part"` (n, N), indices into `truth_names`."""
        return {"part": self.part_labels(split)[torch.from_numpy(self._rows(split, n))]}

    def part_labels(self, split: str) -> Tensor:
        """Tell which part of furniture each point of `take(split)` belongs to.

        Args:
            split: `"train"`, `"val"` or `"test"`.

        Returns:
            Indices into `part_names` (K, N), int64.
        """
        part, batches = self.split(split), self._batches(split)
        if self._labels is None:
            raise DataError("part labels are known once the shapes are made")
        labels = torch.from_numpy(self._labels[part.rows])
        return labels if batches.fixed is None else labels.gather(1, batches.fixed[torch.arange(len(labels))])


def _checked(noun: str, names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Give the names of classes or parts, if there are such and each is named once."""
    for name in names:
        if name not in known:
            raise ConfigurationError(f"Shapes has no {noun} {name!r}; it has {', '.join(known)}")
    if len(set(names)) != len(names):
        raise ConfigurationError(f"Shapes got the {noun} names {list(names)}; name each once")
    return tuple(names)
