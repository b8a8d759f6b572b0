"""The standard normal distribution that most models draw their codes from."""

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError


def standard_normal(n: int, dim: int, *, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Draw (n, dim) from N(0, I), where the generator lives, and move them to what `like` is like.

    Raises:
        ConfigurationError: If n is below 0.
    """
    if n < 0:
        raise ConfigurationError(f"n is {n}; give 0 or more")
    device = generator.device if generator is not None else like.device
    return torch.randn(n, dim, generator=generator, device=device).to(like)
