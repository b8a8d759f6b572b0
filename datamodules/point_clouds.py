"""Any clouds on disk."""

from typing import Literal

from pcgen.datamodules._lazy import Lazy
from pcgen.datamodules._splits import Source, thin
from pcgen.datamodules.augmentations import Augmentation
from pcgen.datamodules.clouds import CloudDataModule
from pcgen.errors import ConfigurationError
from pcgen.io import LazyClouds, catalog, read_clouds, warn_repeats


class PointClouds(CloudDataModule):
    """Clouds or meshes from a file or folder of any kind that pcgen reads.

    These are: pcgen's own HDF5 and folders of its shards, `modelnet40_ply_hdf5_2048`, PointFlow's
    ShapeNetCore.v2.PC15k tree, diffusion-point-cloud's `shapenet.hdf5`, a ModelNet tree of OFF meshes, one `.npy`,
    `.npz`, `.ply`, `.pcd`, `.xyz`, `.off` or `.obj`, or a folder of them.

    Args:
        path: The file or folder.
        num_points: Points of each cloud, N; None takes as many as the source has.
        batch_size: Clouds of a batch, on each process.
        classes: Names of the classes to keep, labels in this order; None keeps all.
        in_memory: False leaves the clouds in their HDF5 files (one, a folder of shards, or a folder of HDF5 files) and
            gathers each batch from there, for sets that memory does not hold.
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
        up_axis: 0, 1 or 2; None takes the source's own. Of one's own HDF5 and `.npz` that is the attribute (or array)
            `up_axis`; where there is none, as in any other container of `points` and `labels`, the axis stays unknown,
            and what needs it (`RotateUp`) asks for it here.
        num_workers: Processes that gather; 0 is fastest for clouds in memory, by measurement.
        seed: Decides shuffling, fresh subsets and augmentations.

    Raises:
        DataError: From `setup`, if the path is not there or a class asked for is not (with those that are).
    """

    def __init__(
        self,
        path: str,
        num_points: int | None = None,
        batch_size: int = 32,
        classes: list[str] | None = None,
        in_memory: bool = True,
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
        super().__init__(
            num_points=num_points,
            batch_size=batch_size,
            classes=classes,
            validation=validation,
            test=test,
            split_seed=split_seed,
            scope=scope,
            region=region,
            radius=radius,
            augment=augment,
            resample=resample,
            drop_last=drop_last,
            up_axis=up_axis,
            num_workers=num_workers,
            seed=seed,
        )
        self.path, self.in_memory = path, in_memory
        if resample and num_points is None:
            raise ConfigurationError("resample draws num_points of the stored points: say num_points")

    def load(self) -> Source:
        """Read the path."""
        return self._in_memory(self.path) if self.in_memory else self._lazily(self.path)

    def _in_memory(self, path: str) -> Source:
        # With fresh subsets all stored points are kept, and a cloud with too few is brought to num_points.
        first = None if self.resample else self.num_points
        clouds = read_clouds(path, num_points=first, classes=self.classes, seed=self.split_seed)
        return Source(thin(clouds, self.num_points, self.split_seed, keep_more=self.resample))

    def _lazily(self, path: str) -> Source:
        listing = catalog(path).select(None, self.classes)
        clouds = LazyClouds(path, items=listing.items)
        stored = clouds.shape[1]
        kept = self.num_points or stored
        if kept > stored:
            warn_repeats(path, stored, kept, len(clouds))
        elif self.resample:
            kept = stored
        return Source(listing, Lazy(clouds, listing.name, kept, self.split_seed))
