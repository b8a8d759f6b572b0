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
from typing import Any

import torch
from torch import Tensor, nn

from pcgen.base import Batch, GenerativeModel, OptimizerFactory, SchedulerFactory, in_chunks, verb
from pcgen.errors import ConfigurationError
from pcgen.losses import ChamferReconstruction, Reconstruction
from pcgen.metrics import KLPerDimension, MeanOverData
from pcgen.nets import Decoder, Encoder, MLPDecoder, PointNetEncoder
from pcgen.ops import gaussian_kl

TERMS = ("loss", "reconstruction", "kl")


class VAE(GenerativeModel):
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

    def __init__(
        self,
        encoder: Encoder | None = None,
        decoder: Decoder | None = None,
        reconstruction: Reconstruction | None = None,
        monte_carlo_samples: int = 1,
        optimizer: OptimizerFactory = torch.optim.Adam,
        lr_scheduler: SchedulerFactory | None = None,
    ) -> None:
        super().__init__()
        if monte_carlo_samples < 1:
            raise ConfigurationError(f"monte_carlo_samples is {monte_carlo_samples}; at least one code is drawn")
        self.encoder = encoder or PointNetEncoder()
        self.decoder = decoder or MLPDecoder()
        self.reconstruction = reconstruction or ChamferReconstruction()
        _check_channels(self.decoder, self.reconstruction)
        self.latent_dim = self.decoder.latent_dim
        self.sample_shape = self.decoder.sample_shape
        self.mean = nn.Linear(self.encoder.out_features, self.latent_dim)
        self.log_variance = nn.Linear(self.encoder.out_features, self.latent_dim)
        self.monte_carlo_samples = monte_carlo_samples
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.mean_terms, self.mean_kl = MeanOverData(len(TERMS)), KLPerDimension(self.latent_dim)

    # ── networks ──────────────────────────────────────────────────────────────────────────────────────────────────

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give μ and log σ² (B, Z) of q(z | x) for data (B, …)."""
        features = self.encoder(x)
        return self.mean(features), self.log_variance(features)

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
        mu, log_var = (moment.to(torch.promote_types(moment.dtype, torch.float32)) for moment in self.posterior(x))
        m = self.monte_carlo_samples
        eps = torch.randn(m, *mu.shape, generator=generator or self.step_generator()).to(mu)
        z = mu + (0.5 * log_var).exp() * eps  # (m, B, Z): z = μ + σ ε
        prediction = self.decoder(z.flatten(0, 1))  # (m·B, …)
        reconstruction = self.reconstruction(prediction, x.repeat(m, *[1] * (x.ndim - 1))).mean()
        kl_per_dimension = gaussian_kl(mu, log_var)  # (B, Z)
        kl = kl_per_dimension.sum(1).mean()
        loss = reconstruction + kl
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl, "kl_per_dimension": kl_per_dimension}

    # ── sampling ──────────────────────────────────────────────────────────────────────────────────────────────────

    @verb
    def prior(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes (n, Z) from N(0, I)."""
        device = generator.device if generator is not None else self.device
        return torch.randn(n, self.decoder.latent_dim, generator=generator, device=device).to(self.like)

    @verb
    def encode(self, x: Tensor) -> Tensor:
        """Give the posterior means (B, Z) of data (B, …)."""
        return in_chunks(lambda part: self.posterior(part)[0], x, self.chunk_size)

    @verb
    def decode(self, z: Tensor) -> Tensor:
        """Give the most likely data (B, N, 3) or (B, C, H, W) of codes (B, Z)."""
        return in_chunks(lambda part: self.reconstruction.data(self.decoder(part)), z, self.chunk_size)

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────────

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Give −ELBO of a batch and log its terms."""
        terms = self.terms(batch.x, generator=self.step_generator(batch_idx))
        named: dict[str, Any] = {f"train/{name}": terms[name].detach() for name in TERMS}
        self.log_dict(named, batch_size=len(batch.x), on_step=False, on_epoch=True, sync_dist=True)
        self.log("loss", named["train/loss"], prog_bar=True, logger=False, batch_size=len(batch.x))
        return terms["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Gather the ELBO's terms and the KL of every latent dimension."""
        self._evaluate(batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Do as in validation, on the test split."""
        self._evaluate(batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 -- Lightning's signature
        """Reconstruct a batch."""
        return self.reconstruct(batch.x)

    def on_validation_epoch_end(self) -> None:
        """Log the ELBO, its terms and the active units, and warn of a collapsed posterior."""
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Do as in validation."""
        self._log_evaluation("test")

    def _evaluate(self, batch: Batch, batch_idx: int) -> None:
        terms = self.terms(batch.x, generator=self.step_generator(batch_idx))
        self.mean_terms.update(torch.stack([terms[name] for name in TERMS]), len(batch.x))
        self.mean_kl.update(terms["kl_per_dimension"])

    def _log_evaluation(self, stage: str) -> None:
        means, kl = dict(zip(TERMS, self.mean_terms.compute(), strict=True)), self.mean_kl.compute()  # kl (Z,)
        self.mean_terms.reset()
        self.mean_kl.reset()
        self.kl_per_dimension = kl
        active = int((kl > KLPerDimension.ACTIVE).sum())
        # Every process has the same values already.
        self.log_dict({f"{stage}/{name}": value for name, value in means.items()}, sync_dist=False)
        self.log_dict({f"{stage}/elbo": -means["loss"], f"{stage}/active_units": float(active)}, sync_dist=False)
        # In the first of several epochs an untrained encoder may know as little as a collapsed one.
        early = stage == "val" and self.current_epoch == 0 and self.trainer.max_epochs != 1
        if active == 0 and not self.trainer.sanity_checking and not early and self.trainer.is_global_zero:
            warnings.warn(
                f"the posterior has collapsed: none of the {self.latent_dim} latent dimensions has a KL above "
                f"{KLPerDimension.ACTIVE} nats, so the decoder ignores its code; let the reconstruction weigh more "
                "(a smaller scale)",
                stacklevel=2,
            )


def _check_channels(decoder: Decoder, reconstruction: Reconstruction) -> None:
    if decoder.extra_channels != reconstruction.extra_channels:
        raise ConfigurationError(
            f"{type(reconstruction).__name__} needs a decoder with extra_channels {reconstruction.extra_channels}, "
            f"this {type(decoder).__name__} has {decoder.extra_channels}"
        )
