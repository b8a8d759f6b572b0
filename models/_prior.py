"""Codes: the standard normal distribution that most models draw them from, and their shape."""

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError


def standard_normal(n: int, dim: int, *, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Draw (n, dim) from N(0, I), where the generator lives, and move them to what `like` is like.

    Raises:
        ConfigurationError: If n is below 0.
    """
    if n < 0:
        raise ConfigurationError(f"n is {n}; give 0 or more")
    device = generator.device if generator is not None else like.device
    return torch.randn(n, dim, generator=generator, device=device).to(like)


def generator_on(device: torch.device, rng: torch.Generator) -> torch.Generator:
    """Give a generator on the device, seeded by this one of the CPU: much noise is drawn where it is needed."""
    if device.type == "cpu":
        return rng
    seed = int(torch.randint(2**62, (), generator=rng))
    return torch.Generator(device).manual_seed(seed)


def check_codes(z: Tensor, dim: int) -> Tensor:
    """Return z if it is a batch of codes (B, dim).

    Raises:
        DataError: If it is not, with both shapes.
    """
    if z.ndim == 2 and z.shape[1] == dim:
        return z
    raise DataError(f"codes have shape {tuple(z.shape)}; this model's are (B, {dim})")
