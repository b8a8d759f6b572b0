"""A convolutional encoder of small images."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.nets.base import Encoder, check_positive
from pcgen.nets.mlp import MLP


class CNNEncoder(Encoder):
    """Stages of two 3 × 3 convolutions and a maximum over 2 × 2 pixels, then fully connected layers.

    Every convolution is followed by batch normalisation and ReLU.

    Args:
        image_shape: (C, H, W) of the images it will see.
        channels: Of each stage; each halves height and width, rounding down.
        head_widths: Width of each layer after the convolutions; the last is the number of features.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (1, 28, 28),
        channels: Sequence[int] = (16, 32, 64),
        head_widths: Sequence[int] = (128,),
    ) -> None:
        super().__init__()
        if len(image_shape) != 3:
            raise ConfigurationError(f"image_shape is {list(image_shape)}; it is [C, H, W]")
        C, H, W = image_shape
        check_positive(C=C, H=H, W=W)
        halvings = len(channels)
        if min(H, W) >> halvings == 0:
            raise ConfigurationError(f"channels has {halvings} stages, which halve {H} × {W} pixels to none")
        self.image_shape = (C, H, W)
        widths = (C, *channels)
        # Channels beside each other in memory: 1.5 times as fast on a CPU.
        stages = nn.Sequential(*[_stage(a, b) for a, b in pairwise(widths)])
        self.stages = stages.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        flat = widths[-1] * (H >> halvings) * (W >> halvings)
        self.out_features = (flat, *head_widths)[-1]
        self.head = MLP(flat, head_widths)

    def forward(self, x: Tensor) -> Tensor:
        """Give the features (B, F) of images (B, C, H, W).

        Raises:
            DataError: If the images are not of the shape that the network was built for.
        """
        if x.ndim != 4 or tuple(x.shape[1:]) != self.image_shape:
            raise DataError(
                f"this CNNEncoder was built for images (B, {', '.join(map(str, self.image_shape))}) and got "
                f"{tuple(x.shape)}: set its image_shape to the data's"
            )
        features: Tensor = self.head(self.stages(x).flatten(1))
        return features


def _stage(before: int, channels: int) -> nn.Sequential:
    check_positive(channels=channels)
    layers: list[nn.Module] = []
    for wide in (before, channels):
        # Batch normalisation has a shift of its own, so the convolution needs none.
        layers += [nn.Conv2d(wide, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.MaxPool2d(2))
