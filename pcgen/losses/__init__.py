"""Objectives: `nn.Module`s over `pcgen.ops`."""

from pcgen.losses.adversarial import AdversarialLoss, HingeLoss, NonSaturatingLoss, WassersteinLoss, pulling_away
from pcgen.losses.reconstruction import (
    AbsoluteErrorReconstruction,
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
    "AbsoluteErrorReconstruction",
    "AdversarialLoss",
    "BernoulliReconstruction",
    "Capacity",
    "ChamferReconstruction",
    "ConstantBeta",
    "CosineBeta",
    "CyclicalBeta",
    "GaussianReconstruction",
    "HingeLoss",
    "LearnedScaleChamferReconstruction",
    "LinearBeta",
    "NonSaturatingLoss",
    "Reconstruction",
    "Schedule",
    "SinkhornDivergence",
    "SquaredErrorReconstruction",
    "WassersteinLoss",
    "pulling_away",
    "sinkhorn_divergence",
]
