"""What every adversarial model shares: noise, the averaged generator, and the gauges."""

import warnings
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pcgen.base import Batch, in_chunks, verb
from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import Diversity, MeanOverData
from pcgen.models._evaluation import Evaluated
from pcgen.models._prior import check_codes, standard_normal
from pcgen.models._two_players import TwoPlayers
from pcgen.nets import Decoder
from pcgen.training.together import log_equal

COLLAPSED = 0.2  # samples that differ a fifth as much as data do
CERTAIN = 0.99  # share of data and of samples that a discriminator tells right when it wins outright
PATIENCE = 3  # epochs or evaluations in a row before a warning
YOUNG = 500  # steps in which a generator's samples may still be as alike as random weights make them


class Adversarial(TwoPlayers, Evaluated):
    """A generator and a discriminator that are trained against each other.

    A subclass computes their objectives in `discriminator_terms` and `generator_terms`, what is known of held-out data
    in `evaluation_terms`, and names in `TERMS` which of the latter are logged.

    Attributes:
        noise_dim: Length of the generator's noise, Z.
        noise_scale: Its standard deviation, s.
    """

    TERMS: ClassVar[tuple[str, ...]]

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, noise_dim: int, noise_scale: float, **arguments: Any
    ) -> None:
        super().__init__(generator, discriminator, **arguments)
        if not noise_scale > 0:
            raise ConfigurationError(f"noise_scale is {noise_scale}; a standard deviation is a number above 0")
        self.noise_dim, self.noise_scale = noise_dim, noise_scale
        self.mean_terms, self.diversity = MeanOverData(len(self.TERMS)), Diversity()
        self._in_a_row = {"collapsed": 0, "beaten": 0}

    # ── what a subclass says ──────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def evaluation_terms(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Compute the scalars of `TERMS` for what `real` gives and as many draws of the sampling generator."""

    def generate(self, z: Tensor, network: nn.Module | None = None) -> Tensor:
        """Give what the discriminator judges, of noise (B, Z), in the present mode; by `generator` unless told."""
        made: Tensor = (network or self.generator)(z)
        return made

    def to_data(self, made: Tensor) -> Tensor:
        """Give the data (B, …) of what the generator made."""
        return made

    def defeat(self, means: dict[str, float]) -> str | None:  # noqa: ARG002 -- a hook
        """Say in words that the discriminator wins outright, given the epoch's means, or None if it does not."""
        return None

    # ── sampling ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def sampler(self) -> nn.Module:
        """The network that samples are drawn from: the averaged generator where there is one."""
        return self.generator if self.average is None else self.average

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw noise (n, Z) ~ N(0, s² I)."""
        return self.noise_scale * standard_normal(n, self.noise_dim, generator=generator, like=self.like)

    @torch.no_grad()
    def fake(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n of the generator in training, as the discriminator gets to see them: without gradient."""
        return self.generate(self.noise(n, generator=generator))

    # ── gauges ────────────────────────────────────────────────────────────────────────────────────────────────────

    def epoch_trained(self, means: dict[str, float]) -> None:
        """Say so if the generator learns nothing any more."""
        self._warn_in_a_row("beaten", self.defeat(means))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Gather the terms of held-out data beside as many samples, and both for the gauge of collapse."""
        rng = self.step_generator(batch_idx)
        x = self.real(batch, generator=rng)
        fake = self.generate(self.noise(len(x), generator=rng), self.sampler)
        terms = self.evaluation_terms(x, fake)
        self.mean_terms.update(torch.stack([terms[name] for name in self.TERMS]), len(x))
        self.diversity.update(self.to_data(fake), batch.x)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 -- Lightning's signature
        """Reconstruct a batch, if the model can."""
        return self.reconstruct(batch.x)

    def log_evaluation(self, stage: str) -> None:
        """Log the means of `TERMS`, `diversity` and `coverage`, and say so if the samples have collapsed."""
        values = dict(zip(self.TERMS, self.mean_terms.compute(), strict=True)) | self.diversity.compute()
        with torch.inference_mode(mode=False):  # after trainer.validate their states could not be used in a fit
            self.mean_terms.reset()
            self.diversity.reset()
        log_equal(self, {f"{stage}/{name}": value for name, value in values.items()})
        if not self.trainer.sanity_checking and stage == "val":
            self._warn_in_a_row("collapsed", self._collapse(float(values["diversity"])))

    def _collapse(self, diversity: float) -> str | None:
        if not diversity < COLLAPSED or int(self.generator_steps) < YOUNG:  # NaN is no collapse
            return None
        return (
            f"the generator has collapsed: its samples differ from each other by {diversity:.0%} of what data do; let "
            "the discriminator learn faster than the generator (discriminator_steps, learning rates), or take a "
            "Wasserstein loss"
        )

    def _warn_in_a_row(self, what: str, text: str | None) -> None:
        self._in_a_row[what] = 0 if text is None else self._in_a_row[what] + 1
        if text is not None and self._in_a_row[what] == PATIENCE and self.trainer.is_global_zero:
            warnings.warn(f"after epoch {self.trainer.current_epoch + 1}: {text}", stacklevel=3)


class SamplingByNoise(Adversarial):
    """An adversarial model whose generator makes data: its code is the noise.

    A subclass gives the generator as a Decoder.
    """

    def __init__(self, generator: Decoder, discriminator: nn.Module, **arguments: Any) -> None:
        super().__init__(generator, discriminator, generator.latent_dim, **arguments)
        if generator.extra_channels:
            raise ConfigurationError(
                f"the generator has extra_channels {generator.extra_channels}, which a discriminator does not see: set "
                "them to 0"
            )
        self.latent_dim, self.sample_shape = generator.latent_dim, generator.sample_shape

    @verb
    def prior(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes (n, Z) from N(0, s² I), s the noise's scale.

        Raises:
            ConfigurationError: If n is below 0.
        """
        return self.noise(n, generator=generator)

    @verb
    def decode(self, z: Tensor) -> Tensor:
        """Give the data (B, N, 3) or (B, C, H, W) of codes (B, Z).

        Raises:
            DataError: If the codes are not of the model's Z.
        """
        check_codes(z, self.noise_dim)
        return in_chunks(lambda part: self.generate(part, self.sampler), z, self.chunk_size)

    def generate(self, z: Tensor, network: nn.Module | None = None) -> Tensor:
        """Give data of noise (B, Z), in the present mode: images are sigmoids of what the network gives."""
        made = super().generate(z, network)
        return made.sigmoid() if len(self.sample_shape) == 3 else made

    def real(self, batch: Batch, *, generator: torch.Generator | None = None) -> Tensor:  # noqa: ARG002 -- as the base
        """Give the data of a batch.

        Raises:
            DataError: If the generator makes data of another shape, which the discriminator would know them by.
        """
        if tuple(batch.x.shape[1:]) != tuple(self.sample_shape):
            raise DataError(
                f"the generator makes {tuple(self.sample_shape)} and the data are {tuple(batch.x.shape[1:])}: set the "
                "generator's num_points (or image_shape) to the data's"
            )
        return batch.x
