"""Every metric as a function: tensors in, tensor out.

Of sets of clouds, d[i, j] is the distance of generated cloud i to reference cloud j, (S, R).
"""

from torch import Tensor

from pcgen.errors import DataError
from pcgen.metrics.bootstrap import bootstrap_interval, divergence_interval
from pcgen.metrics.disentanglement import (
    DCI,
    compactness,
    dci,
    informativeness,
    linear_informativeness,
    separated_attribute_predictability,
)
from pcgen.metrics.diversity import diversity, mean_pairwise_distance
from pcgen.metrics.energies import summarize_energies
from pcgen.metrics.kernel_distance import kernel_distance
from pcgen.metrics.latent_prior import (
    PriorMMD2,
    active_units,
    active_units_by_kl,
    latent_mmd2,
    latent_mmd2_of_prior,
)
from pcgen.metrics.mutual_information import modularity, mutual_information_gap
from pcgen.metrics.occupancy import cloud_occupancy, jensen_shannon_divergence, share_outside_ball
from pcgen.metrics.pairs import PairwiseDistance
from pcgen.metrics.set_scores import (
    coverage,
    covered_references,
    exact_mean,
    matching_distances,
    minimum_matching_distance,
    neighbor_agreement,
    one_nearest_neighbor_accuracy,
    reconstruction_agreement,
)
from pcgen.metrics.smoothness import walk_smoothness
from pcgen.ops import pairwise_chamfer_distance

__all__ = [
    "DCI",
    "PriorMMD2",
    "active_units",
    "active_units_by_kl",
    "bootstrap_interval",
    "cloud_occupancy",
    "compactness",
    "coverage",
    "covered_references",
    "dci",
    "divergence_interval",
    "diversity",
    "informativeness",
    "jensen_shannon_divergence",
    "kernel_distance",
    "latent_mmd2",
    "latent_mmd2_of_prior",
    "linear_informativeness",
    "matching_distances",
    "mean_pairwise_distance",
    "minimum_matching_distance",
    "modularity",
    "mutual_information_gap",
    "neighbor_agreement",
    "one_nearest_neighbor_accuracy",
    "own_reconstruction_coverage",
    "reconstruction_agreement",
    "reconstruction_coverage",
    "separated_attribute_predictability",
    "share_outside_ball",
    "summarize_energies",
    "walk_smoothness",
]


def reconstruction_coverage(
    data: Tensor, reconstructions: Tensor, *, distance: PairwiseDistance = pairwise_chamfer_distance
) -> Tensor:
    """Share of the data whose nearest other cloud, among all the data and all the reconstructions, is a reconstruction.

    Higher is better. A blurred mean shape may stand near everything and cover much; `own_reconstruction_coverage`
    is the stricter count. Where several clouds are equally near, the share of them that are reconstructions counts.

    Args:
        data: (n, N, 3).
        reconstructions: (n, M, 3), one for each datum in the same order.
        distance: (a, b) to (len(a), len(b)).

    Returns:
        Scalar float64 in [0, 1].

    Raises:
        DataError: If there are not as many reconstructions as data, or a distance is NaN or infinite.

    >>> import torch
    >>> data = torch.rand(4, 20, 3, generator=torch.Generator().manual_seed(0))
    >>> reconstruction_coverage(data, data + 0.01).item()
    1.0
    >>> reconstruction_coverage(data, data + 9).item()
    0.0
    """
    return exact_mean(_agreement(data, reconstructions, distance)[0])


def own_reconstruction_coverage(
    data: Tensor, reconstructions: Tensor, *, distance: PairwiseDistance = pairwise_chamfer_distance
) -> Tensor:
    """Share of the data whose nearest other cloud, among all the data and all the reconstructions, is its own.

    Args:
        data: (n, N, 3).
        reconstructions: (n, M, 3), one for each datum in the same order.
        distance: (a, b) to (len(a), len(b)).

    Returns:
        Scalar float64 in [0, 1], at most `reconstruction_coverage`.

    Raises:
        DataError: If there are not as many reconstructions as data, or a distance is NaN or infinite.

    >>> import torch
    >>> data = torch.rand(4, 20, 3, generator=torch.Generator().manual_seed(0))
    >>> own_reconstruction_coverage(data, data + 0.01).item()
    1.0
    >>> own_reconstruction_coverage(data, (data + 0.01).flip(0)).item()  # near, but another's
    0.0
    """
    return exact_mean(_agreement(data, reconstructions, distance)[1])


def _agreement(data: Tensor, reconstructions: Tensor, distance: PairwiseDistance) -> tuple[Tensor, Tensor]:
    if len(data) != len(reconstructions) or not len(data):
        raise DataError(f"{len(reconstructions)} reconstructions of {len(data)} data: give one for each, at least one")
    return reconstruction_agreement(distance(data, data), distance(data, reconstructions))
