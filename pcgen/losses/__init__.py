"""Objectives: `nn.Module`s over `pcgen.ops`."""

from pcgen.losses.reconstruction import (
    BernoulliReconstruction,
    ChamferReconstruction,
    GaussianReconstruction,
    LearnedScaleChamferReconstruction,
    Reconstruction,
)

__all__ = [
    "BernoulliReconstruction",
    "ChamferReconstruction",
    "GaussianReconstruction",
    "LearnedScaleChamferReconstruction",
    "Reconstruction",
]
