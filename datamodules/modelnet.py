"""ModelNet10 and ModelNet40 from their original meshes.

Z. Wu, S. Song, A. Khosla, F. Yu, L. Zhang, X. Tang, J. Xiao: 3D ShapeNets: A Deep Representation for Volumetric
Shapes, CVPR 2015, https://modelnet.cs.princeton.edu. The meshes' copyright is their authors'; the set is provided for
academic research.
"""

import shutil
import warnings
from pathlib import Path
from typing import Literal

from pcgen.datamodules.augmentations import Augmentation
from pcgen.datamodules.point_clouds import PointClouds
from pcgen.errors import ConfigurationError, DataError
from pcgen.io import download as fetch
from pcgen.io import extract_zip, is_stale, prepare

URLS = {
    10: "https://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip",
    40: "https://modelnet.cs.princeton.edu/ModelNet40.zip",
}
MESHES = {10: 4899, 40: 12311}  # 3991 + 908 and 9843 + 2468 for training and testing
CLASSES = {
    10: ("bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet"),
    40: (
        "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone", "cup", "curtain",
        "desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp", "laptop", "mantel",
        "monitor", "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink", "sofa", "stairs", "stool",
        "table", "tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox",
    ),
}  # fmt: skip


class ModelNet(PointClouds):
    """ModelNet10 or ModelNet40: points drawn from the OFF meshes of the official tree.

    The tree lies at `root/ModelNet10/<class>/{train,test}/*.off` (or `ModelNet40`). Its meshes are converted once,
    over all processors, to an HDF5 file that is made again when the tree or an option that matters has changed.

    Args:
        root: The folder in which the tree is, or is to be.
        variant: 10 or 40 classes.
        num_points: Points of each cloud, N.
        batch_size: Clouds of a batch, on each process.
        classes: Names of the classes to keep, labels in this order; None keeps all.
        download: Fetch and unpack the official archive (10: 450 MB, 40: 2 GB) where there is no tree.
        url: Where from; None takes the official place.
        sha256: Checksum the archive must have; None checks none, as Princeton states none. The number of meshes is
            held against the published one in any case, with a warning if they differ.
        cache: Folder for the converted file; None puts it beside the tree.
        stored_points: Points drawn from each mesh; None draws 2048, or `num_points` if that is more, or four times
            `num_points` with `resample`.
        method: How they are drawn: `"uniform"` by area, or `"poisson"`, evenly spread.
        in_memory: False gathers each batch from the file.
        validation: Share of the training clouds held out for validation; the official tree has no such split. With 0
            the validation split IS the test split: then select no checkpoint by it.
        split_seed: Decides what is held out, and the points of each cloud in evaluation.
        scope: What is normalised together: each `"shape"`, the whole training `"set"`, or `"none"`.
        region: `"ball"` (mean to the origin, farthest point at the radius) or `"box"` (middle and longest side).
        radius: Of the ball, or half the side of the box.
        augment: Changes to training clouds, in this order.
        resample: Draw a fresh subset of the stored points of each training cloud in every epoch.
        drop_last: Leave out a training batch smaller than the others.
        num_workers: Processes that gather; 0 is fastest for clouds in memory, by measurement.
        seed: Decides shuffling, fresh subsets and augmentations.
    """

    def __init__(
        self,
        root: str = "data",
        variant: Literal[10, 40] = 10,
        num_points: int = 2048,
        batch_size: int = 32,
        classes: list[str] | None = None,
        download: bool = False,
        url: str | None = None,
        sha256: str | None = None,
        cache: str | None = None,
        stored_points: int | None = None,
        method: Literal["uniform", "poisson"] = "uniform",
        in_memory: bool = True,
        validation: float = 0.1,
        split_seed: int = 0,
        scope: Literal["shape", "set", "none"] = "shape",
        region: Literal["ball", "box"] = "ball",
        radius: float = 1.0,
        augment: list[Augmentation] | None = None,
        resample: bool = False,
        drop_last: bool = False,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        if variant not in URLS:
            raise ConfigurationError(f"variant is {variant}; ModelNet comes with 10 or 40 classes")
        stored = stored_points or (4 * num_points if resample else max(2048, num_points))
        if stored < num_points:
            raise ConfigurationError(f"stored_points is {stored}, below num_points, which is {num_points}")
        self.tree = Path(root) / f"ModelNet{variant}"
        folder = self.tree.parent if cache is None else Path(cache)
        self.file = folder / f"{self.tree.name}_{stored}_{method}.h5"
        super().__init__(
            path=str(self.file),
            num_points=num_points,
            batch_size=batch_size,
            classes=classes,
            in_memory=in_memory,
            validation=validation,
            test=0.0,
            split_seed=split_seed,
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
        unknown = sorted(set(classes or ()) - set(CLASSES[variant]))
        if unknown:
            known = ", ".join(CLASSES[variant])
            raise ConfigurationError(f"ModelNet{variant} has no class {unknown[0]!r}; it has {known}")
        self.class_names = tuple(classes or CLASSES[variant])
        self.variant = variant
        self.download, self.url, self.sha256 = download, url or URLS[variant], sha256
        self.stored_points, self.method = stored, method
        self.convert = True  # the meshes, where that has not been done; false for a record of a stranger's

    def prepare_data(self) -> None:
        """Fetch the archive if asked to, and convert the meshes if that has not been done or is out of date.

        Lightning calls this on one process alone.

        Raises:
            DataError: If there is no tree, with where it was looked for and what can be done; or if it would have to be
                converted for a checkpoint that is not trusted.
        """
        if not self.convert:
            if not self.file.is_file():
                raise DataError(
                    f"{self.file} is not there, and a checkpoint has nothing written to where it says: name the data "
                    "to take, or pass --trust"
                )
            return
        if not self.tree.is_dir():
            if self.file.is_file():  # the meshes may be thrown away after conversion
                return
            if not self.download:
                raise DataError(
                    f"{self.tree} is not there: set download: true to fetch it, or root to the folder that holds "
                    f"{self.tree.name}; meshes elsewhere become a file for PointClouds by `pcgen data prepare`"
                )
            self._fetch()
        if not is_stale(self.file, self.tree, num_points=self.stored_points, method=self.method):
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        summary = prepare(self.tree, self.file, num_points=self.stored_points, method=self.method, overwrite=True)
        if summary.failed:
            file, reason = summary.failed[0]
            warnings.warn(
                f"{len(summary.failed)} of {summary.converted + len(summary.failed)} meshes of {self.tree} could not "
                f"be converted and are left out, the first {file}: {reason}",
                stacklevel=2,
            )

    def _fetch(self) -> None:
        archive = self.tree.with_suffix(".zip")
        fetch(self.url, archive, sha256=self.sha256)
        unpacked = self.tree.with_name(f"{self.tree.name}.unpacked")
        if unpacked.exists():  # left by an interruption
            shutil.rmtree(unpacked)
        extract_zip(archive, unpacked)
        inside = unpacked / self.tree.name
        if not inside.is_dir():
            found = ", ".join(sorted(p.name for p in unpacked.iterdir()))
            shutil.rmtree(unpacked)
            raise DataError(f"{self.url}: no folder {self.tree.name} in the archive; there is {found or 'nothing'}")
        self._count(inside)
        inside.replace(self.tree)
        shutil.rmtree(unpacked)
        archive.unlink()

    def _count(self, tree: Path) -> None:
        """Hold what was unpacked against what was published: nobody states a checksum."""
        found = sum(not p.name.startswith(".") for p in tree.rglob("*.off"))
        if found != MESHES[self.variant]:
            warnings.warn(
                f"{self.url}: {found} meshes in the archive, but {self.tree.name} was published with "
                f"{MESHES[self.variant]}; it is incomplete or another version, and scores on it compare with no other",
                stacklevel=4,
            )
