"""Latent GAN: a generative adversarial network of the codes of a frozen autoencoder.

Reference (l-GAN): P. Achlioptas et al., "Learning Representations and Generative Models for 3D Point Clouds", ICML
2018, https://arxiv.org/abs/1707.02392.

    z ~ N(0, s² I),  code = G(z);  D judges codes G(z) and E(x), E the frozen encoder;  a sample is Dec(G(z))

It gives any model with an encoder and a decoder a prior to sample from: a plain autoencoder, which has none, or a VAE,
whose codes do not quite follow its own.

Where it differs, and why:

- Codes are standardised, each dimension over the training data, so that one learning rate suits every autoencoder.
- The training data are encoded once, before the first step; a batch is as many of these codes, drawn at random with
  repeats. Encoding every batch anew would take most of the time.
- The checkpoint holds the autoencoder too, and needs no other file.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from pcgen.base import Batch, DataModule, GenerativeModel, OptimizerFactory, SchedulerFactory, verb
from pcgen.checkpoint import load
from pcgen.errors import ConfigurationError
from pcgen.io.progress import progress
from pcgen.losses import AdversarialLoss
from pcgen.models._scoring import Scorer, Scoring
from pcgen.nets import MLP


class LatentGAN(Scoring):
    """Generative adversarial network of an autoencoder's codes.

    `encode`, `decode` and `reconstruct` are the autoencoder's; `prior` draws codes from the learned distribution.

    Args:
        autoencoder: Checkpoint (or run's folder) of a model that encodes and decodes, or the model itself. It is
            frozen and becomes part of this model. Of another latent GAN its autoencoder is taken.
        generator_widths: Width of each hidden layer from noise to code.
        discriminator_widths: Width of each hidden layer from code to score.
        noise_dim: Length of z.
        loss: The game: NonSaturatingLoss by default, WassersteinLoss or HingeLoss.
        discriminator_steps: Steps of the discriminator, one a batch, to one of the generator; 5 is usual for
            Wasserstein.
        noise_scale: s, the noise's standard deviation.
        ema_decay: Of the averaged generator that samples come from; null samples from the generator itself.
        spectral_norm: Divide every weight matrix of the discriminator by its largest singular value.
        optimizer: Makes the generator's optimizer from its parameters.
        discriminator_optimizer: Makes the discriminator's; as the generator's by default.
        lr_scheduler: Makes the learning-rate schedule of either optimizer, stepped once an epoch.

    Raises:
        CheckpointError: If the checkpoint is missing or cannot be read.
        ConfigurationError: If its model cannot encode and decode.
    """

    autoencoder: GenerativeModel
    code_mean: Tensor
    code_std: Tensor

    def __init__(
        self,
        autoencoder: GenerativeModel | str,
        generator_widths: Sequence[int] = (128,),
        discriminator_widths: Sequence[int] = (256, 512),
        noise_dim: int = 128,
        loss: AdversarialLoss | None = None,
        discriminator_steps: int = 1,
        noise_scale: float = 0.2,
        ema_decay: float | None = 0.999,
        spectral_norm: bool = False,
        optimizer: OptimizerFactory = torch.optim.Adam,
        discriminator_optimizer: OptimizerFactory | None = None,
        lr_scheduler: SchedulerFactory | None = None,
    ) -> None:
        if isinstance(autoencoder, str | Path):
            autoencoder = load(autoencoder)
        if isinstance(autoencoder, LatentGAN):
            autoencoder = autoencoder.autoencoder  # the codes are the same; what it draws them by is not needed
        self._init_args["autoencoder"] = autoencoder  # the checkpoint then holds it, instead of a path
        Z = _latent_dim(autoencoder)
        super().__init__(
            MLP(noise_dim, generator_widths, Z, batch_norm=False),
            Scorer(MLP(Z, discriminator_widths, batch_norm=False), (Z, *discriminator_widths)[-1]),
            noise_dim=noise_dim,
            loss=loss,
            spectral_norm=spectral_norm,
            noise_scale=noise_scale,
            discriminator_steps=discriminator_steps,
            ema_decay=ema_decay,
            optimizer=optimizer,
            discriminator_optimizer=discriminator_optimizer,
            lr_scheduler=lr_scheduler,
        )
        self.autoencoder = autoencoder.requires_grad_(requires_grad=False).eval()
        self.latent_dim, self.sample_shape = Z, autoencoder.sample_shape
        self.register_buffer("code_mean", torch.zeros(Z))
        self.register_buffer("code_std", torch.ones(Z))
        self.codes: Tensor | None = None  # (K, Z), standardised, of the training data

    # ── networks ──────────────────────────────────────────────────────────────────────────────────────────────────

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but the autoencoder, which stays as it was trained."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def standardized(self, codes: Tensor) -> Tensor:
        """Give codes (B, Z) as the discriminator sees them."""
        return (codes - self.code_mean) / self.code_std

    # ── sampling ──────────────────────────────────────────────────────────────────────────────────────────────────

    @verb
    def prior(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes (n, Z) of the autoencoder from their learned distribution.

        Raises:
            ConfigurationError: If n is below 0.
        """
        return self._codes_of(self.generate(self.noise(n, generator=generator), self.sampler))

    @verb
    def encode(self, x: Tensor) -> Tensor:
        """Give the autoencoder's codes (B, Z) of data (B, …)."""
        return self.autoencoder.encode(x)

    @verb
    def decode(self, z: Tensor) -> Tensor:
        """Give the data (B, N, 3) or (B, C, H, W) of codes (B, Z)."""
        return self.autoencoder.decode(z)

    def _codes_of(self, standardized: Tensor) -> Tensor:
        return standardized * self.code_std + self.code_mean

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────────

    def setup(self, stage: str) -> None:
        """Say so if the data are not normalised as the autoencoder's were.

        And spare the user Lightning's warning of modules in evaluation mode: the autoencoder is meant to be.
        """
        super().setup(stage)
        warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
        if stage == "fit" and self.trainer.is_global_zero:
            self._compare_normalizations()

    def _compare_normalizations(self) -> None:
        learned, given = ((model.data_info or {}).get("normalization") for model in (self.autoencoder, self))
        if not learned or not given or learned == given:
            return
        differ = [name for name in learned if given.get(name) != learned[name]]
        wrong = ", ".join(f"{name} {given.get(name)} instead of {learned[name]}" for name in differ)
        warnings.warn(
            f"the data are normalised otherwise than those that the autoencoder knows ({wrong}), so their "
            "codes mean little: give the data the arguments of its training",
            stacklevel=3,
        )

    def on_fit_start(self) -> None:
        """Encode the training data.

        Raises:
            ConfigurationError: If the trainer has no datamodule of pcgen, which could give fixed data.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        if not isinstance(datamodule, DataModule):
            raise ConfigurationError("LatentGAN encodes the data of a pcgen DataModule: pass trainer.fit(datamodule=…)")
        parts = datamodule.take("train").x.split(1024)
        encoded = []
        with progress(
            "encoding the training data", len(parts), shown=None if self.trainer.is_global_zero else False
        ) as report:
            for part in parts:
                encoded.append(self.encode(part))
                report(len(encoded), len(parts))
        codes = torch.cat(encoded)
        self.code_mean.copy_(codes.mean(0))
        std = codes.std(0, correction=0)
        self.code_std.copy_(torch.where(std > 1e-6 * std.max(), std, 1.0))  # a code that never changes stays as it is
        self.codes = self.standardized(codes)

    def on_fit_end(self) -> None:
        """Let go of the codes."""
        self.codes = None

    def real(self, batch: Batch, *, generator: torch.Generator | None = None) -> Tensor:
        """Give standardised codes (B, Z): of the batch, or in training as many drawn from all training data's."""
        if not self.training or self.codes is None:
            return self.standardized(self.encode(batch.x))
        rows = torch.randint(len(self.codes), (len(batch.x),), generator=generator)
        return self.codes[rows.to(self.codes.device)]

    def to_data(self, made: Tensor) -> Tensor:
        """Decode standardised codes (B, Z)."""
        return self.decode(self._codes_of(made))


def _latent_dim(autoencoder: GenerativeModel) -> int:
    for needed in ("encode", "decode"):
        if not autoencoder.can(needed):
            raise ConfigurationError(f"a LatentGAN has nothing to learn from: {autoencoder.unsupported(needed)}")
    if autoencoder.latent_dim is None:
        raise ConfigurationError(f"{type(autoencoder).__name__} does not say its latent_dim")
    return autoencoder.latent_dim
