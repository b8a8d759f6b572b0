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
        factors: (n, k) float64, none of them constant.
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
        DataError: If the shapes do not fit, there are too few data, a value is not finite, or every factor is constant.
        ConfigurationError: If `discrete` speaks of another number of factors.
    """
    import numpy as np

    check_shapes(codes, factors)
    if len(codes) < at_least:
        raise DataError(f"{len(codes)} data are too few for this score; give at least {at_least}")
    for name, x in ("codes", codes), ("factors", factors):
        if not torch.isfinite(x).all():
            row = int((~torch.isfinite(x)).any(1).nonzero()[0])
            raise DataError(f"{name}[{row}] is not finite; drop such data or look for the NaN's source")
    flags = [discrete] * factors.shape[1] if isinstance(discrete, bool) else list(discrete)
    if len(flags) != factors.shape[1]:
        raise ConfigurationError(f"discrete speaks of {len(flags)} factors, but there are {factors.shape[1]}")
    require_varying(factors)
    c, f = (x.detach().cpu().double().numpy() for x in (codes, factors))
    order = canonical_order(np.concatenate([f, c], 1))
    varies = f.min(0) < f.max(0)
    return Samples(c[order], f[order][:, varies], [flag for flag, v in zip(flags, varies, strict=True) if v])


def check_shapes(codes: Tensor, factors: Tensor) -> None:
    """Refuse what is not (n, d) and (n, k) of the same data.

    Raises:
        DataError: If it is not, with the way to give a single latent or factor.
    """
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or not codes.shape[1] * factors.shape[1]:
        single = "".join(
            f", {name}[:, None] for a single one" for name, x in (("codes", codes), ("factors", factors)) if x.ndim == 1
        )
        raise DataError(
            f"codes have shape {tuple(codes.shape)} and factors {tuple(factors.shape)}; give (n, d) and (n, k) of the "
            f"same n data{single}"
        )


def constant_factors(factors: Tensor, names: Sequence[str] = ()) -> list[str]:
    """Give the names of the factors (n, k) that do not vary over the data, or "factor 0" and so on without names."""
    still = (factors == factors[:1]).all(0).tolist()
    return [names[i] if names else f"factor {i}" for i, constant in enumerate(still) if constant]


def require_varying(factors: Tensor, names: Sequence[str] = ()) -> None:
    """Refuse factors (n, k) none of which varies.

    Raises:
        DataError: With their names.
    """
    constant = constant_factors(factors, names)
    if len(constant) == factors.shape[1]:
        raise DataError(
            f"every factor is constant over the {len(factors)} data ({', '.join(constant)}), so no code can be held "
            "against them; give data over which at least one varies"
        )


def mean_of(values: "np.ndarray", weights: "np.ndarray | None" = None) -> Tensor:
    """Average to a scalar float64 within [0, 1]; 0 where nothing has weight."""
    weights = values * 0 + 1 if weights is None else weights
    total = float(weights.sum())
    mean = float((values * weights).sum()) / total if total > 0 else 0.0
    return torch.tensor(min(max(mean, 0.0), 1.0), dtype=torch.float64)
