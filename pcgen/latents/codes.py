"""Codes of data: their means, their spread, and sums and differences of them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pcgen.base import GenerativeModel, in_chunks
from pcgen.errors import ConfigurationError, DataError
from pcgen.ops import gaussian_kl

SCALES = (0.0, 0.5, 1.0, 1.5)
OWN = 0x0C0DE  # keeps ε apart from what others draw with the same seed, such as the prior's sample of an MMD
ACTIVE = 0.01  # nats, or variance in units of a prior of variance 1


class Spread(NamedTuple):
    """How the codes of data lie, for each latent dimension.

    Attributes:
        relevance: (Z,), on the CPU, float64, as the others.
        name: Of the relevance: "KL" or "variance".
        center: (Z,).
        scale: (Z,).
        unit: Of a coordinate less the center and over the scale: "" where these are 0 and 1, "σ" otherwise.
    """

    relevance: Tensor
    name: str
    center: Tensor
    scale: Tensor
    unit: str


def relevance(model: GenerativeModel, x: Tensor) -> tuple[Tensor, str]:
    """Measure how much each latent dimension carries.

    With a posterior that is the mean over the data of KL(q(z_k | x) ‖ N(0, 1)) in nats, 0 where the decoder learns
    nothing from the dimension; without one, the variance of the codes.

    Args:
        model: Encodes.
        x: Data (B, …); at least two where the variance is taken.

    Returns:
        (Z,) on the model's device, and its name, "KL" or "variance".

    Raises:
        UnsupportedOperationError: If the model cannot encode.
        DataError: If there are too few data.
    """
    found = spread(model, x)
    return found.relevance.to(model.device, torch.float32), found.name


def spread(model: GenerativeModel, x: Tensor) -> Spread:
    """Measure `relevance` and the scale on which codes vary: the prior's, or the data's where there is no prior."""
    require(model, "encode")
    if len(x) < 1:
        raise DataError("no data to measure the latent dimensions on; give at least one datum")
    if model.can("posterior"):
        total = sum(gaussian_kl(*_moments(model, part)).sum(0) for part in x.split(model.chunk_size))
        assert isinstance(total, Tensor)
        return Spread(total / len(x), "KL", torch.zeros_like(total), torch.ones_like(total), "")
    if len(x) < 2:
        raise DataError(
            f"the variance of one code says nothing, and {type(model).__name__} has no posterior to measure the latent "
            "dimensions by; give at least two data as reference"
        )
    z = codes(model, x)
    variance, mean = torch.var_mean(z, 0, correction=0)
    if model.can("prior"):
        return Spread(variance, "variance", torch.zeros_like(mean), torch.ones_like(mean), "")
    return Spread(variance, "variance", mean, variance.sqrt(), "σ")


def codes(model: GenerativeModel, x: Tensor) -> Tensor:
    """Give the codes (B, Z) of data (B, …) on the CPU in float64, where sums of them are exact enough."""
    return in_chunks(model.encode, x, model.chunk_size).cpu().double()


def draw_codes(model: GenerativeModel, x: Tensor, *, seed: int = 0) -> Tensor:
    """Draw a code for each datum as the decoder meets them in training.

    With a posterior that is z = μ + σ ε, whose distribution over the data (the aggregate posterior) is what the prior
    should look like; the means alone are narrower. Without one it is the code itself.

    Args:
        model: Encodes.
        x: Data (B, …).
        seed: Of ε.

    Returns:
        (B, Z) on the model's device.

    Raises:
        UnsupportedOperationError: If the model cannot encode.
    """
    require(model, "encode")
    if not model.can("posterior"):
        return in_chunks(model.encode, x, model.chunk_size)
    moments = [_moments(model, part) for part in x.split(model.chunk_size)]
    mean, log_var = (torch.cat(parts) for parts in zip(*moments, strict=True))
    generator = torch.Generator().manual_seed(seed ^ OWN)
    eps = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
    return (mean + (0.5 * log_var).exp() * eps).to(model.like)


def live_codes(model: GenerativeModel, x: Tensor) -> Tensor:
    """Give the codes of data with every dimension that carries nothing set to 0, for comparing codes with factors.

    The posterior's mean of a dimension that the decoder ignores still depends on the data, by amounts far below its
    standard deviation. A score that looks at the means alone takes such a whisper for speech. A dimension is kept if
    its `relevance` over these data is above 0.01: nats of KL, or variance.

    Args:
        model: Encodes.
        x: Data (B, …), at least two.

    Returns:
        (B, Z) on the model's device.

    Raises:
        UnsupportedOperationError: If the model cannot encode.
        DataError: If there are too few data.
    """
    alive = relevance(model, x)[0] > ACTIVE
    return in_chunks(model.encode, x, model.chunk_size) * alive


def mean_code(model: GenerativeModel, x: Tensor) -> Tensor:
    """Average the codes of data.

    Args:
        model: Encodes.
        x: Data (B, …), at least one.

    Returns:
        (Z,) on the model's device.

    Raises:
        UnsupportedOperationError: If the model cannot encode.
        DataError: If there are no data.
    """
    require(model, "encode")
    if len(x) < 1:
        raise DataError("the mean code of no data is not defined; give at least one datum")
    return codes(model, x).mean(0).to(model.like)


def latent_arithmetic(
    model: GenerativeModel, a: Tensor, plus: Tensor, minus: Tensor, *, scales: Sequence[float] = SCALES
) -> Tensor:
    """Decode z(a) + s (mean z(plus) − mean z(minus)) for every scale s.

    Args:
        model: Encodes and decodes.
        a: Data (B, …) to start from, or one datum without a batch dimension.
        plus: Data (P, …) that have what is added.
        minus: Data (M, …) that lack it.
        scales: The S numbers s; 0 is the reconstruction of a.

    Returns:
        (S, B, …) on the model's device; for one datum without a batch dimension, (S, …).

    Raises:
        UnsupportedOperationError: If the model cannot encode and decode.
        ConfigurationError: If there is no scale, or one is not finite.
        DataError: If plus or minus holds no data.
    """
    require(model, "encode", "decode")
    if not len(scales) or not all(math.isfinite(s) for s in scales):
        raise ConfigurationError(f"scales are {list(scales)}; give at least one finite number")
    if a.ndim == len(model.sample_shape):
        return latent_arithmetic(model, a[None], plus, minus, scales=scales)[:, 0]
    for name, part in (("plus", plus), ("minus", minus)):
        if len(part) < 1:
            raise DataError(f"{name} holds no data, so there is no mean code to take; give at least one datum")
    difference = codes(model, plus).mean(0) - codes(model, minus).mean(0)  # (Z,)
    steps = torch.tensor(list(scales), dtype=torch.float64).view(-1, 1, 1)
    z = codes(model, a) + steps * difference  # (S, B, Z)
    decoded = in_chunks(model.decode, z.flatten(0, 1).to(model.like), model.chunk_size)
    found: Tensor = decoded.unflatten(0, z.shape[:2])
    return found


def require(model: GenerativeModel, *verbs: str) -> None:
    """Raise the error of the first verb that the model lacks."""
    for name in verbs:
        if not model.can(name):
            raise model.unsupported(name)


def _moments(model: GenerativeModel, x: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_var = model.posterior(x)
    return mean.cpu().double(), log_var.cpu().double()
