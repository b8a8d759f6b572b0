"""Point-set mathematics: pure functions of tensors.

Everything is exact to rounding, deterministic, and never holds the matrix of all pairs of points of two clouds.
"""

from pcgen.ops.chamfer import chamfer_distance
from pcgen.ops.divergences import gaussian_kl
from pcgen.ops.earth_mover import (
    earth_mover_bounds,
    earth_mover_distance,
    optimal_assignment,
    pairwise_earth_mover_distance,
)
from pcgen.ops.frechet import frechet_distance
from pcgen.ops.gaussian import gather_points, gaussian_nearest_neighbors
from pcgen.ops.kernels import (
    GaussianKernel,
    InverseMultiquadratic,
    MultiscaleInverseMultiquadratic,
    PolynomialKernel,
    kernel_mmd2,
)
from pcgen.ops.langevin import energy_gradient, langevin, langevin_states
from pcgen.ops.langevin_map import langevin_map
from pcgen.ops.marginals import pairwise_marginal_bound
from pcgen.ops.neighbors import bidirectional_nearest_neighbors, nearest_neighbors
from pcgen.ops.pairwise import pairwise_chamfer_distance
from pcgen.ops.paths import interpolate_codes
from pcgen.ops.sampling import farthest_point_sampling
from pcgen.ops.warps import (
    affine_grid,
    grid_from_increments,
    identity_grid,
    invert_grid,
    total_variation,
    unwarp_points,
    warp_images,
    warp_points,
)

__all__ = [
    "GaussianKernel",
    "InverseMultiquadratic",
    "MultiscaleInverseMultiquadratic",
    "PolynomialKernel",
    "affine_grid",
    "bidirectional_nearest_neighbors",
    "chamfer_distance",
    "earth_mover_bounds",
    "earth_mover_distance",
    "energy_gradient",
    "farthest_point_sampling",
    "frechet_distance",
    "gather_points",
    "gaussian_kl",
    "gaussian_nearest_neighbors",
    "grid_from_increments",
    "identity_grid",
    "interpolate_codes",
    "invert_grid",
    "kernel_mmd2",
    "langevin",
    "langevin_map",
    "langevin_states",
    "nearest_neighbors",
    "optimal_assignment",
    "pairwise_chamfer_distance",
    "pairwise_earth_mover_distance",
    "pairwise_marginal_bound",
    "total_variation",
    "unwarp_points",
    "warp_images",
    "warp_points",
]
