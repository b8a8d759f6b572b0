"""What every score of a latent code against known factors begins with: checked numbers in an order of their own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics.order import canonical_order

if TYPE_CHECKING:
    import numpy as np

Discrete = bool | Sequence[bool]


class Samples(NamedTuple):
    """Codes and factors of the same data.

    Attributes:
        codes: (n, d) float64.
        factors: (n, k) float64, none of them constant; k may be 0.
        discrete: For each of the k, whether its values are classes.
    """

    codes: "np.ndarray"
    factors: "np.ndarray"
    discrete: list[bool]


def samples_of(codes: Tensor, factors: Tensor, discrete: Discrete, *, at_least: int = 2) -> Samples:
    """Check codes and factors, order the data canonically and leave constant factors out.

    Args:
        codes: (n, d).
        factors: (n, k).
        discrete: One for all factors, or one for each.
        at_least: Data that the score needs.

    Raises:
        DataError: If the shapes do not fit, there are too few data, or a value is not finite.
        ConfigurationError: If `discrete` speaks of another number of factors.
    """
    import numpy as np

    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or not codes.shape[1] * factors.shape[1]:
        raise DataError(
            f"codes have shape {tuple(codes.shape)} and factors {tuple(factors.shape)}; give (n, d) and (n, k) of the "
            "same n data"
        )
    if len(codes) < at_least:
        raise DataError(f"{len(codes)} data are too few for this score; give at least {at_least}")
    for name, x in ("codes", codes), ("factors", factors):
        if not torch.isfinite(x).all():
            row = int((~torch.isfinite(x)).any(1).nonzero()[0])
            raise DataError(f"{name}[{row}] is not finite; drop such data or look for the NaN's source")
    flags = [discrete] * factors.shape[1] if isinstance(discrete, bool) else list(discrete)
    if len(flags) != factors.shape[1]:
        raise ConfigurationError(f"discrete speaks of {len(flags)} factors, but there are {factors.shape[1]}")
    c, f = (x.detach().cpu().double().numpy() for x in (codes, factors))
    order = canonical_order(np.concatenate([f, c], 1))
    varies = f.min(0) < f.max(0)
    return Samples(c[order], f[order][:, varies], [flag for flag, v in zip(flags, varies, strict=True) if v])


def mean_of(values: "np.ndarray", weights: "np.ndarray | None" = None) -> Tensor:
    """Average to a scalar float64 within [0, 1]; 0 where nothing has weight."""
    weights = values * 0 + 1 if weights is None else weights
    total = float(weights.sum())
    mean = float((values * weights).sum()) / total if total > 0 else 0.0
    return torch.tensor(min(max(mean, 0.0), 1.0), dtype=torch.float64)
