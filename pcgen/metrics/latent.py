"""What the latent dimensions of a variational model carry."""

from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric


class KLPerDimension(Metric):
    """Mean over the data of KL(q(z_k | x) ‖ p(z_k)) for each latent dimension k, in nats.

    A dimension is *active* if its mean KL is above `ACTIVE`; the others are ignored by the decoder.

    Args:
        latent_dim: Z.
    """

    ACTIVE: ClassVar[float] = 0.01
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(latent_dim, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, kl: Tensor) -> None:
        """Add the KL of each datum and dimension, (B, Z)."""
        self.total += kl.detach().double().sum(0)
        self.count += len(kl)

    def compute(self) -> Tensor:
        """Give the mean KL of each dimension, (Z,)."""
        return self.total / self.count.clamp(min=1)
