"""How even a walk between two data is: the length of each step, and the longest beside their mean."""

from typing import NamedTuple

import torch
from torch import Tensor

from pcgen.errors import DataError
from pcgen.ops import chamfer_distance


class WalkSmoothness(NamedTuple):
    """The steps of one walk.

    Attributes:
        lengths: Of each step (S − 1,) float64, in the units of the data.
        mean: Of the lengths.
        longest: Of the lengths.
        ratio: The longest relative to the mean: 1 for even steps, S − 1 for a single jump; NaN for a walk that stands
            still.
    """

    lengths: Tensor
    mean: float
    longest: float
    ratio: float


def walk_smoothness(walk: Tensor, *, corresponding: bool = True) -> WalkSmoothness:
    """Measure the steps between the stations of one walk.

    Args:
        walk: Stations (S, N, 3) or (S, C, H, W), S at least 2.
        corresponding: True where a point keeps its place in the list of points, and for images: a step's length is the
            root mean square of the displacements of the points, for images of the changes of the pixels. False asks for
            no order: sqrt(CD / 2) of consecutive clouds, where CD is the Chamfer distance of squared distances, mean
            over points and both directions added. Both are the same where each point's nearest is its own; the second
            is never above the first.

    Returns:
        The lengths, and the ratio of the longest to their mean.

    Raises:
        DataError: If the walk is not of such a shape, or a value is NaN or infinite; or if images are measured without
            correspondence.

    >>> import torch
    >>> cloud = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    >>> walk = torch.stack([cloud, cloud + 0.1, cloud + 0.2, cloud + 0.5])
    >>> f"{walk_smoothness(walk).ratio:.3f}"  # steps of 1, 1 and 3
    '1.800'
    """
    _check(walk, corresponding)
    lengths = _displacements(walk) if corresponding else _chamfer_steps(walk)
    mean, longest = float(lengths.mean()), float(lengths.max())
    return WalkSmoothness(lengths, mean, longest, longest / mean if mean > 0 else float("nan"))


def smoothness_rows(walks: Tensor) -> tuple[list[str], list[list[float | None]]]:
    """Give the smoothness of walks (B, S, …) as a table: its heads, and a row for each walk.

    Of clouds `chamfer_ratio` is the ratio without correspondence of the points; of images there is none. None stands
    for the ratio of a walk that stands still.
    """
    heads = ["walk", "mean_step", "longest_step", "ratio"]
    ways = [True, False] if walks.ndim == 4 else [True]
    rows: list[list[float | None]] = []
    for k, walk in enumerate(walks):
        found = [walk_smoothness(walk, corresponding=way) for way in ways]
        ratios = [each.ratio if each.mean > 0 else None for each in found]
        rows.append([k, found[0].mean, found[0].longest, *ratios])
    return [*heads, *["chamfer_ratio"][: len(ways) - 1]], rows


def _displacements(walk: Tensor) -> Tensor:
    squared = walk.detach().cpu().double().diff(dim=0).square()  # (S − 1, …)
    return (squared.sum(-1) if walk.ndim == 3 else squared).flatten(1).mean(1).sqrt()


def _chamfer_steps(walk: Tensor) -> Tensor:
    walk = walk.detach().cpu()
    return (chamfer_distance(walk[:-1], walk[1:]).double() / 2).sqrt()


def _check(walk: Tensor, corresponding: bool) -> None:
    fits = walk.ndim == 4 or (walk.ndim == 3 and walk.shape[2] == 3)
    if not fits or len(walk) < 2 or 0 in walk.shape:
        raise DataError(f"the walk has shape {tuple(walk.shape)}; give at least two stations (S, N, 3) or (S, C, H, W)")
    if walk.ndim == 4 and not corresponding:
        raise DataError("the pixels of images correspond; corresponding=False is for clouds")
    if not torch.isfinite(walk).all():
        bad = int((~torch.isfinite(walk)).flatten(1).any(1).sum())
        raise DataError(f"{bad} of {len(walk)} stations of the walk hold NaN or infinity; walk between other ends")
