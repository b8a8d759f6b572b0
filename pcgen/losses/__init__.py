"""Objectives: `nn.Module`s over `pcgen.ops`."""

from pcgen.losses.reconstruction import (
    BernoulliReconstruction,
    ChamferReconstruction,
    GaussianReconstruction,
    LearnedScaleChamferReconstruction,
    Reconstruction,
    SquaredErrorReconstruction,
)
from pcgen.losses.schedules import Capacity, ConstantBeta, CosineBeta, CyclicalBeta, LinearBeta, Schedule
from pcgen.losses.sinkhorn import SinkhornDivergence, sinkhorn_divergence

__all__ = [
    "BernoulliReconstruction",
    "Capacity",
    "ChamferReconstruction",
    "ConstantBeta",
    "CosineBeta",
    "CyclicalBeta",
    "GaussianReconstruction",
    "LearnedScaleChamferReconstruction",
    "LinearBeta",
    "Reconstruction",
    "Schedule",
    "SinkhornDivergence",
    "SquaredErrorReconstruction",
    "sinkhorn_divergence",
]
