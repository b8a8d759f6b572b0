"""Data for the zoo: each a LightningDataModule that yields `pcgen.base.Batch`es and says what they are."""

from pcgen.datamodules.augmentations import Augmentation, Jitter, PointDropout, RandomScale, RotateUp
from pcgen.datamodules.clouds import CloudDataModule
from pcgen.datamodules.dots import Dots
from pcgen.datamodules.mnist import MNIST
from pcgen.datamodules.modelnet import ModelNet
from pcgen.datamodules.patterns import Patterns
from pcgen.datamodules.point_clouds import PointClouds
from pcgen.datamodules.shapes import Shapes

__all__ = [
    "MNIST",
    "Augmentation",
    "CloudDataModule",
    "Dots",
    "Jitter",
    "ModelNet",
    "Patterns",
    "PointClouds",
    "PointDropout",
    "RandomScale",
    "RotateUp",
    "Shapes",
]
