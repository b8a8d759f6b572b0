"""Point-set mathematics: pure functions of tensors.

Everything is exact to rounding, deterministic, and holds no matrix of all pairs of points.
"""

from pcgen.ops.chamfer import chamfer_distance
from pcgen.ops.gaussian import gaussian_nearest_neighbors, gather_points
from pcgen.ops.neighbors import bidirectional_nearest_neighbors, nearest_neighbors

__all__ = [
    "bidirectional_nearest_neighbors",
    "chamfer_distance",
    "gather_points",
    "gaussian_nearest_neighbors",
    "nearest_neighbors",
]
