"""Callbacks: what happens beside the training. Pictures and scores, written into the run's folder and logged."""

from pcgen.callbacks.confusion import Confusion
from pcgen.callbacks.dashboards import Dashboards
from pcgen.callbacks.decompositions import Decompositions
from pcgen.callbacks.energies import Energies
from pcgen.callbacks.interpolations import Interpolations
from pcgen.callbacks.latent_arithmetic import LatentArithmetic
from pcgen.callbacks.latent_histogram import LatentHistogram
from pcgen.callbacks.latent_scores import LatentScores
from pcgen.callbacks.latent_space import LatentSpace
from pcgen.callbacks.latent_usage import LatentUsage
from pcgen.callbacks.linear_probe import LinearProbe
from pcgen.callbacks.loss_curves import LossCurves
from pcgen.callbacks.numerical_health import NumericalHealth
from pcgen.callbacks.preemption import Preemption
from pcgen.callbacks.reconstruction_quality import ReconstructionQuality
from pcgen.callbacks.reconstructions import Reconstructions
from pcgen.callbacks.restorations import Restorations
from pcgen.callbacks.samples import Samples
from pcgen.callbacks.set_scores import SetScores
from pcgen.callbacks.trajectories import Trajectories
from pcgen.callbacks.traversals import Traversals

__all__ = [
    "Confusion",
    "Dashboards",
    "Decompositions",
    "Energies",
    "Interpolations",
    "LatentArithmetic",
    "LatentHistogram",
    "LatentScores",
    "LatentSpace",
    "LatentUsage",
    "LinearProbe",
    "LossCurves",
    "NumericalHealth",
    "Preemption",
    "ReconstructionQuality",
    "Reconstructions",
    "Restorations",
    "Samples",
    "SetScores",
    "Trajectories",
    "Traversals",
]
