"""Point-set mathematics: pure functions of tensors.

Everything is exact to rounding, deterministic, and never holds the matrix of all pairs of points of two clouds.
"""

from pcgen.ops.chamfer import chamfer_distance
from pcgen.ops.gaussian import gather_points, gaussian_nearest_neighbors
from pcgen.ops.neighbors import bidirectional_nearest_neighbors, nearest_neighbors
from pcgen.ops.pairwise import pairwise_chamfer_distance

__all__ = [
    "bidirectional_nearest_neighbors",
    "chamfer_distance",
    "gather_points",
    "gaussian_nearest_neighbors",
    "nearest_neighbors",
    "pairwise_chamfer_distance",
]
