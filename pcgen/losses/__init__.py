"""Objectives: `nn.Module`s over `pcgen.ops`."""

from pcgen.losses.reconstruction import (
    BernoulliReconstruction,
    ChamferReconstruction,
    GaussianReconstruction,
    LearnedScaleChamferReconstruction,
    Reconstruction,
)
from pcgen.losses.sinkhorn import SinkhornDivergence, sinkhorn_divergence

__all__ = [
    "BernoulliReconstruction",
    "ChamferReconstruction",
    "GaussianReconstruction",
    "LearnedScaleChamferReconstruction",
    "Reconstruction",
    "SinkhornDivergence",
    "sinkhorn_divergence",
]
