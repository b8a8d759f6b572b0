"""What an encoder and a decoder are to a model."""

from abc import abstractmethod

from torch import Tensor, nn

from pcgen.recipe import Recorded


class Encoder(Recorded, nn.Module):
    """Data (B, …) to features (B, F).

    Attributes:
        out_features: F, so that a model can put its heads on.
    """

    out_features: int

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Give the features (B, F) of data (B, …)."""


class Decoder(Recorded, nn.Module):
    """Codes (B, Z) to data.

    Attributes:
        latent_dim: Z.
        sample_shape: (N, 3) or (C, H, W).
        extra_channels: Values beside each point's coordinates, 0 unless asked for (the learned output scale is 3).
    """

    latent_dim: int
    sample_shape: tuple[int, ...]
    extra_channels: int = 0

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """Give data (B, N, 3 + extra_channels) or (B, C, H, W) of codes (B, Z)."""
