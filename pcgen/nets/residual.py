"""Image encoder and decoder of residual blocks.

After K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
https://arxiv.org/abs/1512.03385: the activation comes after the sum (post-activation), since before the first
convolution it would cut the image off at 0.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from pcgen.nets.base import activation, check_positive
from pcgen.nets.staged import Norm, Stage, StagedDecoder, StagedEncoder, convolution, resizing


class ResNetEncoder(StagedEncoder):
    """Residual blocks that halve the image, then fully connected layers.

    Args:
        image_shape: (C, H, W) of the images it will see.
        channels: Of each stage; each halves height and width, rounding down.
        blocks: Residual blocks in each stage; the first of them halves.
        head_widths: Width of each layer after the stages; the last is the number of features.
        norm: "instance" (each channel of each image over its pixels), "batch" or "none". The layers of the head are
            normalised over the batch or not at all.
        negative_slope: Slope of the activations below zero: 0 is ReLU, critics often use LeakyReLU of 0.2.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (1, 28, 28),
        channels: Sequence[int] = (16, 32, 64),
        blocks: int = 1,
        head_widths: Sequence[int] = (),
        norm: Norm = "instance",
        negative_slope: float = 0.0,
    ) -> None:
        check_positive(blocks=blocks)

        def make(before: int, after: int) -> Stage:
            return _stage(before, after, blocks, norm, negative_slope, doubles=False)

        super().__init__(image_shape, channels, head_widths, norm, negative_slope, make)


class ResNetDecoder(StagedDecoder):
    """Fully connected layers to a small image, residual blocks that double it, and a plain 3 × 3 convolution.

    Its values have no bounds: what they mean (pixels, or increments of a warp) is for the model to say. An image whose
    sides are not multiples of the doublings is cut out of the middle of a larger one.

    Args:
        latent_dim: Z, length of a code.
        image_shape: (C, H, W) of the images it makes.
        channels: Before each doubling; the last doubling gives the image.
        blocks: Residual blocks to each doubling but the last; the first of them doubles.
        head_widths: Width of each layer before the small image.
        norm: "instance" (each channel of each image over its pixels), "batch" or "none". The fully connected layers
            are normalised over the batch or not at all.
    """

    def __init__(
        self,
        latent_dim: int = 8,
        image_shape: Sequence[int] = (1, 28, 28),
        channels: Sequence[int] = (64, 32, 16),
        blocks: int = 1,
        head_widths: Sequence[int] = (),
        norm: Norm = "instance",
    ) -> None:
        check_positive(blocks=blocks)

        def make(before: int, after: int) -> Stage:
            return _stage(before, after, blocks, norm, 0.0, doubles=True)

        super().__init__(latent_dim, image_shape, channels, head_widths, norm, make)


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the input, then the activation.

    The first convolution may resize. The input then takes a way of its own, a 1 × 1 convolution of its 2 × 2 means, or
    of each pixel doubled; so it does where the number of channels changes. That way is not normalised: what instance
    normalisation takes out of an image (how bright it is, how strong its contrast) goes through it.
    """

    def __init__(self, path: nn.Module, shortcut: nn.Module, negative_slope: float) -> None:
        super().__init__()
        self.path, self.shortcut, self.activation = path, shortcut, activation(negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, channels, H', W') of (B, C, H, W)."""
        h: Tensor = self.activation(self.path(x).add_(self.shortcut(x)))
        return h


def _stage(before: int, after: int, blocks: int, norm: Norm, negative_slope: float, *, doubles: bool) -> Stage:
    first = resizing(before, after, norm, negative_slope, doubles=doubles)
    project = nn.Conv2d(before, after, 1, bias=False)
    # The projection sees few pixels either way: it comes after the mean and before the doubling.
    shortcut = [project, nn.Upsample(scale_factor=2)] if doubles else [nn.AvgPool2d(2), project]
    stage: list[nn.Module] = [
        ResidualBlock(nn.Sequential(*first, *_same(after, norm)), nn.Sequential(*shortcut), negative_slope)
    ]
    for _ in range(blocks - 1):
        path = nn.Sequential(*_same(after, norm), activation(negative_slope), *_same(after, norm))
        stage.append(ResidualBlock(path, nn.Identity(), negative_slope))
    return Stage(after, *stage)


def _same(channels: int, norm: Norm) -> list[nn.Module]:
    return convolution(nn.Conv2d(channels, channels, 3, padding=1, bias=norm == "none"), norm)
