"""What the GAN and the latent GAN share: a discriminator that gives scores, and the losses made of them."""

from typing import Any

import torch
from torch import Tensor, nn

from pcgen.errors import ConfigurationError
from pcgen.losses import AdversarialLoss, NonSaturatingLoss
from pcgen.models._adversarial import CERTAIN, Adversarial
from pcgen.nets import spectral_normalized, uses_batch_norm


class Scorer(nn.Module):
    """Features and one linear layer to a score: (B, …) -> (B,), in no less than single precision."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features, self.head = features, nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Give the scores (B,) of (B, …)."""
        score: Tensor = self.head(self.features(x)).squeeze(1)
        return score.to(torch.promote_types(score.dtype, torch.float32))


class Scoring(Adversarial):
    """An adversarial model whose discriminator gives a score, large for what it takes for data."""

    TERMS = ("discriminator_loss", "generator_loss", "accuracy_real", "accuracy_fake")
    discriminator: Scorer

    def __init__(
        self,
        generator: nn.Module,
        discriminator: Scorer,
        *,
        loss: AdversarialLoss | None,
        spectral_norm: bool,
        **arguments: Any,
    ) -> None:
        if spectral_norm:
            spectral_normalized(discriminator)
        super().__init__(generator, discriminator, **arguments)
        self.loss = loss or NonSaturatingLoss()
        if self.loss.needs_gradient and uses_batch_norm(discriminator):
            raise ConfigurationError(
                f"{type(self.loss).__name__} looks at the slope of each datum's score, which batch normalisation in "
                "the discriminator mixes with the other data's: set the discriminator's batch_norm to false"
            )

    # ── objective ─────────────────────────────────────────────────────────────────────────────────────────────────

    def discriminator_terms(self, x: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the discriminator's objective for data (B, …) and as many samples.

        Args:
            x: Data.
            generator: Draws the noise, and what the penalty draws.

        Returns:
            Scalars: `loss` with the penalty, `discriminator_loss` without, `penalty`, and `accuracy_real` and
            `accuracy_fake`, the shares of data and of samples that are taken for what they are.
        """
        fake = self.fake(len(x), generator=generator)
        real_score, fake_score = self.discriminator(x), self.discriminator(fake)
        loss = self.loss.discriminator(real_score, fake_score)
        penalty = self.loss.penalty(self.discriminator, x.to(self.like), fake.to(self.like), generator=generator)
        terms = {"loss": loss + penalty, "discriminator_loss": loss, "penalty": penalty}
        return terms | self._accuracies(real_score, fake_score)

    def generator_terms(self, n: int, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the generator's objective, `loss` and `generator_loss`, for n draws."""
        loss = self.loss.generator(self.discriminator(self.generate(self.noise(n, generator=generator))))
        return {"loss": loss, "generator_loss": loss}

    def evaluation_terms(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Compute both losses without the penalty, and the accuracies."""
        real_score, fake_score = self.discriminator(x), self.discriminator(fake)
        losses = {
            "discriminator_loss": self.loss.discriminator(real_score, fake_score),
            "generator_loss": self.loss.generator(fake_score),
        }
        return losses | self._accuracies(real_score, fake_score)

    def _accuracies(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        threshold = self.loss.threshold(real, fake)
        return {"accuracy_real": (real > threshold).float().mean(), "accuracy_fake": (fake < threshold).float().mean()}

    def defeat(self, means: dict[str, float]) -> str | None:
        """Say so if the discriminator tells everything apart and its loss saturates."""
        sure = min(means.get("accuracy_real", 0.0), means.get("accuracy_fake", 0.0))
        if not self.loss.saturates or sure < CERTAIN:
            return None
        norm = means.get("generator_gradient_norm")
        gradient = "" if norm is None else f" (its gradient has norm {norm:.2g})"
        return (
            f"the discriminator wins outright: it tells {sure:.1%} of data and samples for what they are, and the "
            f"generator learns little{gradient}; weaken it (smaller rate, r1_weight, spectral_norm), or take a "
            "WassersteinLoss"
        )
