"""What an encoder and a decoder are to a model."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import Recorded


class Encoder(Recorded, nn.Module):
    """Data (B, …) to features (B, F).

    Attributes:
        out_features: F, so that a model can put its heads on.
        permutation_invariant: Whether the order of a cloud's points is without effect.
    """

    out_features: int
    permutation_invariant: bool = False

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Give the features (B, F) of data (B, …)."""


class Decoder(Recorded, nn.Module):
    """Codes (B, Z) to data.

    Attributes:
        latent_dim: Z.
        sample_shape: (N, 3) or (C, H, W).
        extra_channels: Values beside each point's coordinates (a learned output scale has 3), 0 by default.
    """

    latent_dim: int
    sample_shape: tuple[int, ...]
    extra_channels: int = 0

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """Give data (B, N, 3 + extra_channels) or (B, C, H, W) of codes (B, Z)."""


def check_clouds(x: Tensor) -> Tensor:
    """Return x if it is a batch of clouds (B, N, 3) with N ≥ 1.

    Raises:
        DataError: If it is not, with its shape and the likely remedy.
    """
    if x.ndim == 3 and x.shape[2] == 3 and x.shape[1] > 0:
        return x
    hint = ""
    if x.ndim == 2 and x.shape[1] == 3:
        hint = ": one cloud needs a batch dimension, x[None]"
    elif x.ndim == 3 and x.shape[1] == 3:
        hint = ": the coordinates come last here, x.transpose(1, 2)"
    raise DataError(f"clouds have the shape (B, N, 3), this is {tuple(x.shape)}{hint}")


class ImageNetwork(Protocol):
    """A network for images of one shape."""

    image_shape: tuple[int, int, int]


def check_images(x: Tensor, network: ImageNetwork) -> Tensor:
    """Return x if it is a batch of images (B, C, H, W) of the shape that the network was built for.

    Raises:
        DataError: If it is not, with both shapes.
    """
    if x.ndim == 4 and tuple(x.shape[1:]) == network.image_shape:
        return x
    raise DataError(
        f"this {type(network).__name__} was built for images (B, {', '.join(map(str, network.image_shape))}) and got "
        f"{tuple(x.shape)}: set its image_shape to the data's"
    )


def check_image_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """Return (C, H, W) as a tuple.

    Raises:
        ConfigurationError: If it is not three numbers above 0.
    """
    if len(image_shape) != 3:
        raise ConfigurationError(f"image_shape is {list(image_shape)}; it is [C, H, W]")
    C, H, W = image_shape
    check_positive(C=C, H=H, W=W)
    return C, H, W


def check_positive(**arguments: int) -> None:
    """Refuse sizes below one, naming the argument.

    Raises:
        ConfigurationError: At the first argument that is not a positive integer.
    """
    for name, value in arguments.items():
        if value < 1:
            raise ConfigurationError(f"{name} is {value}; it must be at least 1")


def check_weight(**arguments: float) -> float:
    """Return the one weight that was given, by its name.

    Raises:
        ConfigurationError: If it is negative or not finite.
    """
    ((name, value),) = arguments.items()
    if not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} is {value}; a weight is a finite number, 0 or more")
    return value


def activation(negative_slope: float) -> nn.Module:
    """Give a LeakyReLU of this slope below zero, ReLU where it is 0, which overwrites its input.

    Raises:
        ConfigurationError: If the slope is below 0, or 1 and above.
    """
    if not 0 <= negative_slope < 1:
        raise ConfigurationError(f"negative_slope is {negative_slope}; it must be at least 0 (ReLU) and below 1")
    return nn.LeakyReLU(negative_slope, inplace=True) if negative_slope else nn.ReLU(inplace=True)
