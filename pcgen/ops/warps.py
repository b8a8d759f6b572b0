"""Warps of images: sampling grids from increments, their inverse and their total variation.

A grid (B, H, W, 2) says for each pixel of the output where in the input it looks: (x, y), x to the right and y
downwards, −1 and 1 at the centres of the outermost pixels, as `torch.nn.functional.grid_sample(align_corners=True)`
has it.

Reference: Z. Shu, M. Sahasrabudhe, R. A. Güler, D. Samaras, N. Paragios, I. Kokkinos, "Deforming Autoencoders:
Unsupervised Disentangling of Shape and Appearance", ECCV 2018, https://arxiv.org/abs/1806.06503.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pcgen.errors import DataError
from pcgen.ops.neighbors import nearest_neighbors

NEWTON_STEPS = 8
PAIRS = 1 << 23  # of a point and a cell, looked at together: bounds memory


def identity_grid(
    height: int, width: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Give the grid at rest: each pixel looks at itself.

    Args:
        height: H, at least 2.
        width: W, at least 2.
        device: Of the result.
        dtype: Of the result.

    Returns:
        (H, W, 2).

    Raises:
        DataError: If a side is shorter than two pixels, between which −1 and 1 could lie.

    >>> identity_grid(2, 3)[0]
    tensor([[-1., -1.],
            [ 0., -1.],
            [ 1., -1.]])
    """
    if min(height, width) < 2:
        raise DataError(f"an image of {height} × {width} pixels has no grid from −1 to 1; take at least 2 × 2")
    x = torch.linspace(-1, 1, width, device=device, dtype=dtype)
    y = torch.linspace(-1, 1, height, device=device, dtype=dtype)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def grid_from_increments(increments: Tensor) -> Tensor:
    """Sum increments along their own axis to a grid whose pixels keep their order.

    W_x(i, j) = −1 + s (Σ_{k ≤ j} a_x(i, k) − 1) with s = 2 / (W − 1), and W_y likewise down the columns: increments of
    1 are the identity, 0 makes two pixels look at one place. As long as none is below 0, no pixel of a row overtakes
    its neighbour in x, nor one of a column in y.

    Args:
        increments: (B, 2, H, W) in pixels, x first; 0 or more for the order to be kept.

    Returns:
        (B, H, W, 2), differentiable.

    Raises:
        DataError: If the shape is another.

    >>> grid_from_increments(torch.tensor([1.0, 1.0, 0.5]).expand(1, 2, 3, 3))[0, 0, :, 0]
    tensor([-1.0000,  0.0000,  0.5000])
    """
    if increments.ndim != 4 or increments.shape[1] != 2:
        raise DataError(f"increments have shape {tuple(increments.shape)}; give (B, 2, H, W), x before y")
    H, W = increments.shape[2:]
    rest = identity_grid(H, W, device=increments.device, dtype=increments.dtype)
    # Sums of what exceeds 1 keep more digits than sums of the whole, and give the identity to the last bit.
    excess = increments - 1
    across = excess[:, 0].cumsum(2) * (2 / (W - 1))  # (B, H, W)
    down = excess[:, 1].cumsum(1) * (2 / (H - 1))
    return rest + torch.stack([across, down], -1)


def affine_grid(grid: Tensor, matrix: Tensor) -> Tensor:
    """Give A W(p) + t: every place of a grid moved by one affine map a grid.

    Args:
        grid: (B, H, W, 2).
        matrix: [A | t] (B, 2, 3).

    Returns:
        (B, H, W, 2), differentiable.

    >>> affine_grid(identity_grid(2, 2)[None], torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]]))[0, 0]
    tensor([[-0.5000, -1.0000],
            [ 1.5000, -1.0000]])
    """
    moved = torch.einsum("bhwk,bdk->bhwd", grid, matrix[:, :, :2])
    return moved + matrix[:, None, None, :, 2]


def warp_images(images: Tensor, grid: Tensor) -> Tensor:
    """Look up images at the places of grids, between pixels bilinearly, beyond the border at the border.

    Args:
        images: (B, C, H, W).
        grid: (B, H', W', 2).

    Returns:
        (B, C, H', W'), differentiable in both.

    Raises:
        DataError: If the shapes do not fit.

    >>> warp_images(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]), torch.zeros(1, 1, 1, 2))
    tensor([[[[0.5000]]]])
    """
    if images.ndim != 4 or grid.ndim != 4 or grid.shape[3] != 2 or len(grid) != len(images):
        raise DataError(
            f"images of shape {tuple(images.shape)} and a grid of {tuple(grid.shape)}; give (B, C, H, W) and "
            "(B, H', W', 2)"
        )
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)


def warp_points(grid: Tensor, points: Tensor) -> Tensor:
    """Give W(p) at places between pixels, bilinearly.

    Args:
        grid: (B, H, W, 2).
        points: (B, K, 2); places beyond the border are taken at the border.

    Returns:
        (B, K, 2), differentiable in both.

    >>> warp_points(identity_grid(3, 3)[None], torch.tensor([[[0.25, -0.5]]]))
    tensor([[[ 0.2500, -0.5000]]])
    """
    _check_points(grid, points)
    return warp_images(grid.permute(0, 3, 1, 2), points[:, :, None])[..., 0].transpose(1, 2)


def unwarp_points(grid: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Find the places that a grid maps to given ones: p with W(p) = u.

    Exact for the bilinear interpolant: each cell between four pixels that may hold the point is solved. Where several
    places map to u, one of them is given; where none does, one that comes close.

    Args:
        grid: (B, H, W, 2), finite.
        points: u (B, K, 2), finite.

    Returns:
        The places p (B, K, 2) in [−1, 1], and how far W(p) is from u, (B, K): about 0 where it was found. Without a
        gradient.

    Raises:
        DataError: If the shapes do not fit, or a coordinate is not finite.

    >>> grid = affine_grid(identity_grid(5, 5)[None], torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.25]]]))
    >>> place, miss = unwarp_points(grid, torch.tensor([[[0.25, 0.0]]]))
    >>> place, bool(miss < 1e-6)
    (tensor([[[ 0.5000, -0.5000]]]), True)
    """
    _check_points(grid, points)
    with torch.no_grad():
        grid, points = grid.detach(), points.detach().to(grid)
        H, W = grid.shape[1:3]
        squared, pixel = nearest_neighbors(F.pad(points, (0, 1)), F.pad(grid.flatten(1, 2), (0, 1)))  # (B, K)
        place, miss = torch.stack([pixel % W, pixel // W], -1).to(grid), squared.sqrt()  # columns and rows
        most = max(PAIRS // (len(grid) * (H - 1) * (W - 1)), 1)  # points at once
        parts = [(points[:, k : k + most], place[:, k : k + most], miss[:, k : k + most])
                 for k in range(0, points.shape[1], most)]  # fmt: skip
        for part in parts:  # views: written in place
            _look_into_cells(grid, *part)
        return place * place.new_tensor([2 / (W - 1), 2 / (H - 1)]) - 1, miss


def invert_grid(grid: Tensor) -> Tensor:
    """Give the inverse grid: V with W(V(q)) = q for each pixel q that W reaches.

    Args:
        grid: (B, H, W, 2), finite.

    Returns:
        (B, H, W, 2), without a gradient; see `unwarp_points` for places that W does not reach.

    >>> shifted = identity_grid(4, 5)[None] + torch.tensor([0.5, 0.0])  # looks to the right
    >>> invert_grid(shifted)[0, 0, 2:]
    tensor([[-0.5000, -1.0000],
            [ 0.0000, -1.0000],
            [ 0.5000, -1.0000]])
    """
    B, H, W = grid.shape[:3]
    q = identity_grid(H, W, device=grid.device, dtype=grid.dtype).flatten(0, 1)
    return unwarp_points(grid, q.expand(B, -1, -1))[0].unflatten(1, (H, W))


def total_variation(field: Tensor) -> Tensor:
    """Sum the absolute differences of neighbouring pixels, along both axes and over all components.

    Args:
        field: (B, H, W, D).

    Returns:
        (B,), differentiable.

    >>> total_variation(torch.tensor([[0.0, 1.0], [0.0, 3.0]])[None, :, :, None])
    tensor([6.])
    """
    across, down = field.diff(dim=2), field.diff(dim=1)
    return across.abs().sum((1, 2, 3)) + down.abs().sum((1, 2, 3))


def _check_points(grid: Tensor, points: Tensor) -> None:
    if grid.ndim != 4 or grid.shape[3] != 2 or points.ndim != 3 or points.shape[2] != 2 or len(grid) != len(points):
        raise DataError(
            f"a grid of shape {tuple(grid.shape)} and points of {tuple(points.shape)}; give (B, H, W, 2) and (B, K, 2)"
        )


def _look_into_cells(grid: Tensor, points: Tensor, place: Tensor, miss: Tensor) -> None:
    """Put into place (B, k, 2) and miss (B, k) what the cells hold that comes nearer to points (B, k, 2).

    A cell lies between four pixels. Only those whose box holds the point are looked into.
    """
    corners = torch.stack([grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, :-1], grid[:, 1:, 1:]])  # (4, B, …, 2)
    low, high = corners.amin(0).flatten(1, 2), corners.amax(0).flatten(1, 2)  # (B, cells, 2)
    u = points[:, :, None]
    inside = ((u >= low[:, None]) & (u <= high[:, None])).all(-1)  # (B, k, cells)
    b, k, cell = inside.nonzero(as_tuple=True)
    row, column = cell // (grid.shape[2] - 1), cell % (grid.shape[2] - 1)
    t, far = _solved_in_cell(corners[:, b, row, column], points[b, k])
    there = torch.stack([column, row], -1) + t
    slot = b * points.shape[1] + k
    least = miss.flatten().scatter_reduce(0, slot, far, "amin")
    won = (far <= least[slot]) & (far < miss[b, k])
    place[b[won], k[won]] = there[won].to(place)
    miss[b[won], k[won]] = far[won]


def _solved_in_cell(corners: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Find by Newton's method where in their cells, t (n, 2) in [0, 1]², n points lie, and what is missing (n,)."""
    a, b, c, d = corners  # (n, 2): upper left, upper right, lower left, lower right
    right, down, twist = b - a, c - a, a - b - c + d
    t = torch.full_like(points, 0.5)
    for _ in range(NEWTON_STEPS):
        error = points - (a + t[:, :1] * right + t[:, 1:] * down + t.prod(1, keepdim=True) * twist)
        along_x, along_y = right + t[:, 1:] * twist, down + t[:, :1] * twist
        det = along_x[:, 0] * along_y[:, 1] - along_y[:, 0] * along_x[:, 1]
        across = torch.stack(
            [
                along_y[:, 1] * error[:, 0] - along_y[:, 0] * error[:, 1],
                along_x[:, 0] * error[:, 1] - along_x[:, 1] * error[:, 0],
            ],
            1,
        )
        # A cell that is folded flat has no inverse; it is left where it is.
        step = torch.where(det[:, None] == 0, 0, across / det[:, None])
        t = (t + step.nan_to_num(0.0)).clamp(-1, 2)
    t = t.clamp(0, 1)
    error = points - (a + t[:, :1] * right + t[:, 1:] * down + t.prod(1, keepdim=True) * twist)
    return t, error.norm(dim=1)
