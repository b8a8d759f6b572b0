"""The kernel maximum mean discrepancy between two samples, and its kernels.

Definition (Gretton et al., "A Kernel Two-Sample Test", 2012, https://jmlr.org/papers/v13/gretton12a.html). Not to be
confused with the minimum matching distance of sets of clouds, which shares the abbreviation.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import Recorded

Kernel = Callable[[Tensor, Tensor], Tensor]  # (n, d), (m, d) -> (n, m)
ENTRIES = 1 << 22  # of a kernel's matrix held at once


class RecordedKernel(Recorded, ABC):
    """A kernel of the zoo, which a config can name and a checkpoint can hold."""

    @abstractmethod
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Give the kernel (n, m) of x (n, d) and y (m, d)."""


def _positive(value: float, name: str) -> float:
    if not value > 0 or not math.isfinite(value):
        raise ConfigurationError(f"{name} is {value}; a kernel's width is above 0")
    return value


class InverseMultiquadratic(RecordedKernel):
    """k(x, y) = C / (C + ‖x − y‖²).

    Args:
        scale: C, in squared units of the data. 1 is the kernel of the WAE.

    >>> InverseMultiquadratic()(torch.zeros(1, 2), torch.tensor([[0.0, 1.0], [0.0, 3.0]]))
    tensor([[0.5000, 0.1000]])
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = _positive(scale, "scale")

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Give the kernel (n, m) of x (n, d) and y (m, d)."""
        return self.scale / (self.scale + _squared_distances(x, y))


class MultiscaleInverseMultiquadratic(RecordedKernel):
    """k(x, y) = Σ_s C_s / (C_s + ‖x − y‖²) with C_s = 2 d s (Tolstikhin et al. 2018, for a prior of variance 1).

    Args:
        scales: Every s; d is the number of columns of the data, and 2 d the mean of ‖x − y‖² under the prior.

    >>> k = MultiscaleInverseMultiquadratic(scales=(0.5, 1.0))
    >>> k(torch.zeros(1, 1), torch.ones(1, 1))  # 1/2 + 2/3
    tensor([[1.1667]])
    """

    def __init__(self, scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)) -> None:
        if not scales:
            raise ConfigurationError("scales is empty; a kernel is the sum of at least one")
        self.scales = [_positive(s, "scales") for s in scales]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Give the kernel (n, m) of x (n, d) and y (m, d)."""
        squared = _squared_distances(x, y)
        widths = [2 * x.shape[1] * s for s in self.scales]
        return torch.stack([c / (c + squared) for c in widths]).sum(0)


class GaussianKernel(RecordedKernel):
    """k(x, y) = exp(−‖x − y‖² / (2 σ²)).

    Args:
        bandwidth: σ, in units of the data.

    >>> GaussianKernel(bandwidth=2.0)(torch.zeros(1, 1), torch.tensor([[2.0]]))  # exp(−1/2)
    tensor([[0.6065]])
    """

    def __init__(self, bandwidth: float = 1.0) -> None:
        self.bandwidth = _positive(bandwidth, "bandwidth")

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Give the kernel (n, m) of x (n, d) and y (m, d)."""
        return (_squared_distances(x, y) / (-2 * self.bandwidth**2)).exp()


class PolynomialKernel(RecordedKernel):
    """k(x, y) = (xᵀy / d + offset)^degree; the defaults are the KID's (Bińkowski et al. 2018).

    Args:
        degree: Of the polynomial.
        offset: Added to the scaled product.

    >>> PolynomialKernel()(torch.ones(1, 4), torch.ones(2, 4))
    tensor([[8., 8.]])
    """

    def __init__(self, degree: int = 3, offset: float = 1.0) -> None:
        if degree < 1:
            raise ConfigurationError(f"degree is {degree}; a polynomial kernel has at least degree 1")
        self.degree, self.offset = degree, offset

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Give the kernel (n, m) of x (n, d) and y (m, d)."""
        return (x @ y.T / x.shape[1] + self.offset) ** self.degree


_DEFAULT = InverseMultiquadratic()


def kernel_mmd2(x: Tensor, y: Tensor, *, kernel: Kernel = _DEFAULT, unbiased: bool = False) -> Tensor:
    """Compute the squared kernel maximum mean discrepancy of two samples.

    The V-statistic 1/n² Σ k(x_i, x_j) − 2/(n m) Σ k(x_i, y_j) + 1/m² Σ k(y_i, y_j), diagonals in: never negative,
    and above 0 even for two samples of one distribution. `unbiased` takes the U-statistic: the same-set sums without
    their diagonals, over n (n − 1) and m (m − 1), which may be negative.

    Differentiable (once) in x and y. A large matrix is summed in blocks of rows, which are computed again for a
    gradient, so that memory stays bounded. Sums are taken in float64.

    Args:
        x: (n, d), float32 or float64; half precision is computed in float32.
        y: (m, d).
        kernel: (n, d), (m, d) to (n, m), symmetric. The default is 1 / (1 + ‖x − y‖²).
        unbiased: Give the U-statistic, which needs two of each.

    Returns:
        Scalar.

    Raises:
        DataError: If shapes, dtypes or devices do not fit, a sample is too small, or a value is not finite.

    >>> x = torch.tensor([[0.0], [1.0]])
    >>> kernel_mmd2(x, x).item()
    0.0
    >>> round(kernel_mmd2(x, x + 3).item(), 4)  # 2 (1 + 1/2)/2 − 2 (1/10 + 1/5 + 1/17 + 1/10)/4
    1.2706
    """
    x, y = _checked(x, y, at_least=2 if unbiased else 1)
    n, m = len(x), len(y)
    xx, yy, xy = _total(x, x, kernel), _total(y, y, kernel), _total(x, y, kernel)
    if unbiased:
        xx, yy = xx - _diagonal(x, kernel), yy - _diagonal(y, kernel)
        value = xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)
    else:
        value = xx / n**2 + yy / m**2 - 2 * xy / (n * m)
    return value.to(x.dtype)


def _total(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """Sum the kernel's matrix in float64 without holding more than a block of it."""
    rows = max(1, ENTRIES // len(y))
    if len(x) <= rows:
        return _block_sum(x, y, kernel)
    wants_gradient = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
    blocks = [
        checkpoint(_block_sum, part, y, kernel, use_reentrant=False) if wants_gradient else _block_sum(part, y, kernel)
        for part in x.split(rows)
    ]
    return torch.stack(blocks).sum()


def _block_sum(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    return kernel(x, y).sum(dtype=_wide(x))


def _diagonal(x: Tensor, kernel: Kernel) -> Tensor:
    """Sum k(x_i, x_i) in float64."""
    parts = [kernel(part, part).diagonal().sum(dtype=_wide(x)) for part in x.split(math.isqrt(ENTRIES))]
    return torch.stack(parts).sum()


def _wide(x: Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Give ‖x − y‖² (n, m) from differences: exact also far from the origin, 0 with gradient 0 where they coincide."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()


def _checked(x: Tensor, y: Tensor, at_least: int) -> tuple[Tensor, Tensor]:
    said = " and ".join(f"{name} {tuple(t.shape)} {t.dtype} on {t.device}" for name, t in (("x", x), ("y", y)))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not x.shape[1]:
        raise DataError(f"{said} are not two samples of one space: give (n, d) and (m, d)")
    if x.dtype != y.dtype or x.device != y.device or not x.dtype.is_floating_point:
        raise DataError(f"{said} are not of one floating-point dtype on one device; convert one with .to(…)")
    if min(len(x), len(y)) < at_least:
        raise DataError(f"{said}: a mean over pairs of a sample needs at least {at_least} in each")
    for name, t in ("x", x), ("y", y):
        if not t.isfinite().all():
            row = int((~t.isfinite()).any(1).nonzero()[0])
            raise DataError(f"{name}[{row}] is not finite; look for NaN or infinity in what it was computed from")
    return (x.float(), y.float()) if x.dtype in (torch.float16, torch.bfloat16) else (x, y)
