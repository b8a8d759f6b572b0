"""What the latent dimensions of a variational model carry."""

from typing import ClassVar

from torch import Tensor

from pcgen.metrics.means import MeanOverData


class KLPerDimension(MeanOverData):
    """Mean over the data of KL(q(z_k | x) ‖ p(z_k)) for each latent dimension k, in nats.

    A dimension is *active* if its mean KL is above `ACTIVE`; the others are ignored by the decoder.

    Args:
        size: Z.
    """

    ACTIVE: ClassVar[float] = 0.01

    def update(self, kl: Tensor) -> None:  # type: ignore[override]  # the data themselves, not their means
        """Add the KL of each datum and dimension, (B, Z)."""
        super().update(kl.mean(0), len(kl))
