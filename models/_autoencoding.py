"""What every model with an encoder and a decoder shares: the verbs, the training step and the evaluation's means."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from pcgen.base import Batch, OptimizerFactory, SchedulerFactory, in_chunks, verb
from pcgen.errors import ConfigurationError
from pcgen.losses import ChamferReconstruction, Reconstruction
from pcgen.metrics import MeanOverData
from pcgen.models._evaluation import Evaluated
from pcgen.models._prior import check_codes, standard_normal
from pcgen.nets import Decoder, Encoder, MLPDecoder, PointNetEncoder
from pcgen.training.together import log_equal


class Autoencoding(Evaluated):
    """A model of an encoder, a decoder and a distance between data and reconstructions.

    A subclass says what its `code` is, computes its objective in `terms`, and names in `TERMS` which of those are
    logged, the loss first.
    """

    TERMS: tuple[str, ...] = ("loss", "reconstruction")

    def __init__(
        self,
        encoder: Encoder | None,
        decoder: Decoder | None,
        reconstruction: Reconstruction | None,
        optimizer: OptimizerFactory,
        lr_scheduler: SchedulerFactory | None,
    ) -> None:
        super().__init__()
        self.encoder = encoder or PointNetEncoder()
        self.decoder = decoder or MLPDecoder()
        self.reconstruction = reconstruction or ChamferReconstruction()
        check_pair(self.decoder, self.reconstruction)
        self.latent_dim = self.decoder.latent_dim
        self.sample_shape = self.decoder.sample_shape
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.mean_terms = MeanOverData(len(self.TERMS))

    def head(self) -> nn.Linear:
        """Make a layer from the encoder's features to numbers of a code."""
        return nn.Linear(self.encoder.out_features, self.decoder.latent_dim)

    # ── what a subclass says ──────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def code(self, x: Tensor) -> Tensor:
        """Give the codes (B, Z) of data (B, …), in the present mode."""

    @abstractmethod
    def terms(self, x: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the terms of the objective for data (B, …); those of `TERMS` are scalars."""

    def batch_terms(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the terms of a batch; a subclass that learns from labels or factors looks at them here."""
        return self.terms(batch.x, generator=generator)

    # ── sampling ──────────────────────────────────────────────────────────────────────────────────────────────────

    @verb
    def encode(self, x: Tensor) -> Tensor:
        """Give the codes (B, Z) of data (B, …): the posterior's means where there is one."""
        return in_chunks(self.code, x, self.chunk_size)

    @verb
    def decode(self, z: Tensor) -> Tensor:
        """Give the most likely data (B, N, 3) or (B, C, H, W) of codes (B, Z).

        Raises:
            DataError: If the codes are not of the model's Z.
        """
        check_codes(z, self.decoder.latent_dim)
        return in_chunks(lambda part: self.reconstruction.data(self.decoder(part)), z, self.chunk_size)

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────────

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Give the loss of a batch and log its terms."""
        terms = self.batch_terms(batch, generator=self.step_generator(batch_idx))
        named: dict[str, Any] = {f"train/{name}": terms[name].detach() for name in self.TERMS}
        self.log_dict(named, batch_size=len(batch.x), on_step=False, on_epoch=True, sync_dist=True)
        self.log("loss", named["train/loss"], prog_bar=True, logger=False, batch_size=len(batch.x))
        return terms["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Gather the objective's terms."""
        self.gather(self.batch_terms(batch, generator=self.step_generator(batch_idx)), len(batch.x))

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 -- Lightning's signature
        """Reconstruct a batch."""
        return self.reconstruct(batch.x)

    def gather(self, terms: dict[str, Tensor], size: int) -> None:
        """Add the terms of a batch of so many data to the evaluation's means."""
        self.mean_terms.update(torch.stack([terms[name] for name in self.TERMS]), size)

    def means(self) -> dict[str, Tensor]:
        """Give the evaluation's means over the data by term, and begin anew."""
        means = dict(zip(self.TERMS, self.mean_terms.compute(), strict=True))
        self.mean_terms.reset()
        return means

    def log_evaluation(self, stage: str) -> None:
        """Log what `means` gives as `<stage>/<term>`."""
        log_equal(self, {f"{stage}/{name}": value for name, value in self.means().items()})


class DeterministicCode(Autoencoding):
    """An autoencoding model whose code is one linear layer, which a subclass makes by `head`, on the features."""

    bottleneck: nn.Linear

    def code(self, x: Tensor) -> Tensor:
        """Give z = E(x), (B, Z)."""
        z: Tensor = self.bottleneck(self.encoder(x))
        return z


class StandardNormalPrior(Autoencoding):
    """An autoencoding model whose codes are made to follow N(0, I), so that it can sample."""

    @verb
    def prior(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes (n, Z) from N(0, I).

        Raises:
            ConfigurationError: If n is below 0.
        """
        return standard_normal(n, self.decoder.latent_dim, generator=generator, like=self.like)


def check_pair(decoder: Decoder, reconstruction: Reconstruction) -> None:
    """Refuse a reconstruction loss that cannot judge what a decoder makes.

    Raises:
        ConfigurationError: If it is for another kind of data, or wants channels that the decoder does not give.
    """
    kind = "images" if len(decoder.sample_shape) == 3 else "clouds"
    if not getattr(reconstruction, kind):
        better = {"clouds": "ChamferReconstruction", "images": "SquaredErrorReconstruction or BernoulliReconstruction"}
        raise ConfigurationError(
            f"{type(reconstruction).__name__} is not for {kind}, which this {type(decoder).__name__} makes: set the "
            f"model's reconstruction to {better[kind]}"
        )
    if decoder.extra_channels != reconstruction.extra_channels:
        raise ConfigurationError(
            f"{type(reconstruction).__name__} needs a decoder with extra_channels {reconstruction.extra_channels}, "
            f"this {type(decoder).__name__} has {decoder.extra_channels}"
        )
