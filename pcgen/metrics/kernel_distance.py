"""The kernel distance of two sets of features (KID)."""

from typing import NamedTuple

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError
from pcgen.metrics.order import canonical_order
from pcgen.metrics.precision import in_double
from pcgen.ops.kernels import Kernel, PolynomialKernel, kernel_mmd2

KID_KERNEL = PolynomialKernel()
MOST_ROWS = 3000  # whose kernel matrices, three of at most 72 MB, are computed once for all subsets


class KernelDistances(NamedTuple):
    """Kernel distances of two sets of features.

    Attributes:
        value: Unbiased MMD² of the whole sets: no draw, every row used. It is what pcgen reports.
        mean: Mean over subsets, the KID of Bińkowski et al. 2018.
        std: Standard deviation over the subsets (ddof 0, as published implementations take it).
        subset_size: Rows in a subset.
    """

    value: Tensor
    mean: Tensor
    std: Tensor
    subset_size: int


def kernel_distance(
    x: Tensor,
    y: Tensor,
    *,
    kernel: Kernel = KID_KERNEL,
    subsets: int = 100,
    subset_size: int | None = None,
    seed: int = 0,
) -> KernelDistances:
    """Kernel distance of two sets of features: unbiased MMD², of the whole sets and over subsets.

    With the default kernel this is the KID (Bińkowski et al., "Demystifying MMD GANs", 2018,
    https://arxiv.org/abs/1801.01401). Each subset is drawn without replacement, the same for the same rows in any
    order. Computed in float64. The unbiased value of two samples of one distribution is 0 on average, so it may be
    negative.

    Args:
        x: (n, d), n ≥ 2.
        y: (m, d), m ≥ 2.
        kernel: See `pcgen.ops.kernel_mmd2`.
        subsets: How many are drawn; 0 gives NaN for mean and std.
        subset_size: Rows of each set in a subset, at least 2. None takes 1000, or half of the smaller set if that is
            less (at least 2).
        seed: Of the draw.

    Returns:
        Scalars in float64.

    Raises:
        DataError: If the sets do not fit, are too small, or are not finite.
        ConfigurationError: If a subset would be larger than a set.

    >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    >>> near, far = kernel_distance(x, x.flip(1)), kernel_distance(x, x + 1)
    >>> bool(near.value < far.value), near.subset_size
    (True, 25)
    """
    x, y = (in_order(t.detach()) for t in (x, y))
    value = kernel_mmd2(x, y, kernel=kernel, unbiased=True)
    size = _subset_size(subset_size, min(len(x), len(y)), subsets)
    generator = torch.Generator().manual_seed(seed)
    draws = [[_draw(len(t), size, generator).to(t.device) for t in (x, y)] for _ in range(subsets)]
    values = _subset_values(x, y, kernel, draws) if draws else value.new_full((1,), torch.nan)
    return KernelDistances(value, values.mean(), values.std(correction=0), size)


def _subset_values(x: Tensor, y: Tensor, kernel: Kernel, draws: list[list[Tensor]]) -> Tensor:
    """Give the unbiased MMD² of each draw of rows, from matrices of all the rows where these are not too large."""
    if max(len(x), len(y)) > MOST_ROWS:
        return torch.stack([kernel_mmd2(x[i], y[j], kernel=kernel, unbiased=True) for i, j in draws])
    xx, yy, xy = kernel(x, x).fill_diagonal_(0), kernel(y, y).fill_diagonal_(0), kernel(x, y)
    n = len(draws[0][0])
    own = [(xx[i][:, i].sum() + yy[j][:, j].sum()) / (n * (n - 1)) for i, j in draws]
    cross = [xy[i][:, j].sum() / n**2 for i, j in draws]
    return torch.stack(own) - 2 * torch.stack(cross)


def in_order(x: Tensor) -> Tensor:
    """Give rows in float64 and in an order of their own."""
    x = in_double(x)
    return x[torch.from_numpy(canonical_order(x.cpu().numpy())).to(x.device)] if x.ndim == 2 and x.numel() else x


def _draw(n: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator)[:size]


def _subset_size(asked: int | None, smaller: int, subsets: int) -> int:
    if subsets < 0:
        raise ConfigurationError(f"subsets is {subsets}; draw some, or 0 for none")
    size = max(2, min(1000, smaller // 2)) if asked is None else asked
    if not 2 <= size <= smaller:
        raise ConfigurationError(f"subset_size is {asked}, but the smaller set has {smaller} rows; take 2 to that many")
    return size
