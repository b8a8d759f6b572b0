"""Multi-layer perceptrons: on flat vectors, and as encoder and decoder of whole clouds or images.

The published comparison of encoders (MLP against PointNet in a VAE of ModelNet) uses four layers of width 1024 with
batch normalisation on either side.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.nets.base import (
    Decoder,
    Encoder,
    activation,
    check_clouds,
    check_image_shape,
    check_images,
    check_positive,
)


class MLP(nn.Sequential):
    """Linear, normalisation and (leaky) ReLU for each width, then a plain linear layer where `out_features` is given.

    Args:
        in_features: Width of the input.
        widths: Width of each hidden layer.
        out_features: Width of the last, linear layer; None ends with the last hidden layer.
        batch_norm: Normalise each hidden layer over the batch.
        negative_slope: Slope of the activation below zero: 0 is ReLU, above it is LeakyReLU.
    """

    def __init__(
        self,
        in_features: int,
        widths: Sequence[int],
        out_features: int | None = None,
        *,
        batch_norm: bool = True,
        negative_slope: float = 0.0,
    ) -> None:
        layers: list[nn.Module] = []
        for width in widths:
            check_positive(width=width)
            # Batch normalisation has a shift of its own, so the linear layer before it needs none.
            layers.append(nn.Linear(in_features, width, bias=not batch_norm))
            layers += [nn.BatchNorm1d(width)] if batch_norm else []
            layers.append(activation(negative_slope))
            in_features = width
        if out_features is not None:
            layers.append(nn.Linear(in_features, out_features))
        super().__init__(*layers)
        self.normalizes = batch_norm and len(widths) > 0

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- nn.Sequential's name
        """Give (B, …) of the last width, of (B, in_features).

        Raises:
            DataError: In training, if a single row is to be normalised over the batch.
        """
        if self.training and self.normalizes and len(input) == 1:
            raise DataError(
                "a training batch of a single datum cannot be normalised over the batch: set batch_size to 2 or more, "
                "or batch_norm of encoder and decoder to false"
            )
        features: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return features


class MLPEncoder(Encoder):
    """An MLP on the concatenated coordinates of a cloud.

    It sees the order of the points and takes clouds of one size only; it is here for the published comparison.

    Args:
        num_points: N of the clouds it will see.
        widths: Width of each layer; the last is the number of features.
        batch_norm: Normalise each layer over the batch.
        negative_slope: Slope of the activations below zero: 0 is ReLU, critics often use LeakyReLU of 0.2.
    """

    def __init__(
        self,
        num_points: int = 2048,
        widths: Sequence[int] = (1024, 1024, 1024),
        batch_norm: bool = True,
        negative_slope: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(num_points=num_points)
        self.num_points = num_points
        self.out_features = _last(widths)
        self.layers = MLP(num_points * 3, widths, batch_norm=batch_norm, negative_slope=negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """Give the features (B, F) of clouds (B, N, 3).

        Raises:
            DataError: If N is not the one that the network was built for.
        """
        if check_clouds(x).shape[1] != self.num_points:
            raise DataError(
                f"this MLPEncoder was built for clouds of {self.num_points} points and got {x.shape[1]}: set its "
                "num_points to the data's, or take a PointNetEncoder, which takes any number"
            )
        features: Tensor = self.layers(x.flatten(1))
        return features


class MLPDecoder(Decoder):
    """An MLP from a code to all coordinates at once.

    Args:
        latent_dim: Z, length of a code.
        num_points: N of the clouds it makes.
        widths: Width of each hidden layer.
        batch_norm: Normalise each hidden layer over the batch.
        extra_channels: Further values per point (3 for a learned output scale).
    """

    def __init__(
        self,
        latent_dim: int = 128,
        num_points: int = 2048,
        widths: Sequence[int] = (1024, 1024, 1024),
        batch_norm: bool = True,
        extra_channels: int = 0,
    ) -> None:
        super().__init__()
        check_positive(latent_dim=latent_dim, num_points=num_points)
        self.latent_dim, self.num_points, self.extra_channels = latent_dim, num_points, extra_channels
        self.sample_shape = (num_points, 3)
        self.layers = MLP(latent_dim, widths, num_points * (3 + extra_channels), batch_norm=batch_norm)

    def forward(self, z: Tensor) -> Tensor:
        """Give clouds (B, N, 3 + extra_channels) of codes (B, Z)."""
        points: Tensor = self.layers(z).unflatten(1, (self.num_points, 3 + self.extra_channels))
        return points


class ImageMLPEncoder(Encoder):
    """An MLP on all pixels of an image at once.

    Args:
        image_shape: (C, H, W) of the images it will see.
        widths: Width of each layer; the last is the number of features.
        batch_norm: Normalise each layer over the batch.
        negative_slope: Slope of the activations below zero: 0 is ReLU, critics often use LeakyReLU of 0.2.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (1, 28, 28),
        widths: Sequence[int] = (512, 256),
        batch_norm: bool = True,
        negative_slope: float = 0.0,
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        self.out_features = _last(widths)
        size = math.prod(self.image_shape)
        self.layers = MLP(size, widths, batch_norm=batch_norm, negative_slope=negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """Give the features (B, F) of images (B, C, H, W).

        Raises:
            DataError: If the images are not of the shape that the network was built for.
        """
        features: Tensor = self.layers(check_images(x, self).flatten(1))
        return features


class ImageMLPDecoder(Decoder):
    """An MLP from a code to all pixels at once, without bounds: what the values mean is for the loss to say.

    Args:
        latent_dim: Z, length of a code.
        image_shape: (C, H, W) of the images it makes.
        widths: Width of each hidden layer.
        batch_norm: Normalise each hidden layer over the batch.
    """

    def __init__(
        self,
        latent_dim: int = 8,
        image_shape: Sequence[int] = (1, 28, 28),
        widths: Sequence[int] = (256, 512),
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        check_positive(latent_dim=latent_dim)
        self.latent_dim, self.sample_shape = latent_dim, check_image_shape(image_shape)
        self.layers = MLP(latent_dim, widths, math.prod(self.sample_shape), batch_norm=batch_norm)

    def forward(self, z: Tensor) -> Tensor:
        """Give images (B, C, H, W) of codes (B, Z)."""
        pixels: Tensor = self.layers(z).unflatten(1, self.sample_shape)
        return pixels


def _last(widths: Sequence[int]) -> int:
    if not widths:
        raise ConfigurationError("widths is empty; give the width of at least one layer, the last makes the features")
    return widths[-1]
