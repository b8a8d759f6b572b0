"""The kernel maximum mean discrepancy between two samples, and its kernels.

Definition (Gretton et al., "A Kernel Two-Sample Test", 2012, https://jmlr.org/papers/v13/gretton12a.html). Not to be
confused with the minimum matching distance of sets of clouds, which shares the abbreviation.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import Recorded

Kernel = Callable[[Tensor, Tensor], Tensor]  # (n, d), (m, d) -> (n, m)
TILE = 512  # rows and columns of a kernel's matrix held at once: what a processor's cache holds
GPU_TILE = 4096
FEW = 1 << 14  # pairs for which differences are faster than a matrix product
LARGEST = 2.0**20  # squared distance to the centre, in squares of a kernel's width, up to which a product is exact


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
        return _squared_distances(x, y, self.scale).add_(1).reciprocal_()


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
        least = min(self.scales)
        squared = _squared_distances(x, y, 2 * x.shape[1] * least)
        kernel = torch.zeros_like(squared)
        for s in self.scales:
            kernel = kernel + (squared * (least / s) + 1).reciprocal_()
        return kernel


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
        return _squared_distances(x, y, 2 * self.bandwidth**2).neg_().exp_()


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
        if not math.isfinite(offset):
            raise ConfigurationError(f"offset is {offset}; give a number")
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

    Differentiable (once) in x and y. A large matrix is summed in tiles, of which nothing is kept: memory is bounded,
    with a gradient too. Computed in float64 (on an Apple GPU, which has none, in float32). The squared distances of
    large tiles come from a product of centred matrices, where that is exact to 4e-10 of the kernel's largest value;
    from differences where the data spread too far for that.

    Args:
        x: (n, d), of any floating-point type.
        y: (m, d).
        kernel: (n, d), (m, d) to (n, m), symmetric; it is called with float64. The default is 1 / (1 + ‖x − y‖²).
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
    _check(x, y, at_least=2 if unbiased else 1)
    dtype = x.dtype
    x, y = x.to(_wide(x)), y.to(_wide(y))
    n, m = len(x), len(y)
    xx, yy, xy = _total(x, x, kernel), _total(y, y, kernel), _total(x, y, kernel)
    if unbiased:
        xx, yy = xx - _diagonal(x, kernel), yy - _diagonal(y, kernel)
        value = xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)
    else:
        value = xx / n**2 + yy / m**2 - 2 * xy / (n * m)
    return value.to(torch.promote_types(dtype, torch.float32))


def _total(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """Sum the kernel's matrix without holding more than a tile of it."""
    if max(len(x), len(y)) <= _side(x):
        return kernel(x, y).sum()
    if not torch.is_grad_enabled():
        x, y = (x.detach(),) * 2 if x is y else (x.detach(), y.detach())
    with _one_thread():
        return cast("Tensor", _TiledSum.apply(x, None if x is y else y, kernel))  # type: ignore[no-untyped-call]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch from dividing tiles among threads: they are small, and waiting for a busy core costs far more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _TiledSum(torch.autograd.Function):
    """Sums a kernel's matrix tile by tile; the gradient, which is small, is found on the way and nothing else kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, kernel: Kernel) -> Tensor:
        """Sum k(x_i, y_j), or k(x_i, x_j) where y is None: then the tiles above the diagonal count twice."""
        same = y is None
        data = (x, x if y is None else y)
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[0 if same else 1])
        gradients = [torch.zeros_like(t) for t in data]
        total = x.new_zeros(())
        for weight, *places in _tiles(len(x), len(data[1]), _side(x), same=same):
            parts = [t[k].detach().requires_grad_(w) for t, k, w in zip(data, places, wanted, strict=True)]
            with torch.set_grad_enabled(any(wanted)):
                tile = weight * kernel(*parts).sum()
            total += tile.detach()
            leaves = [part for part in parts if part.requires_grad]
            found = iter(torch.autograd.grad(tile, leaves) if leaves else ())
            for gradient, k, w in zip(gradients, places, wanted, strict=True):
                if w:
                    gradient[k] += next(found)
        if same:
            gradients[0] += gradients[1]
        ctx.save_for_backward(gradients[0] if wanted[0] else None, gradients[1] if wanted[1] and not same else None)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that are there already."""
        return *(None if g is None else gradient * g for g in ctx.saved_tensors), None


def _tiles(n: int, m: int, side: int, *, same: bool) -> Iterator[tuple[int, slice, slice]]:
    """Give weight, rows and columns of each tile; of a symmetric matrix those on and above the diagonal."""
    for i in range(0, n, side):
        for j in range(i if same else 0, m, side):
            yield 2 if same and j > i else 1, slice(i, i + side), slice(j, j + side)


def _diagonal(x: Tensor, kernel: Kernel) -> Tensor:
    """Sum k(x_i, x_i)."""
    return torch.stack([kernel(part, part).diagonal().sum() for part in x.split(math.isqrt(FEW) // 2)]).sum()


def _side(x: Tensor) -> int:
    return TILE if x.device.type == "cpu" else GPU_TILE


def _wide(x: Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64


def _squared_distances(x: Tensor, y: Tensor, unit: float) -> Tensor:
    """Give ‖x − y‖² / unit (n, m), a tensor that the caller may change in place.

    From differences: exact also far from the origin, and 0 with gradient 0 where points coincide. In float64 and for
    many pairs from ‖x‖² + ‖y‖² − 2 xᵀy about a common centre, if what cancels then is too little to show: it may be
    off by 4e-10, below 0 too.
    """
    x, y = x / math.sqrt(unit), y / math.sqrt(unit)
    if x.dtype == torch.float64 and len(x) * len(y) >= FEW:
        center = y.detach().mean(0)
        x, y = x - center, y - center
        a, b = x.square().sum(1, keepdim=True), y.square().sum(1, keepdim=True)
        if a.max() + b.max() <= LARGEST:
            return torch.cat([x, a, torch.ones_like(a)], 1) @ torch.cat([-2 * y, torch.ones_like(b), b], 1).T
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()


def _check(x: Tensor, y: Tensor, at_least: int) -> None:
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
