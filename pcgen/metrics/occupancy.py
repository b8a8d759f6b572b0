"""Where the points of a set of clouds lie on a grid, and the Jensen-Shannon divergence of two sets."""

import functools
import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics.precision import in_double

RADIUS = 0.5  # of the ball that the grid fills
_CHUNK = 256  # points compared with all 560 columns of the grid at once: 1 MB, which stays in the cache
_TOLERANCE = 1e-6  # the farthest point of a normalised cloud is off the sphere by float32 rounding


def jensen_shannon_divergence(generated: Tensor, reference: Tensor, *, resolution: int = 28) -> Tensor:
    """JSD between the occupancies of two sets of clouds (Achlioptas et al. 2018). Lower is better.

    Both sets' points are counted at the nearest of the grid's centres that lie in the ball of radius ½, the counts
    divided by their sum, and JSD(p, q) = H((p + q)/2) − (H(p) + H(q))/2 taken with logarithms to base 2. It compares
    the sets' means over the shapes: a set of averages may score well.

    Args:
        generated: Clouds (S, N, 3) in the ball of radius ½ about the origin.
        reference: Clouds (R, M, 3) in that ball.
        resolution: Centres on each axis, at i/(resolution − 1) − ½.

    Returns:
        Scalar float64 in [0, 1].

    Raises:
        DataError: If a set is empty, of another shape, or holds NaN or infinity.

    Warns:
        UserWarning: If points lie outside the ball, with their share (`share_outside_ball`). They are counted at
            the surface (`cloud_occupancy`), which hides how far out they are.

    >>> left, right = torch.full((2, 5, 3), -0.2), torch.full((2, 5, 3), 0.2)
    >>> jensen_shannon_divergence(left, right).item(), jensen_shannon_divergence(left, left).item()
    (1.0, 0.0)
    """
    p, q = cloud_occupancy(generated, resolution=resolution), cloud_occupancy(reference, resolution=resolution)
    outside = [share_outside_ball(clouds).item() for clouds in (generated, reference)]
    if any(outside):
        warnings.warn(
            f"{outside[0]:.2%} of the generated and {outside[1]:.2%} of the reference points lie outside the ball of "
            "radius 1/2 and are counted at its surface: scale both sets by the normalisation's radius first",
            stacklevel=2,
        )
    return occupancy_divergence(p.sum(0), q.sum(0))


def share_outside_ball(clouds: Tensor, *, radius: float = RADIUS) -> Tensor:
    """Give the share of points farther than a radius from the origin (up to float32 rounding).

    Args:
        clouds: (S, N, 3).
        radius: Of the ball.

    Returns:
        Scalar float64 in [0, 1].

    >>> share_outside_ball(torch.tensor([[[0.0, 0.0, 0.0], [0.4, 0.4, 0.4]]])).item()
    0.5
    """
    _check(clouds)
    outside: Tensor = torch.linalg.vector_norm(in_double(clouds), dim=-1).gt(radius * (1 + _TOLERANCE))  # (S, N)
    return in_double(outside).mean()


def cloud_occupancy(clouds: Tensor, *, resolution: int = 28) -> Tensor:
    """Count each cloud's points at the grid's centres.

    Args:
        clouds: (S, N, 3).
        resolution: Centres on each axis.

    Returns:
        (S, C) int32, C the number of centres inside the ball, in the order of their indices along x, y, z. A point
        midway between centres counts at the first of them.

    >>> clouds = torch.tensor([[[0.0, 0.0, 0.4], [0.0, 0.0, 0.4], [0.0, 0.0, -0.4]]])
    >>> counts = cloud_occupancy(clouds, resolution=3)
    >>> counts[counts > 0].tolist()
    [1, 2]
    """
    _check(clouds)
    grid = _grid(resolution).to(in_double(clouds[:0]).device)
    cells = int(grid.inside.sum())
    counts = clouds.new_zeros(len(clouds), cells, dtype=torch.int32)
    for i, cloud in enumerate(clouds):  # one at a time: float64 copies of a whole set would be large
        counts[i] = _nearest_slots(in_double(cloud), resolution, grid).bincount(minlength=cells)
    return counts


def occupancy_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Give the Jensen-Shannon divergence to base 2 of counts.

    Args:
        p: (…, C), not negative, with a sum above 0.
        q: (…, C).

    Returns:
        (…), float64 in [0, 1].
    """
    p, q = (in_double(t) for t in (p, q))
    p, q = (t / t.sum(-1, keepdim=True) for t in (p, q))
    m = (p + q) / 2
    # cell by cell and not as a difference of entropies, which cancel where p and q are nearly equal
    nats: Tensor = (
        torch.special.xlogy(p, p / m.clamp(min=1e-300)) + torch.special.xlogy(q, q / m.clamp(min=1e-300))
    ).sum(-1)
    return (nats / (2 * math.log(2))).clamp(0, 1)


class _Grid(NamedTuple):
    """The grid's centres inside the ball. Those of one (x, y) are the unbroken column from `low` to its mirror."""

    inside: Tensor  # (resolution³,) bool
    slots: Tensor  # (resolution³,) numbers of the centres inside, from 0
    low: Tensor  # (resolution, resolution) float64, lowest z index of each column; `resolution` where there is none

    def to(self, device: torch.device) -> "_Grid":
        return _Grid(*(tensor.to(device) for tensor in self))


def _nearest_slots(points: Tensor, resolution: int, grid: _Grid) -> Tensor:
    """Number of the nearest centre in the ball, (P,), of points (P, 3)."""
    place = (points + RADIUS) * (resolution - 1)  # in steps of the grid
    cell = torch.ceil(place - 0.5)  # half down: the first of equally near centres
    known = cell.ge(0).logical_and(cell.lt(resolution)).all(-1)
    flat = _flat(cell.clamp(0, resolution - 1), resolution)
    known &= grid.inside[flat]
    # A step of √3/2 towards the middle puts a point of the ball where its own cell's centre is in the ball, no more
    # than √3/2 away: so its nearest centre is within √3 steps, two columns from its own. Others may have it anywhere.
    near = torch.linalg.vector_norm(points, dim=-1).le(RADIUS * (1 + _TOLERANCE))
    steps = torch.arange(-2, 3, dtype=cell.dtype, device=cell.device)
    for part in torch.split((~known & near).nonzero()[:, 0], _CHUNK):
        columns = cell[part, None, :2] + torch.cartesian_prod(steps, steps)  # (P, 25, 2)
        flat[part] = _nearest_of_columns(place[part], columns, resolution, grid.low)
    everywhere = (grid.low < resolution).nonzero().to(cell.dtype)  # (K, 2)
    for part in torch.split((~known & ~near).nonzero()[:, 0], _CHUNK):
        flat[part] = _nearest_of_columns(place[part], everywhere[None], resolution, grid.low)
    return grid.slots[flat]


def _nearest_of_columns(place: Tensor, columns: Tensor, resolution: int, low: Tensor) -> Tensor:
    """Flat index of the best of the columns' nearest centres, (P,), for points (P, 3) and columns (P or 1, K, 2)."""
    x, y = columns.unbind(-1)
    within = columns.ge(0).logical_and(columns.lt(resolution)).all(-1)
    index = columns.clamp(0, resolution - 1).long()
    bottom = torch.where(within, low[index[..., 0], index[..., 1]], resolution)  # (P or 1, K)
    z = torch.ceil(place[:, 2, None] - 0.5).clamp(bottom, resolution - 1 - bottom)  # (P, K)
    squared: Tensor = (place[:, 0, None] - x) ** 2 + (place[:, 1, None] - y) ** 2 + (place[:, 2, None] - z) ** 2
    best = squared.masked_fill(bottom == resolution, torch.inf).argmin(dim=1, keepdim=True)
    return _flat(
        torch.cat([x.expand_as(z).gather(1, best), y.expand_as(z).gather(1, best), z.gather(1, best)], 1), resolution
    )


def _flat(cell: Tensor, resolution: int) -> Tensor:
    index = cell.long()
    return (index[:, 0] * resolution + index[:, 1]) * resolution + index[:, 2]


@functools.lru_cache(maxsize=4)
def _grid(resolution: int) -> _Grid:
    if resolution < 2:
        raise ConfigurationError(f"resolution is {resolution}; a grid has at least 2 centres on an axis")
    axis = (2 * torch.arange(resolution) - (resolution - 1)) ** 2  # in half steps: integers, no rounding at the rim
    inside = axis[:, None, None] + axis[:, None] + axis <= (resolution - 1) ** 2
    if not inside.any():
        raise ConfigurationError(f"resolution is {resolution}; no centre lies in the ball: 28 is the published value")
    low = torch.where(inside.any(-1), inside.int().argmax(-1), resolution).double()
    flat = inside.flatten()
    return _Grid(flat, flat.cumsum(0) - 1, low)


def _check(clouds: Tensor) -> None:
    if clouds.ndim != 3 or clouds.shape[-1] != 3 or not clouds.numel():
        raise DataError(f"clouds have shape {tuple(clouds.shape)}; a set is (S, N, 3) with at least one point")
    if not torch.isfinite(clouds).all():
        bad = int((~torch.isfinite(clouds)).any(-1).any(-1).sum())
        raise DataError(f"{bad} of {len(clouds)} clouds hold NaN or infinity: leave them out or find their cause")
