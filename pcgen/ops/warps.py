"""Warps of images: sampling grids from increments, their inverse and their total variation.

A grid (B, H, W, 2) says for each pixel of the output where in the input it looks: (x, y), x to the right and y
downwards, −1 and 1 at the centres of the outermost pixels, as `torch.nn.functional.grid_sample(align_corners=True)`
has it.

Reference: Z. Shu, M. Sahasrabudhe, R. A. Güler, D. Samaras, N. Paragios, I. Kokkinos, "Deforming Autoencoders:
Unsupervised Disentangling of Shape and Appearance", ECCV 2018, https://arxiv.org/abs/1806.06503.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pcgen.errors import DataError
from pcgen.ops.neighbors import nearest_neighbors

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
    _check_sides(height, width)
    x = torch.linspace(-1, 1, width, device=device, dtype=dtype)
    y = torch.linspace(-1, 1, height, device=device, dtype=dtype)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def grid_from_increments(increments: Tensor) -> Tensor:
    """Sum increments along their own axis to a grid whose pixels keep their order.

    W_x(i, j) = −1 + s (Σ_{k ≤ j} a_x(i, k) − 1) with s = 2 / (W − 1), and W_y likewise down the columns: increments of
    1 are the identity, 0 makes two pixels look at one place. As long as none is below 0, no pixel of a row overtakes
    its neighbour in x, nor one of a column in y, by more than the rounding of a sum.

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
    across, down, shift = matrix[:, None, None].unbind(-1)  # (B, 1, 1, 2)
    # Not a matrix product, which autocast and TF32 round to a fraction of a pixel.
    return grid[..., :1] * across + grid[..., 1:] * down + shift


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

    Exact for the bilinear interpolant: each cell between four pixels that may come nearer to u than the nearest pixel
    is solved. Where several places map to u, one of them is given; where none does, the one that comes nearest (in a
    cell that is folded over, one that comes close).

    Args:
        grid: (B, H, W, 2), finite.
        points: u (B, K, 2), finite, K at least 1.

    Returns:
        The places p (B, K, 2) in [−1, 1], and how far W(p) is from u, (B, K): about 0 where it was found. Without a
        gradient.

    Raises:
        DataError: If the shapes do not fit, a side of the grid is shorter than two pixels, or a coordinate is not
            finite.

    >>> grid = affine_grid(identity_grid(5, 5)[None], torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.25]]]))
    >>> place, miss = unwarp_points(grid, torch.tensor([[[0.25, 0.0]]]))
    >>> place, bool(miss < 1e-6)
    (tensor([[[ 0.5000, -0.5000]]]), True)
    """
    _check_points(grid, points)
    H, W = grid.shape[1:3]
    _check_sides(H, W)
    with torch.no_grad():
        grid = grid.detach().to(torch.promote_types(grid.dtype, torch.float32))
        points = points.detach().to(grid)
        squared, pixel = nearest_neighbors(F.pad(points, (0, 1)), F.pad(grid.flatten(1, 2), (0, 1)))  # (B, K)
        place, miss = torch.stack([pixel % W, pixel // W], -1).to(grid), squared.sqrt()  # columns and rows
        found = _Found(points, place, miss)
        cells = torch.stack([grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, :-1], grid[:, 1:, 1:]])  # (4, B, …, 2)
        boxes = cells.amin(0), cells.amax(0)  # (B, H − 1, W − 1, 2)
        _look_around(cells, boxes, found, pixel // W, pixel % W)
        # What was not found there lies beyond the border, or where the grid is drawn apart or folded.
        left = (miss > 32 * torch.finfo(miss.dtype).eps).nonzero()  # (n, 2)
        for part in left.split(max(PAIRS // ((H - 1) * (W - 1)), 1)):
            _look_everywhere(cells, boxes, found, *part.unbind(1))
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
    return unwarp_points(grid, q.expand(B, -1, -1))[0].view(B, H, W, 2)


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


def _check_sides(height: int, width: int) -> None:
    if min(height, width) < 2:
        raise DataError(f"an image of {height} × {width} pixels has no grid from −1 to 1; take at least 2 × 2")


def _check_points(grid: Tensor, points: Tensor) -> None:
    if grid.ndim != 4 or grid.shape[3] != 2 or points.ndim != 3 or points.shape[2] != 2 or len(grid) != len(points):
        raise DataError(
            f"a grid of shape {tuple(grid.shape)} and points of {tuple(points.shape)}; give (B, H, W, 2) and (B, K, 2)"
        )


class _Found(NamedTuple):
    """What is looked for, and the best so far: written in place.

    Attributes:
        points: (B, K, 2).
        place: In pixels, column and row (B, K, 2).
        miss: (B, K).
    """

    points: Tensor
    place: Tensor
    miss: Tensor


def _look_around(cells: Tensor, boxes: tuple[Tensor, Tensor], found: _Found, row: Tensor, column: Tensor) -> None:
    """Look into the 4 × 4 cells around the nearest pixels (B, K), which hold nearly every point."""
    step = torch.arange(-2, 2, device=row.device)
    rows, columns = row[..., None, None] + step[:, None], column[..., None, None] + step  # (B, K, 4, 1), (B, K, 1, 4)
    last_row, last_column = cells.shape[2] - 1, cells.shape[3] - 1
    there = (rows >= 0) & (rows <= last_row) & (columns >= 0) & (columns <= last_column)
    rows, columns = rows.clamp(0, last_row), columns.clamp(0, last_column)
    image = torch.arange(len(row), device=row.device)[:, None, None, None]
    low, high = (box[image, rows, columns] for box in boxes)  # (B, K, 4, 4, 2)
    close = there & _comes_nearer(low, high, found.points[:, :, None, None], found.miss[..., None, None])
    b, k, i, j = close.nonzero(as_tuple=True)
    _look_into(cells, found, b, k, rows[b, k, i, 0], columns[b, k, 0, j])


def _look_everywhere(cells: Tensor, boxes: tuple[Tensor, Tensor], found: _Found, b: Tensor, k: Tensor) -> None:
    """Look into all cells of its image for each of some points, rows b (n,) and k (n,)."""
    low, high = (box[b].flatten(1, 2) for box in boxes)  # (n, cells, 2)
    n, cell = _comes_nearer(low, high, found.points[b, k, None], found.miss[b, k, None]).nonzero(as_tuple=True)
    _look_into(cells, found, b[n], k[n], cell // cells.shape[3], cell % cells.shape[3])


def _comes_nearer(low: Tensor, high: Tensor, points: Tensor, miss: Tensor) -> Tensor:
    """Say which boxes come nearer to points than what they have."""
    return torch.maximum(low - points, points - high).clamp(min=0).square().sum(-1) < miss.square()


def _look_into(cells: Tensor, found: _Found, b: Tensor, k: Tensor, row: Tensor, column: Tensor) -> None:
    """Solve pairs (n,) of a point and a cell between four pixels, and keep what comes nearer."""
    t, far = _nearest_in_cell(cells[:, b, row, column], found.points[b, k])
    there = torch.stack([column, row], -1) + t
    won = _first_of_least(far, b * found.points.shape[1] + k, found.miss)
    found.place[b[won], k[won]] = there[won]
    found.miss[b[won], k[won]] = far[won]


def _first_of_least(values: Tensor, slot: Tensor, bound: Tensor) -> Tensor:
    """Give the index of the first smallest value (n,) of each slot (n,) that has one below its bound."""
    least = bound.flatten().scatter_reduce(0, slot, values, "amin")
    won = ((values == least[slot]) & (values < bound.flatten()[slot])).nonzero()[:, 0]
    first = torch.full_like(least, len(values), dtype=torch.int64).scatter_reduce(0, slot[won], won, "amin")
    return first[first < len(values)]


def _nearest_in_cell(corners: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Find where in their cells, t (n, 2) in [0, 1]², something comes nearest to points (n, 2), and how far it is (n,).

    With the cell's place s e + v f + s v g from its first corner, and h the point's, the lines of constant v through
    the point are the roots of (h − v f) × (e + v g) = 0. The four edges hold what lies outside, and all of a cell that
    is folded flat.
    """
    a, b, c, d = corners  # (n, 2): upper left, upper right, lower left, lower right
    e, f, g, h = b - a, c - a, a - b - c + d, points - a
    k0, k1, k2 = _cross(h, e), _cross(e, f) + _cross(h, g), _cross(g, f)
    root = (k1.square() - 4 * k0 * k2).clamp(min=0).sqrt()
    q = -(k1 + torch.where(k1 < 0, -root, root)) / 2
    zero, one = torch.zeros_like(k0), torch.ones_like(k0)
    v = torch.stack([q / k2, k0 / q, zero, one]).nan_to_num(0.5).clamp(0, 1)[..., None]  # (4, n, 1)
    s = torch.stack([zero, one])[..., None]  # (2, n, 1)
    s = torch.cat([_along(h - v * f, e + v * g), s])
    v = torch.cat([v, _along(h - s[4:] * e, f + s[4:] * g)])
    far, best = (h - s * e - v * f - s * v * g).norm(dim=2).min(0)  # (n,)
    t = torch.cat([s, v], 2).gather(0, best[None, :, None].expand(-1, -1, 2))[0]
    return t, far


def _cross(x: Tensor, y: Tensor) -> Tensor:
    return x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]


def _along(x: Tensor, y: Tensor) -> Tensor:
    """Give the r (…, 1) in [0, 1] whose r y comes nearest to x."""
    return ((x * y).sum(-1, keepdim=True) / y.square().sum(-1, keepdim=True)).nan_to_num(0.5).clamp(0, 1)
