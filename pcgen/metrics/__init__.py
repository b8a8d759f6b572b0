"""Scores: functions in `pcgen.metrics.functional`, `torchmetrics.Metric`s and whole evaluations here.

Everything is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcgen.metrics.chains import draw_trajectories as draw_trajectories
    from pcgen.metrics.clouds import GenerationScores as GenerationScores
    from pcgen.metrics.clouds import ReconstructionScores as ReconstructionScores
    from pcgen.metrics.diversity import Diversity as Diversity
    from pcgen.metrics.energies import EnergySummary as EnergySummary
    from pcgen.metrics.energies import energies_of as energies_of
    from pcgen.metrics.evaluation import SetEvaluator as SetEvaluator
    from pcgen.metrics.evaluation import evaluate_sets as evaluate_sets
    from pcgen.metrics.extractors import Extractor as Extractor
    from pcgen.metrics.extractors import extractor as extractor
    from pcgen.metrics.features import FeatureExtractor as FeatureExtractor
    from pcgen.metrics.features import FrechetDistance as FrechetDistance
    from pcgen.metrics.features import GivenFeatures as GivenFeatures
    from pcgen.metrics.features import KernelDistance as KernelDistance
    from pcgen.metrics.foreign import ForeignData as ForeignData
    from pcgen.metrics.foreign import foreign_data as foreign_data
    from pcgen.metrics.image_evaluator import ImageEvaluator as ImageEvaluator
    from pcgen.metrics.image_evaluator import evaluate_images as evaluate_images
    from pcgen.metrics.kernel_distance import KernelDistances as KernelDistances
    from pcgen.metrics.latent import ActiveUnits as ActiveUnits
    from pcgen.metrics.latent import KLPerDimension as KLPerDimension
    from pcgen.metrics.latent import LatentFactorScores as LatentFactorScores
    from pcgen.metrics.latent import LatentMMD as LatentMMD
    from pcgen.metrics.means import MeanOverData as MeanOverData
    from pcgen.metrics.model_features import features_of as features_of
    from pcgen.metrics.moments import FeatureMoments as FeatureMoments
    from pcgen.metrics.pairs import DISTANCES as DISTANCES
    from pcgen.metrics.probe import ProbeResult as ProbeResult
    from pcgen.metrics.probe import linear_probe as linear_probe
    from pcgen.metrics.protocol import Protocol as Protocol
    from pcgen.metrics.protocol import ball_radius as ball_radius
    from pcgen.metrics.protocol import data_name as data_name
    from pcgen.metrics.restoration import RestorationScores as RestorationScores
    from pcgen.metrics.sampling import draw as draw
    from pcgen.metrics.sampling import draw_chunks as draw_chunks
    from pcgen.metrics.scores import Scores as Scores
    from pcgen.metrics.scores import compare as compare
    from pcgen.metrics.smoothness import WalkSmoothness as WalkSmoothness

_HOME = {
    "ActiveUnits": "latent",
    "DISTANCES": "pairs",
    "Diversity": "diversity",
    "EnergySummary": "energies",
    "Extractor": "extractors",
    "FeatureExtractor": "features",
    "FeatureMoments": "moments",
    "ForeignData": "foreign",
    "FrechetDistance": "features",
    "GenerationScores": "clouds",
    "GivenFeatures": "features",
    "ImageEvaluator": "image_evaluator",
    "KLPerDimension": "latent",
    "KernelDistance": "features",
    "KernelDistances": "kernel_distance",
    "LatentFactorScores": "latent",
    "LatentMMD": "latent",
    "MeanOverData": "means",
    "ProbeResult": "probe",
    "Protocol": "protocol",
    "ReconstructionScores": "clouds",
    "RestorationScores": "restoration",
    "Scores": "scores",
    "SetEvaluator": "evaluation",
    "WalkSmoothness": "smoothness",
    "ball_radius": "protocol",
    "compare": "scores",
    "data_name": "protocol",
    "draw": "sampling",
    "draw_chunks": "sampling",
    "draw_trajectories": "chains",
    "energies_of": "energies",
    "evaluate_images": "image_evaluator",
    "evaluate_sets": "evaluation",
    "extractor": "extractors",
    "features_of": "model_features",
    "foreign_data": "foreign",
    "linear_probe": "probe",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 -- the table above is the list


def __getattr__(name: str) -> Any:
    if name == "functional":
        return importlib.import_module("pcgen.metrics.functional")
    if name not in _HOME:
        raise AttributeError(f"module 'pcgen.metrics' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"pcgen.metrics.{_HOME[name]}"), name)
    globals()[name] = value
    return value
