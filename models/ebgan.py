"""Energy-based generative adversarial network of point clouds, or of images.

Reference: J. Zhao, M. Mathieu, Y. LeCun, "Energy-based Generative Adversarial Networks", ICLR 2017,
https://arxiv.org/abs/1609.03126.

    D(x) = d(Dec(Enc(x)), x)
    L_D = D(x) + [m − D(G(z))]₊
    L_G = D(G(z)) + λ PT,  PT = 1/(B(B−1)) Σ_{i≠j} cos²(s_i, s_j),  s = Enc(G(z))

Where it differs, and why:

- The hinge is of each sample, not of the batch's mean.
- The margin is in the energy's own units: unless it is given, a multiple of what the energy of data is after a warm-up
  in which the discriminator learns to reconstruct data and nothing else.
- λ is in these units too. The paper's .1 stands beside margins of 10 and more.
- Images are sigmoids of what the generator gives, in [0, 1] as data are.
- Samples come from an exponential moving average of the generator.
"""

import math

import torch
from torch import Tensor, nn

from pcgen.base import OptimizerFactory, SchedulerFactory, in_chunks, verb
from pcgen.errors import ConfigurationError
from pcgen.losses import ChamferReconstruction, Reconstruction, pulling_away
from pcgen.models._adversarial import SamplingByNoise
from pcgen.models._autoencoding import check_pair
from pcgen.models._whole_batch import batch_rows
from pcgen.nets import Decoder, Encoder, MLPDecoder, PointNetEncoder


class EnergyAutoencoder(nn.Module):
    """An autoencoder whose reconstruction error is an energy."""

    def __init__(self, encoder: Encoder, decoder: Decoder, reconstruction: Reconstruction) -> None:
        super().__init__()
        self.encoder, self.decoder, self.reconstruction = encoder, decoder, reconstruction
        self.bottleneck = nn.Linear(encoder.out_features, decoder.latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give energies (B,) and codes (B, F) of data (B, …)."""
        s = self.code(x)
        return self.reconstruction(self.decoder(s), x), s

    def code(self, x: Tensor) -> Tensor:
        """Give the codes (B, F) of data (B, …)."""
        s: Tensor = self.bottleneck(self.encoder(x))
        return s

    def reconstruct(self, x: Tensor) -> Tensor:
        """Give the reconstructions of data (B, …)."""
        return self.reconstruction.data(self.decoder(self.code(x)))


class EBGAN(SamplingByNoise):
    """Energy-based GAN: its discriminator is an autoencoder, and the energy of data is how badly it reconstructs them.

    The energy is also a score of anomaly: low for what is like the training data.

    Args:
        generator: Codes (B, Z) to data; a perceptron to 2048 points by default, with Z 100.
        encoder: Of the discriminator: data (B, …) to features; a PointNetEncoder by default. The layer from there to
            the code belongs to the model.
        decoder: Of the discriminator: codes (B, F) to data; an MLPDecoder to 2048 points by default.
        reconstruction: The energy, as a distance between data and reconstructions; the Chamfer sum by default.
        margin: m, in the energy's units; null for `margin_factor` times the energy of data after the warm-up.
        margin_factor: What the margin is a multiple by.
        warmup_steps: Steps, one a batch, in which the discriminator sees data alone and the generator waits.
        pulling_away_weight: λ, in the energy's units; 0 leaves the term out.
        discriminator_steps: Steps of the discriminator, one a batch, to one of the generator.
        noise_scale: The noise's standard deviation.
        ema_decay: Of the averaged generator that samples come from; null samples from the generator itself.
        optimizer: Makes the generator's optimizer from its parameters.
        discriminator_optimizer: Makes the discriminator's; as the generator's by default.
        lr_scheduler: Makes the learning-rate schedule of either optimizer, stepped once an epoch.
    """

    TERMS = ("discriminator_loss", "generator_loss", "energy_real", "energy_fake", "hinge_share")
    discriminator: EnergyAutoencoder
    margin: Tensor
    warmup_energy: Tensor

    def __init__(
        self,
        generator: Decoder | None = None,
        encoder: Encoder | None = None,
        decoder: Decoder | None = None,
        reconstruction: Reconstruction | None = None,
        margin: float | None = None,
        margin_factor: float = 2.0,
        warmup_steps: int = 200,
        pulling_away_weight: float = 0.1,
        discriminator_steps: int = 1,
        noise_scale: float = 1.0,
        ema_decay: float | None = 0.999,
        optimizer: OptimizerFactory = torch.optim.Adam,
        discriminator_optimizer: OptimizerFactory | None = None,
        lr_scheduler: SchedulerFactory | None = None,
    ) -> None:
        decoder = decoder or MLPDecoder(128, 2048, (256, 512, 1024), batch_norm=False)
        reconstruction = reconstruction or ChamferReconstruction()
        check_pair(decoder, reconstruction)
        if reconstruction.extra_channels:
            raise ConfigurationError(
                f"{type(reconstruction).__name__} goes below 0, and an energy must not: take ChamferReconstruction"
            )
        encoder = encoder or PointNetEncoder((64, 128, 256), batch_norm=False)
        super().__init__(
            generator or MLPDecoder(100, 2048, (256, 512, 1024)),
            EnergyAutoencoder(encoder, decoder, reconstruction),
            noise_scale=noise_scale,
            discriminator_steps=discriminator_steps,
            ema_decay=ema_decay,
            optimizer=optimizer,
            discriminator_optimizer=discriminator_optimizer,
            lr_scheduler=lr_scheduler,
        )
        _check(margin, margin_factor, warmup_steps, pulling_away_weight)
        self.fixed_margin, self.margin_factor, self.warmup_steps = margin, margin_factor, warmup_steps
        self.pulling_away_weight = pulling_away_weight
        self.register_buffer("margin", torch.tensor(margin or 0.0))
        self.register_buffer("warmup_energy", torch.zeros(()))  # 0 before the first step

    # ── objective ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def warming_up(self) -> bool:
        """Whether the discriminator still learns from data alone."""
        return self.trainer.global_step < self.warmup_steps

    def discriminator_terms(self, x: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the discriminator's objective for data (B, …) and as many samples; in the warm-up for data alone.

        Returns:
            Scalars: `loss` = mean D(x) + mean [m − D(G(z))]₊, the same as `discriminator_loss`, `energy_real` and
            `energy_fake`, and `hinge_share`, the share of samples whose energy is below the margin.
        """
        energy, _ = self.discriminator(x)
        if self.warming_up:
            self._learn_margin(energy.detach().mean())
            return {"loss": energy.mean(), "discriminator_loss": energy.mean(), "energy_real": energy.mean()}
        terms = self._terms(energy, self.discriminator(self.fake(len(x), generator=generator))[0])
        return {"loss": terms["discriminator_loss"], **terms, "margin": self.margin}

    def _terms(self, energy_real: Tensor, energy_fake: Tensor) -> dict[str, Tensor]:
        hinge = (self.margin - energy_fake).relu()  # (B,): each sample's own
        return {
            "discriminator_loss": energy_real.mean() + hinge.mean(),
            "energy_real": energy_real.mean(),
            "energy_fake": energy_fake.mean(),
            "hinge_share": (hinge > 0).float().mean(),
        }

    def generator_terms(self, n: int, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the generator's objective for n draws.

        Returns:
            Scalars: `loss` = mean D(G(z)) + λ PT, `generator_loss` = mean D(G(z)), and `pulling_away` = PT.
        """
        energy, s = self.discriminator(self.generate(self.noise(n, generator=generator)))
        repulsion = energy.new_zeros(())
        if self.pulling_away_weight:
            repulsion = pulling_away(batch_rows(self, s.to(energy.dtype)))
        loss = energy.mean() + self.pulling_away_weight * repulsion
        return {"loss": loss, "generator_loss": energy.mean(), "pulling_away": repulsion}

    def evaluation_terms(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Compute both losses, the energies and the share of active hinges."""
        terms = self._terms(self.discriminator(x)[0], self.discriminator(fake)[0])
        return terms | {"generator_loss": terms["energy_fake"]}

    def _learn_margin(self, energy: Tensor) -> None:
        """Follow the data's energy through the warm-up; the margin is a multiple of it, unless it is given."""
        energy = self.trainer.strategy.reduce(energy, reduce_op="mean")
        before = self.warmup_energy.to(energy.dtype)
        self.warmup_energy.copy_(torch.where(before == 0, energy, before.lerp(energy, 0.1)))
        if self.fixed_margin is None:
            self.margin.copy_(self.margin_factor * self.warmup_energy)

    def generator_waits(self) -> bool:
        """Say whether the generator stays as it is after this step of the discriminator."""
        return self.trainer.global_step <= self.warmup_steps or super().generator_waits()

    def defeat(self, means: dict[str, float]) -> str | None:
        """Say so if no sample's hinge is active any more."""
        if means.get("hinge_share", 1.0) > 0 or not means["energy_fake"] > 0:  # NaN is no victory
            return None
        return (
            f"the discriminator wins outright: every sample's energy is above the margin of {float(self.margin):.4g} "
            f"(their mean is {means['energy_fake']:.4g}, that of data {means['energy_real']:.4g}), so it has nothing "
            "left to learn from samples; give a larger margin_factor, or the generator a larger rate"
        )

    # ── energy ────────────────────────────────────────────────────────────────────────────────────────────────────

    @verb
    def energy(self, x: Tensor) -> Tensor:
        """Give the energy D(x) (B,) of data (B, …): how badly the discriminator reconstructs them."""
        return in_chunks(lambda part: self.discriminator(part)[0], x, self.chunk_size)

    @verb
    def features(self, x: Tensor) -> Tensor:
        """Give the discriminator's codes (B, F) of data (B, …)."""
        return in_chunks(self.discriminator.code, x, self.chunk_size)

    @verb
    def reconstruct(self, x: Tensor) -> Tensor:
        """Give the discriminator's reconstructions of data (B, …)."""
        return in_chunks(self.discriminator.reconstruct, x, self.chunk_size)


def _check(margin: float | None, margin_factor: float, warmup_steps: int, pulling_away_weight: float) -> None:
    if margin is not None and not 0 < margin < math.inf:
        raise ConfigurationError(f"margin is {margin}; give a number above 0, or null for one of the data's energy")
    if not 0 < margin_factor < math.inf:
        raise ConfigurationError(f"margin_factor is {margin_factor}; give a number above 0")
    if warmup_steps < 0 or (warmup_steps == 0 and margin is None):
        raise ConfigurationError(f"warmup_steps is {warmup_steps}; give 1 or more, or 0 and the margin itself")
    if not 0 <= pulling_away_weight < math.inf:
        raise ConfigurationError(f"pulling_away_weight is {pulling_away_weight}; give a number of 0 or more")
