"""Scores of a latent code by itself: how far its distribution is from the prior, and how many latents it uses."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pcgen.errors import DataError
from pcgen.metrics.kernel_distance import in_order
from pcgen.metrics.precision import in_double
from pcgen.ops.kernels import InverseMultiquadratic, Kernel, kernel_mmd2

WAE_KERNEL = InverseMultiquadratic()
ACTIVE_KL = 0.01  # nats
ACTIVE_VARIANCE = 0.01
_DRAWN = 2000  # rows from which the moments of a kernel under the prior are estimated


class PriorMMD2(NamedTuple):
    """What a kernel MMD² is over pairs of independent samples of the prior.

    Attributes:
        mean: Of the statistic; 0 for the U-statistic.
        std: Of the statistic.
    """

    mean: float
    std: float


def latent_mmd2(codes: Tensor, *, kernel: Kernel = WAE_KERNEL, unbiased: bool = True, seed: int = 0) -> Tensor:
    """Kernel MMD² of codes to a sample of the prior N(0, I) of the same size. Lower is better.

    The U-statistic's mean is 0 for codes that are distributed as the prior, whatever their number, so it may be
    negative; the V-statistic, which the WAE minimises, is above 0 then by about 1/n. `latent_mmd2_of_prior` says
    what either is for two samples of the prior. Codes of one model but different numbers are compared by the
    U-statistic alone; of different d by neither. Computed in float64, in bounded memory.

    Args:
        codes: (n, d), n ≥ 2.
        kernel: See `pcgen.ops.kernel_mmd2`; the default is 1 / (1 + ‖x − y‖²).
        unbiased: Take the U-statistic.
        seed: Of the prior's sample.

    Returns:
        Scalar float64; the order of the codes does not show.

    Raises:
        DataError: If the codes are not (n, d), fewer than two, or not finite.

    >>> codes = torch.randn(500, 2, generator=torch.Generator().manual_seed(1))
    >>> near, far = (latent_mmd2(c).item() for c in (codes, codes + 1))
    >>> abs(near) < 0.002, round(far, 2)
    (True, 0.14)
    """
    codes = in_order(check_codes(codes, at_least=2))
    prior = torch.randn(codes.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return kernel_mmd2(codes, prior.to(codes.device), kernel=kernel, unbiased=unbiased)


def latent_mmd2_of_prior(n: int, d: int, *, kernel: Kernel = WAE_KERNEL, unbiased: bool = True) -> PriorMMD2:
    """Give what `latent_mmd2` is on average, and how it spreads, if the codes are n draws of N(0, I) themselves.

    With k̃ the kernel centred under the prior, the statistic is a sum of uncorrelated terms (Gretton et al. 2012,
    §3), so that ζ = E k̃(x, y)² gives the variance 4ζ / (n (n − 1)) + 4ζ / n² of the U-statistic, and the V-statistic
    is on average E[k(x, x) − k(x, y)] 2 / n. The expectations are taken over 2000 fixed draws of the prior.

    Args:
        n: Codes, 2 or more.
        d: Latents.
        kernel: As in `latent_mmd2`.
        unbiased: As there.

    Raises:
        DataError: If n is below 2 or d below 1.

    >>> [round(value, 4) for value in latent_mmd2_of_prior(1000, 8)]
    [0.0, 0.0001]
    >>> [round(value, 4) for value in latent_mmd2_of_prior(1000, 8, unbiased=False)]  # what a perfect WAE ends with
    [0.0019, 0.0001]
    """
    if n < 2 or d < 1:
        raise DataError(f"{n} codes of {d} latents have no kernel distance; give at least 2 of at least 1")
    x = torch.randn(_DRAWN, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    K = kernel(x, x)
    own = K.diagonal().clone()
    K.fill_diagonal_(0)
    rows, m = K.sum(1), _DRAWN
    mean = rows.sum() / (m * (m - 1))
    # Székely & Rizzo's U-centring (2014), whose mean square is unbiased.
    centered = K - (rows[:, None] + rows) / (m - 2) + rows.sum() / ((m - 1) * (m - 2))
    zeta = centered.fill_diagonal_(0).square().sum().item() / (m * (m - 3))
    if unbiased:
        return PriorMMD2(0.0, math.sqrt(4 * zeta / (n * (n - 1)) + 4 * zeta / n**2))
    diagonal = (own - 2 * rows / (m - 1)).var().item()
    spread = math.sqrt(4 * zeta * (n - 1) / n**3 + 4 * zeta / n**2 + 2 * diagonal / n**3)
    return PriorMMD2(2 * (own.mean() - mean).item() / n, spread)


def active_units(codes: Tensor, *, threshold: float = ACTIVE_VARIANCE) -> Tensor:
    """Count the latents whose code varies over the data: Var_x(E[z_k | x]) above a threshold.

    Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", 2016, https://arxiv.org/abs/1509.00519. It asks
    what the code does, for any encoder; `active_units_by_kl` asks what a variational posterior tells.

    Args:
        codes: E[z | x] (n, d), n ≥ 2: what `model.encode` gives, not draws from the posterior, whose noise varies too.
        threshold: Of the variance (over n), in units of a prior of variance 1.

    Returns:
        Scalar int64, at most d.

    Raises:
        DataError: If the codes are not (n, d), fewer than two, or not finite.

    >>> active_units(torch.tensor([[0.0, 1.0, 0.01], [2.0, 1.0, 0.02]])).item()
    1
    """
    codes = in_order(check_codes(codes, at_least=2))
    return (codes.var(0, correction=0) > threshold).sum()


def active_units_by_kl(kl: Tensor, *, threshold: float = ACTIVE_KL) -> Tensor:
    """Count the latents about which the posterior tells something: mean KL(q(z_k | x) ‖ p(z_k)) above a threshold.

    Not the literature's active units, which `active_units` counts by the variance of the code.

    Args:
        kl: Means over the data (d,), in nats: what `KLPerDimension` computes.
        threshold: In nats.

    Returns:
        Scalar int64.

    >>> active_units_by_kl(torch.tensor([2.0, 0.001, 0.5])).item()
    2
    """
    return (kl > threshold).sum()


def check_codes(codes: Tensor, *, at_least: int = 0) -> Tensor:
    """Give the codes if they are (n, d) and finite.

    Raises:
        DataError: If they are not, or fewer than at_least.
    """
    if codes.ndim != 2 or not codes.shape[1]:
        raise DataError(f"codes have shape {tuple(codes.shape)}; give (n, d), codes[:, None] for a single latent")
    if len(codes) < at_least:
        raise DataError(f"{len(codes)} codes are too few for this score; give at least {at_least}")
    if not codes.isfinite().all():
        row = int((~codes.isfinite()).any(1).nonzero()[0])
        raise DataError(f"codes[{row}] is not finite; look for NaN or infinity in what was encoded")
    return in_double(codes.detach())
