"""Wasserstein autoencoder with the maximum mean discrepancy, of point clouds or of images.

Reference: I. Tolstikhin, O. Bousquet, S. Gelly, B. Schölkopf, "Wasserstein Auto-Encoders", ICLR 2018,
https://arxiv.org/abs/1711.01558.

    L = mean d(x, D(E(x))) + λ MMD²_k(E(x), y),  y ~ N(0, I) of the batch's size

Where it differs, and why:

- The kernel is 1 / (1 + ‖x − y‖²) and the estimator the V-statistic (diagonals in) unless told otherwise; the paper's
  are the sum of inverse multiquadrics and the U-statistic.
- On several processes the batch's size is that of all their shares together: each compares all codes with all draws.
- An evaluation compares all its codes at once with as many draws of the prior, by the U-statistic, which is 0 on
  average where they agree; that of a batch would depend on the batch's size.
"""

import math

import torch
from torch import Tensor

from pcgen.base import Batch, OptimizerFactory, SchedulerFactory
from pcgen.errors import ConfigurationError
from pcgen.losses import Reconstruction
from pcgen.metrics import LatentMMD
from pcgen.models._autoencoding import DeterministicCode, StandardNormalPrior
from pcgen.models._whole_batch import batch_rows
from pcgen.nets import Decoder, Encoder
from pcgen.ops import InverseMultiquadratic, kernel_mmd2
from pcgen.ops.kernels import RecordedKernel


class WAE(DeterministicCode, StandardNormalPrior):
    """Wasserstein autoencoder: deterministic codes whose distribution over the data is made to be N(0, I).

    Args:
        encoder: Data (B, …) to features; PointNetEncoder by default. The layer from there to the code belongs to the
            model.
        decoder: Codes (B, Z) to data; an MLPDecoder by default. Its `latent_dim` is the model's.
        reconstruction: Distance between data and reconstructions; the Chamfer sum by default. On images take
            SquaredErrorReconstruction.
        mmd_weight: λ.
        kernel: k of the discrepancy; 1 / (1 + ‖x − y‖²) by default.
        unbiased: Take the U-statistic in training, which can be negative; the V-statistic otherwise.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer, stepped once an epoch.
    """

    TERMS = ("loss", "reconstruction", "mmd2")

    def __init__(
        self,
        encoder: Encoder | None = None,
        decoder: Decoder | None = None,
        reconstruction: Reconstruction | None = None,
        mmd_weight: float = 10.0,
        kernel: RecordedKernel | None = None,
        unbiased: bool = False,
        optimizer: OptimizerFactory = torch.optim.Adam,
        lr_scheduler: SchedulerFactory | None = None,
    ) -> None:
        super().__init__(encoder, decoder, reconstruction, optimizer, lr_scheduler)
        if not 0 <= mmd_weight < math.inf:
            raise ConfigurationError(f"mmd_weight is {mmd_weight}; give a number of 0 or more")
        self.bottleneck = self.head()
        self.mmd_weight, self.unbiased = mmd_weight, unbiased
        self.kernel = kernel or InverseMultiquadratic()
        self.latent_mmd = LatentMMD(kernel=self.kernel, unbiased=True)

    # ── objective ─────────────────────────────────────────────────────────────────────────────────────────────────

    def terms(self, x: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the terms of the objective for data (B, …).

        Args:
            x: Data; at least two for the U-statistic.
            generator: Draws the prior's sample; None takes `step_generator()`.

        Returns:
            `reconstruction` mean d(x, D(E(x))), `mmd2` MMD²_k(E(x), y) and `loss` = reconstruction + λ mmd2, scalars.
        """
        codes, reconstruction = self._reconstructed(x)
        y = torch.randn(codes.shape, generator=generator or self.step_generator()).to(codes)
        codes, y = batch_rows(self, codes), batch_rows(self, y)
        mmd2 = kernel_mmd2(codes, y, kernel=self.kernel, unbiased=self.unbiased)
        loss = reconstruction + self.mmd_weight * mmd2
        return {"loss": loss, "reconstruction": reconstruction, "mmd2": mmd2}

    def _reconstructed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give the codes (B, Z), in no less than single precision, and the mean reconstruction loss."""
        z = self.code(x)
        reconstruction = self.reconstruction(self.decoder(z), x).mean()
        return z.to(torch.promote_types(z.dtype, torch.float32)), reconstruction

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────────

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 -- Lightning's signature
        """Gather the reconstruction loss and the codes, whose discrepancy is taken of all at once, in `means`."""
        codes, reconstruction = self._reconstructed(batch.x)
        self.gather({"loss": reconstruction, "reconstruction": reconstruction, "mmd2": codes.new_zeros(())}, len(codes))
        self.latent_mmd.update(codes)

    def means(self) -> dict[str, Tensor]:
        """Give the terms' means, the discrepancy being that of all the codes."""
        means = super().means()
        mmd2 = self.latent_mmd.compute().to(means["loss"])
        self.latent_mmd.reset()
        return means | {"mmd2": mmd2, "loss": means["reconstruction"] + self.mmd_weight * mmd2}
