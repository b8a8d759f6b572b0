"""Autoencoder of point clouds, or of images; with a corruption it denoises or completes.

References: P. Achlioptas et al., "Learning Representations and Generative Models for 3D Point Clouds", ICML 2018,
https://arxiv.org/abs/1707.02392; P. Vincent et al., "Extracting and Composing Robust Features with Denoising
Autoencoders", ICML 2008, https://doi.org/10.1145/1390156.1390294.

    z = E(c(x)),  x̂ = D(z),  L = d(x, x̂)

with c the corruption, or the identity. Where it differs, and why: d is a sum over the dimensions of one datum, as
everywhere in this zoo (the paper's is a mean over points); Adam makes no difference between the two.

Its codes follow no known distribution, so it has no prior and does not sample: see VAE and WAE for models that do.
"""

import torch
from torch import Tensor

from pcgen.base import OptimizerFactory, SchedulerFactory
from pcgen.corruptions import Corruption
from pcgen.losses import Reconstruction
from pcgen.models._autoencoding import DeterministicCode
from pcgen.nets import Decoder, Encoder


class Autoencoder(DeterministicCode):
    """Deterministic autoencoder, which restores damaged data if it is trained with a corruption.

    Args:
        encoder: Data (B, …) to features; PointNetEncoder by default. The layer from there to the code belongs to the
            model.
        decoder: Codes (B, Z) to data; an MLPDecoder by default. Its `latent_dim` is the model's.
        reconstruction: Distance between data and reconstructions; the Chamfer sum by default.
        corruption: What the encoder's data go through in training and evaluation, while the loss compares with the
            clean ones; None for none. `reconstruct` takes data as they are.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer, stepped once an epoch.
    """

    def __init__(
        self,
        encoder: Encoder | None = None,
        decoder: Decoder | None = None,
        reconstruction: Reconstruction | None = None,
        corruption: Corruption | None = None,
        optimizer: OptimizerFactory = torch.optim.Adam,
        lr_scheduler: SchedulerFactory | None = None,
    ) -> None:
        super().__init__(encoder, decoder, reconstruction, optimizer, lr_scheduler)
        self.corruption = corruption
        self.bottleneck = self.head()

    # ── objective ─────────────────────────────────────────────────────────────────────────────────────────────────

    def terms(self, x: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the objective for data (B, …).

        Args:
            x: Clean data.
            generator: Draws the corruption; None takes `step_generator()`.

        Returns:
            `loss` and `reconstruction`, the same scalar d(x, D(E(c(x)))).
        """
        seen = x if self.corruption is None else self.corruption(x, generator=generator or self.step_generator())
        loss = self.reconstruction(self.decoder(self.code(seen)), x).mean()
        return {"loss": loss, "reconstruction": loss}
