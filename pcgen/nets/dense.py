"""Image encoder and decoder of densely connected blocks.

After G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger, "Densely Connected Convolutional Networks", CVPR 2017,
https://arxiv.org/abs/1608.06993: every layer of a block sees the block's input and what all layers before it gave.

Differences: each layer's output is normalised once (the original normalises the whole input of every layer anew), and
the transition from one block to the next is one convolution that halves or doubles (there: 1 × 1 convolution and mean).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcgen.nets.base import activation, check_positive
from pcgen.nets.staged import Norm, Stage, StagedDecoder, StagedEncoder, convolution, resizing


class DenseNetEncoder(StagedEncoder):
    """Convolutions that halve the image, each followed by a dense block, then fully connected layers.

    Args:
        image_shape: (C, H, W) of the images it will see.
        channels: Of each stage's first convolution, which halves height and width, rounding down.
        growth: Channels that each layer of a dense block adds.
        layers: Layers of each dense block: a stage gives channels + layers · growth channels.
        head_widths: Width of each layer after the stages; the last is the number of features.
        norm: "instance" (each channel of each image over its pixels), "batch" or "none". The layers of the head are
            normalised over the batch or not at all.
        negative_slope: Slope of the activations below zero: 0 is ReLU, critics often use LeakyReLU of 0.2.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (1, 28, 28),
        channels: Sequence[int] = (16, 32, 64),
        growth: int = 8,
        layers: int = 3,
        head_widths: Sequence[int] = (),
        norm: Norm = "instance",
        negative_slope: float = 0.0,
    ) -> None:
        check_positive(growth=growth, layers=layers)

        def make(before: int, after: int) -> Stage:
            first = resizing(before, after, norm, negative_slope, doubles=False)
            return _stage(first, after, growth, layers, norm, negative_slope)

        super().__init__(image_shape, channels, head_widths, norm, negative_slope, make)


class DenseNetDecoder(StagedDecoder):
    """Fully connected layers to a small image, doublings each followed by a dense block, a plain 3 × 3 convolution.

    Its values have no bounds: what they mean (pixels, or increments of a warp) is for the model to say. An image whose
    sides are not multiples of the doublings is cut out of the middle of a larger one.

    Args:
        latent_dim: Z, length of a code.
        image_shape: (C, H, W) of the images it makes.
        channels: Of the small image, then of the convolution that makes each doubling; the last doubling gives the
            image.
        growth: Channels that each layer of a dense block adds.
        layers: Layers of each dense block.
        head_widths: Width of each layer before the small image.
        norm: "instance" (each channel of each image over its pixels), "batch" or "none". The fully connected layers
            are normalised over the batch or not at all.
    """

    def __init__(
        self,
        latent_dim: int = 8,
        image_shape: Sequence[int] = (1, 28, 28),
        channels: Sequence[int] = (64, 32, 16),
        growth: int = 8,
        layers: int = 3,
        head_widths: Sequence[int] = (),
        norm: Norm = "instance",
    ) -> None:
        check_positive(growth=growth, layers=layers)

        def make(before: int, after: int) -> Stage:
            return _stage(resizing(before, after, norm, 0.0, doubles=True), after, growth, layers, norm, 0.0)

        super().__init__(latent_dim, image_shape, channels, head_widths, norm, make)


class DenseBlock(nn.Module):
    """Layers of 3 × 3 convolutions, each of which sees the block's input and the outputs of all before it."""

    def __init__(self, channels: int, growth: int, layers: int, norm: Norm, negative_slope: float) -> None:
        super().__init__()
        self.out_channels = channels + layers * growth
        self.layers = nn.ModuleList()
        for width in range(channels, self.out_channels, growth):
            layer = nn.Conv2d(width, growth, 3, padding=1, bias=norm == "none")
            self.layers.append(nn.Sequential(*convolution(layer, norm), activation(negative_slope)))

    def forward(self, x: Tensor) -> Tensor:
        """Give the input and all layers' outputs (B, C + layers · growth, H, W) of (B, C, H, W)."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


def _stage(first: list[nn.Module], channels: int, growth: int, layers: int, norm: Norm, negative_slope: float) -> Stage:
    block = DenseBlock(channels, growth, layers, norm, negative_slope)
    return Stage(block.out_channels, *first, block)
