"""Walks from one point to another: on a straight line, or along a great circle."""

from typing import Literal

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError

Path = Literal["linear", "spherical"]


def interpolate_codes(a: Tensor, b: Tensor, steps: int, *, path: Path = "linear") -> Tensor:
    """Walk from codes a to codes b.

    Linear: (1 − t) a + t b. Spherical (K. Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH 1985; for
    codes T. White, "Sampling Generative Networks", 2016, https://arxiv.org/abs/1609.04468):
    [sin((1 − t) ω) a + sin(t ω) b] / sin ω with ω the angle between a and b. Under N(0, I) in many dimensions codes
    lie near a sphere, which the straight line leaves and the great circle does not.

    Args:
        a: (B, Z), floating point.
        b: (B, Z).
        steps: Number of stations, both ends among them; at least 2.
        path: "linear" or "spherical".

    Returns:
        (steps, B, Z). Parallel codes are joined by the straight line on either path.

    Raises:
        ConfigurationError: If there are fewer than two steps, or the path is none of the above.
        DataError: If the shapes differ; on the spherical path if codes have a single dimension, or some pair points in
            opposite directions or holds a zero, so that no great circle is the one between them.

    >>> a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> interpolate_codes(a, b, 3)[1]
    tensor([[0.5000, 0.5000]])
    >>> interpolate_codes(a, b, 3, path="spherical")[1]
    tensor([[0.7071, 0.7071]])
    """
    if steps < 2:
        raise ConfigurationError(f"steps is {steps}; an interpolation has at least its two ends")
    if a.ndim != 2 or a.shape != b.shape:
        raise DataError(f"codes of shapes {tuple(a.shape)} and {tuple(b.shape)} are not two times (B, Z)")
    t = torch.linspace(0, 1, steps, device=a.device, dtype=a.dtype).view(-1, 1, 1)
    if path == "linear":
        return torch.lerp(a, b, t)  # unlike a + t (b − a) exact at either end
    if path != "spherical":
        raise ConfigurationError(f'path is {path!r}; choose "linear" or "spherical"')
    angle = _angle(a, b)  # (B, 1)
    wide = angle.sin().clamp(min=torch.finfo(a.dtype).tiny)
    arc = ((1 - t) * angle).sin() / wide * a + (t * angle).sin() / wide * b
    return torch.where(angle < 1e-3, torch.lerp(a, b, t), arc)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """Give the angle (B, 1) between codes in radians, exact for small ones too.

    Raises:
        DataError: If there is no plane in which to turn from one to the other.
    """
    if a.shape[1] == 1:
        raise DataError("codes of one dimension have no great circle between them; take the linear path")
    lengths = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    u, v = (x / n.clamp(min=torch.finfo(a.dtype).tiny) for x, n in zip((a, b), lengths, strict=True))
    angle = 2 * torch.atan2((u - v).norm(dim=1, keepdim=True), (u + v).norm(dim=1, keepdim=True))
    for pair in (((lengths[0] == 0) | (lengths[1] == 0) | (angle > torch.pi - 1e-3)).nonzero()[:1, 0]).tolist():
        raise DataError(
            f"the codes of pair {pair} are zero or point in opposite directions, so no great circle is the one between "
            "them; take the linear path"
        )
    return angle
