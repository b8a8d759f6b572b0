"""The Fréchet distance between two normal distributions.

Definition (Dowson & Landau, "The Fréchet distance between multivariate normal distributions", 1982; on features of a
network: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule …", 2017, https://arxiv.org/abs/1706.08500):
‖μ − μ'‖² + tr(Σ + Σ' − 2 (Σ^½ Σ' Σ^½)^½).
"""

import torch
from torch import Tensor

from pcgen.errors import DataError


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> Tensor:
    """Compute the (squared) Fréchet distance between two normal distributions.

    ‖μ − μ'‖² + tr(Σ + Σ' − 2 (Σ^½ Σ' Σ^½)^½) in float64. The root's trace is the sum of the singular values of
    Σ^½ Σ'^½, whose squares are the eigenvalues of the symmetric product: taken so, a singular Σ (fewer clouds than
    features) adds no roots of rounding errors, and nothing complex ever arises. No gradient.

    Args:
        mean1: μ (d,).
        cov1: Σ (d, d), symmetric with no negative eigenvalue but for rounding.
        mean2: μ' (d,).
        cov2: Σ' (d, d).

    Returns:
        Scalar float64 ≥ 0, in squared units of the features.

    Raises:
        DataError: If shapes or devices do not fit, a value is not finite, or a covariance is none.

    >>> zero, one = torch.zeros(2), torch.eye(2)
    >>> frechet_distance(zero, one, torch.tensor([3.0, 0.0]), 4 * one).item()  # 3² + 2 (2 − 1)²
    11.0
    """
    slack1, slack2 = _slack(cov1), _slack(cov2)
    mean1, cov1 = _checked(mean1, cov1, "1", slack1)
    mean2, cov2 = _checked(mean2, cov2, "2", slack2)
    if mean1.shape != mean2.shape or mean1.device != mean2.device:
        raise DataError(
            f"mean1 {tuple(mean1.shape)} on {mean1.device} and mean2 {tuple(mean2.shape)} on {mean2.device} do not "
            "fit: compare features of the same extractor on one device"
        )
    root1, root2 = _root(cov1, "cov1", slack1), _root(cov2, "cov2", slack2)
    cross = torch.linalg.svdvals(root1 @ root2).sum()
    squares = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace()
    distance: Tensor = (squares - 2 * cross).clamp(min=0)
    return distance


def _slack(cov: Tensor) -> float:
    """Give the size of what may be rounding in a covariance of this dtype, which was perhaps a difference of sums."""
    precision = torch.finfo(cov.dtype).eps if cov.dtype.is_floating_point else 0.0
    return max(16 * len(cov) * precision, 1e-8) * float(cov.detach().abs().max()) if cov.numel() else 0.0


def _checked(mean: Tensor, cov: Tensor, which: str, slack: float) -> tuple[Tensor, Tensor]:
    """Check one distribution and bring it to float64."""
    if mean.ndim != 1 or cov.shape != (len(mean), len(mean)) or not len(mean):
        raise DataError(
            f"mean{which} has shape {tuple(mean.shape)} and cov{which} {tuple(cov.shape)}; they are (d,) and (d, d)"
        )
    for name, x in (f"mean{which}", mean), (f"cov{which}", cov):
        if not x.isfinite().all():
            raise DataError(f"{name} is not finite; look for NaN or infinity in the features")
    mean, cov = (x.detach().to("cpu" if x.device.type == "mps" else x.device).double() for x in (mean, cov))
    crooked = float((cov - cov.T).abs().max())
    if crooked > slack:
        raise DataError(f"cov{which} differs from its transpose by up to {crooked:g}; a covariance is symmetric")
    return mean, (cov + cov.T) / 2


def _root(cov: Tensor, name: str, slack: float) -> Tensor:
    """Give the symmetric root of Σ, with what float64 cannot tell from 0 as 0."""
    values, vectors = torch.linalg.eigh(cov)
    if not values.isfinite().all():
        raise DataError(f"{name} has no eigenvalues in float64; rescale the features")
    if values[0] < -slack:
        raise DataError(f"{name} has the eigenvalue {float(values[0]):g}; a covariance has none below 0")
    floor = len(values) * torch.finfo(values.dtype).eps * values.abs().max()
    root: Tensor = (vectors * torch.where(values > floor, values, 0).sqrt()) @ vectors.T
    return root
