"""What image networks of blocks have in common: stages that halve or double, normalisation, the way in and out."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcgen.errors import ConfigurationError
from pcgen.nets.base import Decoder, Encoder, activation, check_image_shape, check_images, check_positive
from pcgen.nets.mlp import MLP

Norm = Literal["instance", "batch", "none"]


class Stage(nn.Sequential):
    """Layers that say how many channels they give: a dense block gives more than its first layer."""

    out_channels: int

    def __init__(self, out_channels: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.out_channels = out_channels


class StagedEncoder(Encoder):
    """Stages that halve the image, rounding down, then fully connected layers.

    Args:
        image_shape: (C, H, W) of the images it will see.
        channels: Of each stage.
        head_widths: Width of each layer after the stages; the last is the number of features.
        norm: "instance" (each channel of each image over its pixels), "batch" or "none". The layers of the head are
            normalised over the batch or not at all: a row of features has no pixels.
        negative_slope: Slope of the activations below zero: 0 is ReLU.
        make: Gives the stage that halves, of the channels before it and those named for it.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: Sequence[int],
        head_widths: Sequence[int],
        norm: Norm,
        negative_slope: float,
        make: Callable[[int, int], Stage],
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        width, H, W = self.image_shape
        _check_halvings(H, W, len(channels), norm)
        stages: list[Stage] = []
        for wanted in channels:
            check_positive(channels=wanted)
            stages.append(make(width, wanted))
            width = stages[-1].out_channels
        # Channels beside each other in memory: the network is 1.05 to 1.25 times as fast on a CPU, copies included.
        self.stages = nn.Sequential(*stages).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        flat = width * (H >> len(channels)) * (W >> len(channels))
        self.out_features = (flat, *head_widths)[-1]
        self.head = MLP(flat, head_widths, batch_norm=norm == "batch", negative_slope=negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """Give the features (B, F) of images (B, C, H, W).

        Raises:
            DataError: If the images are not of the shape that the network was built for.
        """
        features: Tensor = self.head(self.stages(check_images(x, self)).flatten(1))
        return features


class StagedDecoder(Decoder):
    """Fully connected layers to a small image of many channels, stages that double it, and a plain 3 × 3 convolution.

    Its values have no bounds: what they mean (pixels, or increments of a warp) is for the model to say. An image whose
    sides are not multiples of the doublings is cut out of the middle of a larger one.

    Args:
        latent_dim: Z, length of a code.
        image_shape: (C, H, W) of the images it makes.
        channels: Before each doubling; the last doubling gives the image.
        head_widths: Width of each layer before the small image.
        norm: "instance", "batch" or "none", as in the encoder.
        make: Gives the stage that doubles, of the channels before it and those named for it.
    """

    def __init__(
        self,
        latent_dim: int,
        image_shape: Sequence[int],
        channels: Sequence[int],
        head_widths: Sequence[int],
        norm: Norm,
        make: Callable[[int, int], Stage],
    ) -> None:
        super().__init__()
        if not channels:
            raise ConfigurationError("channels is empty; give the channels before each doubling, at least one")
        check_positive(latent_dim=latent_dim, channels=min(channels))
        _check_norm(norm)
        self.latent_dim, self.sample_shape = latent_dim, check_image_shape(image_shape)
        C, H, W = self.sample_shape
        times = 1 << len(channels)
        self.seed_shape = (channels[0], -(-H // times), -(-W // times))
        flat = channels[0] * self.seed_shape[1] * self.seed_shape[2]
        self.head = MLP(latent_dim, (*head_widths, flat), batch_norm=norm == "batch")
        stages: list[nn.Module] = []
        width = channels[0]
        for wanted in channels[1:]:
            stage = make(width, wanted)
            stages.append(stage)
            width = stage.out_channels
        stages.append(DoublingConv2d(width, C))
        self.stages = nn.Sequential(*stages).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: Tensor) -> Tensor:
        """Give images (B, C, H, W) of codes (B, Z)."""
        seed = self.head(z).unflatten(1, self.seed_shape)
        large: Tensor = self.stages(seed.contiguous(memory_format=torch.channels_last))
        _, H, W = self.sample_shape
        top, left = (large.shape[2] - H) // 2, (large.shape[3] - W) // 2
        return large[:, :, top : top + H, left : left + W]


class DoublingConv2d(nn.Conv2d):
    """Every pixel becomes 2 × 2 equal ones, then a 3 × 3 convolution: every new pixel is made alike.

    A transposed convolution whose kernel its stride does not divide leaves a checkerboard; this has none (A. Odena,
    V. Dumoulin, C. Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016,
    https://distill.pub/2016/deconv-checkerboard). The two steps are one transposed convolution whose 4 × 4 kernel is
    the sum of the 3 × 3 one at four places: 1.3 to 2 times as fast on a CPU, and the larger image of many channels is
    never made.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- nn.Conv2d's name
        """Give (B, out_channels, 2H, 2W) of (B, in_channels, H, W)."""
        k = F.pad(self.weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
        k = k[..., :-1, :-1] + k[..., :-1, 1:] + k[..., 1:, :-1] + k[..., 1:, 1:]  # (in, out, 4, 4)
        return F.conv_transpose2d(input, k, self.bias, stride=2, padding=1)


class InstanceNorm(nn.GroupNorm):
    """Each channel of each image gets mean 0 and variance 1 over its pixels, then a learned scale and shift.

    D. Ulyanov, A. Vedaldi, V. Lempitsky, "Instance Normalization: The Missing Ingredient for Fast Stylization", 2016,
    https://arxiv.org/abs/1607.08022.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- nn.GroupNorm's name
        """Give (B, C, H, W) of the same."""
        # Groups of one channel are instance normalisation. Forward and backward on one thread, (100, 32, 14, 14), with
        # the convolution before it: GroupNorm with channels first, the convolution with channels last and copies
        # between them 16 ms; all channels first 23 (nn.InstanceNorm2d 23); all channels last 21 (nn.InstanceNorm2d 18).
        normed = super().forward(input.contiguous())
        return normed.contiguous(memory_format=torch.channels_last)


def convolution(layer: nn.Conv2d, norm: Norm) -> list[nn.Module]:
    """Give the layer and its normalisation; it should have no bias exactly where there is one, which has a shift."""
    if norm == "none":
        return [layer]
    return [layer, InstanceNorm(layer.out_channels) if norm == "instance" else nn.BatchNorm2d(layer.out_channels)]


def resizing(before: int, after: int, norm: Norm, negative_slope: float, *, doubles: bool) -> list[nn.Module]:
    """Give the layers that halve (4 × 4, stride 2) or double an image's sides, with activation."""
    bias = norm == "none"
    resized = DoublingConv2d(before, after, bias) if doubles else nn.Conv2d(before, after, 4, 2, 1, bias=bias)
    return [*convolution(resized, norm), activation(negative_slope)]


def _check_norm(norm: str) -> None:
    if norm not in ("instance", "batch", "none"):
        raise ConfigurationError(f'norm is {norm!r}; choose "instance", "batch" or "none"')


def _check_halvings(H: int, W: int, halvings: int, norm: str) -> None:
    _check_norm(norm)
    h, w = H >> halvings, W >> halvings
    if h * w == 0:
        raise ConfigurationError(f"channels has {halvings} stages, which halve {H} × {W} pixels to none")
    if h * w == 1 and norm == "instance" and halvings:
        raise ConfigurationError(
            f"channels has {halvings} stages, which halve {H} × {W} pixels to one, and norm 'instance' makes every "
            "single pixel 0: give fewer stages, or norm 'batch' or 'none'"
        )
