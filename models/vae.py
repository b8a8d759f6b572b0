"""Variational autoencoder of point clouds, or of images.

Reference: D. P. Kingma, M. Welling, "Auto-Encoding Variational Bayes", ICLR 2014, https://arxiv.org/abs/1312.6114.

Where it differs, and why:

- A cloud is a set, so the likelihood of its points is replaced by the Chamfer sum over 2α² (both directions, squared
  distances): the Gaussian log-likelihood of every point under its nearest point of the other cloud, up to a constant.
- α may be a constant or come from the decoder for every point and axis (`pcgen.losses`).
- Constants are left out: `elbo` compares models of one reconstruction loss and scale, not across them.
- Everything is a *sum* over the dimensions of one datum and a mean over the batch. With a mean Chamfer distance
  instead, the KL term would weigh 2N times too much and the posterior would collapse.
"""

import warnings

import torch
from torch import Tensor

from pcgen.base import OptimizerFactory, SchedulerFactory, verb
from pcgen.errors import ConfigurationError
from pcgen.losses import Reconstruction
from pcgen.metrics import KLPerDimension
from pcgen.models._autoencoding import StandardNormalPrior
from pcgen.nets import Decoder, Encoder
from pcgen.ops import gaussian_kl


class VAE(StandardNormalPrior):
    """Variational autoencoder with a standard normal prior.

    Args:
        encoder: Data (B, …) to features; PointNetEncoder by default. The two heads on it, for the posterior's mean
            and log-variance, belong to the model.
        decoder: Codes (B, Z) to data; an MLPDecoder by default. Its `latent_dim` is the model's.
        reconstruction: −log p(x | z) of the decoder's output; the Chamfer sum with a constant scale by default.
        monte_carlo_samples: Codes drawn for each datum and step.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer, stepped once an epoch.
    """

    TERMS = ("loss", "reconstruction", "kl")

    def __init__(
        self,
        encoder: Encoder | None = None,
        decoder: Decoder | None = None,
        reconstruction: Reconstruction | None = None,
        monte_carlo_samples: int = 1,
        optimizer: OptimizerFactory = torch.optim.Adam,
        lr_scheduler: SchedulerFactory | None = None,
    ) -> None:
        super().__init__(encoder, decoder, reconstruction, optimizer, lr_scheduler)
        if monte_carlo_samples < 1:
            raise ConfigurationError(f"monte_carlo_samples is {monte_carlo_samples}; at least one code is drawn")
        self.mean, self.log_variance = self.head(), self.head()
        self.monte_carlo_samples = monte_carlo_samples
        self.mean_kl = KLPerDimension(self.decoder.latent_dim)

    # ── networks ──────────────────────────────────────────────────────────────────────────────────────────────────

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give μ and log σ² (B, Z) of q(z | x) for data (B, …), in the present mode."""
        features = self.encoder(x)
        return self.mean(features), self.log_variance(features)

    def code(self, x: Tensor) -> Tensor:
        """Give μ (B, Z)."""
        return self.moments(x)[0]

    # ── objective ─────────────────────────────────────────────────────────────────────────────────────────────────

    def terms(self, x: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the terms of the objective for data (B, …).

        Args:
            x: Data.
            generator: Draws ε; None takes `step_generator()`.

        Returns:
            `reconstruction` E_q[−log p(x | z)] up to a constant, a scalar; `kl_per_dimension` (B, Z) in nats; `kl`,
            its sum over the dimensions and mean over the batch; `loss` = reconstruction + kl = −ELBO.
        """
        # Half precision is too coarse for a KL.
        mu, log_var = (moment.to(torch.promote_types(moment.dtype, torch.float32)) for moment in self.moments(x))
        m = self.monte_carlo_samples
        eps = torch.randn(m, *mu.shape, generator=generator or self.step_generator()).to(mu)
        z = mu + (0.5 * log_var).exp() * eps  # (m, B, Z): z = μ + σ ε
        prediction = self.decoder(z.flatten(0, 1).to(self.like.dtype))  # (m·B, …)
        reconstruction = self.reconstruction(prediction, x.repeat(m, *[1] * (x.ndim - 1))).mean()
        kl_per_dimension = gaussian_kl(mu, log_var)  # (B, Z)
        kl = kl_per_dimension.sum(1).mean()
        loss = reconstruction + self.penalty(kl)
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl, "kl_per_dimension": kl_per_dimension}

    def penalty(self, kl: Tensor) -> Tensor:
        """Give what a KL costs: itself, for the ELBO."""
        return kl

    # ── sampling ──────────────────────────────────────────────────────────────────────────────────────────────────

    @verb
    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and log-variance (B, Z) each of q(z | x) for data (B, …)."""
        parts = [self.moments(part) for part in x.split(self.chunk_size)]
        return torch.cat([mu for mu, _ in parts]), torch.cat([log_var for _, log_var in parts])

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────────

    def gather(self, terms: dict[str, Tensor], size: int) -> None:
        """Add a batch's terms, and the KL of every latent dimension."""
        super().gather(terms, size)
        self.mean_kl.update(terms["kl_per_dimension"])

    def means(self) -> dict[str, Tensor]:
        """Give the terms' means, the ELBO and the number of active units; keep the KL of every dimension."""
        means, kl = super().means(), self.mean_kl.compute()  # kl (Z,)
        self.mean_kl.reset()
        self.kl_per_dimension = kl
        # The ELBO as it is, whatever weight the KL has in the training: checkpoints can be chosen by it.
        return means | {
            "elbo": -(means["reconstruction"] + means["kl"]),
            "active_units": (kl > KLPerDimension.ACTIVE).sum().float(),
        }

    def log_evaluation(self, stage: str) -> None:
        """Log the terms, the ELBO and the active units, and warn of a collapsed posterior."""
        super().log_evaluation(stage)
        assert self.kl_per_dimension is not None
        collapsed = not (self.kl_per_dimension > KLPerDimension.ACTIVE).any()
        # In the first of several epochs an untrained encoder may know as little as a collapsed one.
        early = stage == "val" and self.current_epoch == 0 and self.trainer.max_epochs != 1
        if collapsed and not self.trainer.sanity_checking and not early and self.trainer.is_global_zero:
            warnings.warn(
                f"the posterior has collapsed: none of the {self.latent_dim} latent dimensions has a KL above "
                f"{KLPerDimension.ACTIVE} nats, so the decoder ignores its code; let the reconstruction weigh more "
                "(a smaller scale, or a smaller beta)",
                stacklevel=2,
            )
