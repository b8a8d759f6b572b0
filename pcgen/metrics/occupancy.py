"""Where the points of a set of clouds lie on a grid, and the Jensen-Shannon divergence of two sets."""

import functools
import math
import warnings

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError

RADIUS = 0.5  # of the ball that the grid fills
_CHUNK = 1024  # points compared with all the surface's centres at once: 1024 × about 2600 × 8 bytes
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
        UserWarning: If points lie outside the ball, with their share (`share_outside_ball`). They are counted at the
            centre nearest to them, which hides how far out they are.
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
    """
    _check(clouds)
    outside = torch.linalg.vector_norm(clouds.double(), dim=-1).gt(radius * (1 + _TOLERANCE))  # (S, N)
    return outside.double().mean()


def cloud_occupancy(clouds: Tensor, *, resolution: int = 28) -> Tensor:
    """Count each cloud's points at the grid's centres.

    Args:
        clouds: (S, N, 3).
        resolution: Centres on each axis.

    Returns:
        (S, C) int32, C the number of centres inside the ball, in the order of their indices along x, y, z. A point
        midway between centres counts at the first of them.
    """
    _check(clouds)
    inside, slots, surface = _grid(resolution)
    inside, slots, surface = (t.to(clouds.device) for t in (inside, slots, surface))
    counts = torch.zeros(len(clouds), int(inside.sum()), dtype=torch.int32, device=clouds.device)
    for i, cloud in enumerate(clouds):  # one at a time: float64 copies of a whole set would be large
        nearest = _nearest_slots(cloud.double(), resolution, inside, slots, surface)
        counts[i] = nearest.bincount(minlength=counts.shape[1])
    return counts


def occupancy_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Give the Jensen-Shannon divergence to base 2 of counts.

    Args:
        p: (…, C), not negative, with a sum above 0.
        q: (…, C).

    Returns:
        (…), float64 in [0, 1].
    """
    p, q = (t.double() / t.double().sum(-1, keepdim=True) for t in (p, q))
    m = (p + q) / 2
    # each term is of one sign per cell pair, so near-equal distributions lose nothing to cancelling entropies
    nats = (torch.special.xlogy(p, p / m.clamp(min=1e-300)) + torch.special.xlogy(q, q / m.clamp(min=1e-300))).sum(-1)
    return (nats / (2 * math.log(2))).clamp(0, 1)


def _nearest_slots(points: Tensor, resolution: int, inside: Tensor, slots: Tensor, surface: Tensor) -> Tensor:
    """Index of the nearest centre in the ball of points (P, 3), among those centres."""
    cell = torch.ceil((points + RADIUS) * (resolution - 1) - 0.5)  # half down: the first of equally near centres
    known = ((cell >= 0) & (cell < resolution)).all(-1)
    cell = cell.clamp(0, resolution - 1).long()
    flat = (cell[:, 0] * resolution + cell[:, 1]) * resolution + cell[:, 2]
    known &= inside[flat]
    slot = slots[flat]
    # A centre whose six neighbours are all in the ball is the nearest only to points of its own cell, so the points
    # of dropped cells need be compared with the surface's centres alone.
    far = (~known).nonzero()[:, 0]
    for part in torch.split(far, _CHUNK):
        slot[part] = slots[surface[_nearest(points[part], _centres(surface, resolution))]]
    return slot


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    dx, dy, dz = (points[:, None, k] - centres[None, :, k] for k in range(3))
    squared: Tensor = dx**2 + dy**2 + dz**2
    return squared.argmin(dim=1)


def _centres(flat: Tensor, resolution: int) -> Tensor:
    index = torch.stack([flat // resolution**2, flat // resolution % resolution, flat % resolution], dim=-1)
    return index.double() / (resolution - 1) - RADIUS


@functools.lru_cache(maxsize=4)
def _grid(resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give, over the flat grid: which centres are in the ball, their numbers, and the flat indices of its surface."""
    if resolution < 2:
        raise ConfigurationError(f"resolution is {resolution}; a grid has at least 2 centres on an axis")
    axis = (2 * torch.arange(resolution) - (resolution - 1)) ** 2  # in half steps: integers, no rounding at the rim
    inside = axis[:, None, None] + axis[:, None] + axis <= (resolution - 1) ** 2
    if not inside.any():
        raise ConfigurationError(f"resolution is {resolution}; no centre lies in the ball: 28 is the published value")
    padded = torch.nn.functional.pad(inside, (1,) * 6)
    core = inside.clone()
    for dim in range(3):
        for start in (0, 2):
            core &= padded.narrow(dim, start, resolution)[_middle(dim, resolution)]
    flat = inside.flatten()
    return flat, flat.cumsum(0) - 1, (inside & ~core).flatten().nonzero()[:, 0]


def _middle(dim: int, resolution: int) -> tuple[slice, ...]:
    return tuple(slice(None) if k == dim else slice(1, resolution + 1) for k in range(3))


def _check(clouds: Tensor) -> None:
    if clouds.ndim != 3 or clouds.shape[-1] != 3 or not clouds.numel():
        raise DataError(f"clouds have shape {tuple(clouds.shape)}; a set is (S, N, 3) with at least one point")
    if not torch.isfinite(clouds).all():
        bad = int((~torch.isfinite(clouds)).any(-1).any(-1).sum())
        raise DataError(f"{bad} of {len(clouds)} clouds hold NaN or infinity: leave them out or find their cause")
