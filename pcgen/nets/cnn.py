"""Convolutional encoder and decoder of small images."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from pcgen.errors import ConfigurationError
from pcgen.nets.base import Decoder, Encoder, activation, check_image_shape, check_images, check_positive
from pcgen.nets.mlp import MLP


class CNNEncoder(Encoder):
    """Stages that halve the image, then fully connected layers.

    Every convolution is followed by batch normalisation and (leaky) ReLU.

    Args:
        image_shape: (C, H, W) of the images it will see.
        channels: Of each stage; each halves height and width, rounding down.
        head_widths: Width of each layer after the convolutions; the last is the number of features.
        halving: What a stage is. "max": two 3 × 3 convolutions and a maximum over 2 × 2 pixels, which recognises.
            "stride": one 4 × 4 convolution of stride 2, which keeps where things are and takes a quarter of the time:
            the mirror of `CNNDecoder`.
        batch_norm: Normalise every convolution and head layer over the batch.
        negative_slope: Slope of the activations below zero: 0 is ReLU, critics often use LeakyReLU of 0.2.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (1, 28, 28),
        channels: Sequence[int] = (16, 32, 64),
        head_widths: Sequence[int] = (128,),
        halving: Literal["max", "stride"] = "max",
        batch_norm: bool = True,
        negative_slope: float = 0.0,
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        C, H, W = self.image_shape
        halvings = len(channels)
        if min(H, W) >> halvings == 0:
            raise ConfigurationError(f"channels has {halvings} stages, which halve {H} × {W} pixels to none")
        widths = (C, *channels)
        check_positive(channels=min(widths))
        if halving not in ("max", "stride"):
            raise ConfigurationError(f'halving is {halving!r}; choose "max" or "stride"')
        make = _pooled_stage if halving == "max" else _strided_stage
        # Channels beside each other in memory: 1.5 times as fast on a CPU.
        stages = nn.Sequential(*[make(a, b, batch_norm, negative_slope) for a, b in pairwise(widths)])
        self.stages = stages.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        flat = widths[-1] * (H >> halvings) * (W >> halvings)
        self.out_features = (flat, *head_widths)[-1]
        self.head = MLP(flat, head_widths, batch_norm=batch_norm, negative_slope=negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """Give the features (B, F) of images (B, C, H, W).

        Raises:
            DataError: If the images are not of the shape that the network was built for.
        """
        features: Tensor = self.head(self.stages(check_images(x, self)).flatten(1))
        return features


class CNNDecoder(Decoder):
    """Fully connected layers to a small image of many channels, then 4 × 4 transposed convolutions that double it.

    Its values have no bounds: what they mean (pixels, or logits of them) is for the loss to say. An image whose sides
    are not multiples of the doublings is cut out of the middle of a larger one.

    After A. Radford, L. Metz, S. Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks", ICLR 2016, https://arxiv.org/abs/1511.06434.

    Args:
        latent_dim: Z, length of a code.
        image_shape: (C, H, W) of the images it makes.
        channels: Before each doubling; the last doubling gives the image.
        head_widths: Width of each layer before the convolutions.
        batch_norm: Normalise every layer but the last over the batch.
    """

    def __init__(
        self,
        latent_dim: int = 8,
        image_shape: Sequence[int] = (1, 28, 28),
        channels: Sequence[int] = (64, 32),
        head_widths: Sequence[int] = (128,),
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if not channels:
            raise ConfigurationError("channels is empty; give the channels before each doubling, at least one")
        check_positive(latent_dim=latent_dim, channels=min(channels))
        self.latent_dim, self.sample_shape = latent_dim, check_image_shape(image_shape)
        C, H, W = self.sample_shape
        times = 1 << len(channels)
        self.seed_shape = (channels[0], -(-H // times), -(-W // times))
        flat = channels[0] * self.seed_shape[1] * self.seed_shape[2]
        self.head = MLP(latent_dim, (*head_widths, flat), batch_norm=batch_norm)
        doublings: list[nn.Module] = []
        for a, b in pairwise(channels):
            doublings += [nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=not batch_norm)]
            doublings += [nn.BatchNorm2d(b), nn.ReLU(inplace=True)] if batch_norm else [nn.ReLU(inplace=True)]
        doublings.append(nn.ConvTranspose2d(channels[-1], C, 4, stride=2, padding=1))
        self.doublings = nn.Sequential(*doublings).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: Tensor) -> Tensor:
        """Give images (B, C, H, W) of codes (B, Z)."""
        seed = self.head(z).unflatten(1, self.seed_shape)
        large: Tensor = self.doublings(seed.contiguous(memory_format=torch.channels_last))
        _, H, W = self.sample_shape
        top, left = (large.shape[2] - H) // 2, (large.shape[3] - W) // 2
        return large[:, :, top : top + H, left : left + W]


def _pooled_stage(before: int, channels: int, batch_norm: bool, negative_slope: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for wide in (before, channels):
        convolution = nn.Conv2d(wide, channels, 3, padding=1, bias=not batch_norm)
        layers += _convolution(convolution, batch_norm, negative_slope)
    return nn.Sequential(*layers, nn.MaxPool2d(2))


def _strided_stage(before: int, channels: int, batch_norm: bool, negative_slope: float) -> nn.Sequential:
    convolution = nn.Conv2d(before, channels, 4, stride=2, padding=1, bias=not batch_norm)
    return nn.Sequential(*_convolution(convolution, batch_norm, negative_slope))


def _convolution(convolution: nn.Conv2d, batch_norm: bool, negative_slope: float) -> list[nn.Module]:
    # Batch normalisation has a shift of its own, so the convolution before it needs none.
    norm = [nn.BatchNorm2d(convolution.out_channels)] if batch_norm else []
    return [convolution, *norm, activation(negative_slope)]
