"""How well a model recovers what is known of its images: the warp, albedo and shading they were made with.

An unsupervised model's canonical frame is its own: if its template is the true one bent by a fixed map G, then
W_rec = G ∘ W_true explains every image as well. So layers are compared in the images, to which both sides are brought
by their own warps, and the warp is compared twice: as it is, and with the best affine G and then all that is the same
in every image taken away.

The second number is the safer one. Pixels that show the object are chosen by the true warp, whose mean over them is
thereby not the identity at the object's rim but a little shrunk, so that a found warp that shrinks all images alike
correlates with it; less the mean at each pixel it does not.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pcgen.errors import DataError
from pcgen.ops import identity_grid, warp_images

CONSTANT = 1e-6  # deviation below which numbers of about 1 do not vary but by rounding


class Recovered(NamedTuple):
    """What is known or found of B images, all of it where the images have it; None for what is not.

    Attributes:
        grid: The warp, for each pixel its place in the canonical frame (B, H, W, 2), as in `Decomposition`.
        albedo: (B, C, H, W), seen in the image and not in the canonical frame.
        shading: (B, 1, H, W), as the albedo.
        landmarks: Their places (x, y) in the images (B, L, 2), −1 and 1 at the centres of the outermost pixels.
    """

    grid: Tensor | None = None
    albedo: Tensor | None = None
    shading: Tensor | None = None
    landmarks: Tensor | None = None


def score_recovery(
    found: Recovered, true: Recovered, support: Tensor, *, gauge: Tensor | None = None
) -> dict[str, float]:
    """Compare what was found of images with what is true, by every measure for which both are there.

    Args:
        found: Of the images.
        true: Of the images.
        support: Pixels that show the object (B, H, W), bool; others do not count.
        gauge: The affine part [A | t] (2, 3) of G, see `fit_gauge`; None leaves out the warp without it.

    Returns:
        `warp` and `warp_without_gauge`, correlations; `albedo`, over all images together, and `shading`, image by
        image; and `landmark_error`, the mean distance in pixels.
    """
    scores = {}
    if found.grid is not None and true.grid is not None:
        scores["warp"] = warp_correlation(found.grid, true.grid, support)
        if gauge is not None:
            moved = remove_gauge(found.grid, gauge)
            scores["warp_without_gauge"] = warp_correlation(moved, true.grid, support, centered=True)
    if found.albedo is not None and true.albedo is not None:
        scores["albedo"] = layer_correlation(found.albedo, true.albedo, support)
    if found.shading is not None and true.shading is not None:
        scores["shading"] = layer_correlation(found.shading, true.shading, support, each=True)
    if found.landmarks is not None and true.landmarks is not None:
        H, W = support.shape[1:]
        scores["landmark_error"] = landmark_errors(found.landmarks, true.landmarks, (H, W)).mean().item()
    return scores


# ── correlations ──────────────────────────────────────────────────────────────────────────────────────────────────────


def correlation(a: Tensor, b: Tensor) -> float:
    """Give Pearson's correlation of numbers of about 1, over all of them together; NaN where one side does not vary.

    >>> correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.5, 2.5]))
    1.0
    """
    if a.shape != b.shape:
        raise DataError(f"numbers of shapes {tuple(a.shape)} and {tuple(b.shape)} are compared; give as many of each")
    a, b = (x.detach().cpu().double().flatten() for x in (a, b))
    if not len(a):
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    spread = [x.square().mean().sqrt() for x in (a, b)]
    if min(spread) < CONSTANT:
        return float("nan")
    return round(((a * b).mean() / (spread[0] * spread[1])).item(), 15)  # no 1.0000000000000002


def warp_correlation(grid: Tensor, true: Tensor, support: Tensor, *, centered: bool = False) -> float:
    """Correlate the residual warps W − W₀, W₀ the identity: both coordinates, all supported pixels and images together.

    Args:
        grid: Found (B, H, W, 2).
        true: (B, H, W, 2).
        support: Pixels that count (B, H, W), bool.
        centered: Take from both the mean at each pixel, over the images in which it counts: what is the same in all.

    Returns:
        Pearson's correlation; NaN where one warp is the identity, or `centered` and the same for all.

    Raises:
        DataError: If the shapes do not fit.
    """
    _check_grids(grid, true, support)
    rest, counts = identity_grid(*grid.shape[1:3], dtype=torch.float64), support.cpu()
    residuals = [w.detach().cpu().double() - rest for w in (grid, true)]
    if centered:
        weight = counts[..., None] / counts.sum(0).clamp(min=1)[..., None]  # (B, H, W, 1)
        residuals = [r - (weight * r).sum(0) for r in residuals]
    return correlation(*(r[counts] for r in residuals))


def layer_correlation(found: Tensor, true: Tensor, support: Tensor, *, each: bool = False) -> float:
    """Correlate two layers over the supported pixels, both as they are seen in the images.

    Args:
        found: (B, C, H, W).
        true: (B, C, H, W).
        support: Pixels that count (B, H, W), bool.
        each: Correlate image by image and give the mean, which is blind to the scale in each image, over the images
            whose layers vary; otherwise all channels and images together, which is blind to one scale for all.

    Returns:
        Pearson's correlation; NaN where nothing varies.

    Raises:
        DataError: If the shapes do not fit.
    """
    if found.shape != true.shape or found.ndim != 4 or support.shape != (len(found), *found.shape[2:]):
        raise DataError(
            f"layers of shapes {tuple(found.shape)} and {tuple(true.shape)} with a support of {tuple(support.shape)}; "
            "give (B, C, H, W) twice, and (B, H, W)"
        )
    pixels = [x.detach().movedim(1, -1) for x in (found, true)]
    if not each:
        return correlation(*(x[support] for x in pixels))
    values = [correlation(a[s], b[s]) for a, b, s in zip(*pixels, support, strict=True)]
    return torch.tensor(values, dtype=torch.float64).nanmean().item()


# ── the gauge ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def fit_gauge(grid: Tensor, true: Tensor, support: Tensor) -> Tensor:
    """Fit the affine part of the G in W_rec = G ∘ W_true: one map for all images, by least squares.

    What was found is explained by what is true and not the reverse, for the support is the same set of true places in
    every image but not of found ones: fitted the other way round, pixels would be chosen by what is to be explained,
    and a warp that does not move would seem to know something.

    Args:
        grid: Found (B, H, W, 2).
        true: (B, H, W, 2).
        support: Pixels that count (B, H, W), bool; at least three, not on a line.

    Returns:
        [A | t] (2, 3), float64, on the CPU.

    Raises:
        DataError: If the shapes do not fit.
    """
    _check_grids(grid, true, support)
    found, known = (w.detach().cpu().double()[support.cpu()] for w in (grid, true))  # (pixels, 2)
    ones = torch.ones(len(known), 1, dtype=torch.float64)
    transposed: Tensor = torch.linalg.lstsq(torch.cat([known, ones], 1), found, driver="gelsd").solution
    return transposed.T


def remove_gauge(grid: Tensor, gauge: Tensor) -> Tensor:
    """Give A⁻¹ (W − t), the grid in the true canonical frame as far as an affine map [A | t] (2, 3) leads there.

    Where A is singular, as for a warp that leads everywhere to one place, its pseudo-inverse.
    """
    inverse: Tensor = torch.linalg.pinv(gauge[:, :2], rtol=1e-6)
    return (grid.detach().cpu().double() - gauge[:, 2]) @ inverse.T


# ── landmarks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def landmark_errors(found: Tensor, true: Tensor, shape: tuple[int, int]) -> Tensor:
    """Give the distance in pixels of found and true places (B, L, 2) in images of shape (H, W): (B, L), float64."""
    if found.shape != true.shape or found.ndim != 3:
        raise DataError(f"landmarks of shapes {tuple(found.shape)} and {tuple(true.shape)}; give (B, L, 2) twice")
    pixel = torch.tensor([(shape[1] - 1) / 2, (shape[0] - 1) / 2], dtype=torch.float64)
    apart: Tensor = (found.detach().cpu().double() - true.cpu().double()) * pixel
    return apart.square().sum(2).sqrt()


# ── what is true ──────────────────────────────────────────────────────────────────────────────────────────────────────


def in_images(truth: dict[str, Tensor]) -> Recovered:
    """Bring what `DataModule.truth` tells to where the images have it: layers warped by the true grid.

    Raises:
        DataError: If the truth has no grid.
    """
    grid = truth.get("grid")
    if grid is None:
        raise DataError(
            f"the truth has no grid but {', '.join(truth) or 'nothing'}: a warp is compared with a known one"
        )
    layers = {name: warp_images(truth[name], grid) for name in ("albedo", "shading") if name in truth}
    return Recovered(grid, layers.get("albedo"), layers.get("shading"), truth.get("landmarks"))


def _check_grids(grid: Tensor, true: Tensor, support: Tensor) -> None:
    if grid.shape != true.shape or grid.ndim != 4 or support.shape != grid.shape[:3]:
        raise DataError(
            f"grids of shapes {tuple(grid.shape)} and {tuple(true.shape)} with a support of {tuple(support.shape)}; "
            "give (B, H, W, 2) twice, and (B, H, W)"
        )
