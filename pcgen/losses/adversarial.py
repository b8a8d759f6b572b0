"""What a discriminator and a generator minimise against each other.

References: I. Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, https://arxiv.org/abs/1406.2661;
M. Arjovsky, S. Chintala, L. Bottou, "Wasserstein GAN", ICML 2017, https://arxiv.org/abs/1701.07875;
I. Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017, https://arxiv.org/abs/1704.00028;
L. Mescheder, A. Geiger, S. Nowozin, "Which Training Methods for GANs do actually Converge?", ICML 2018,
https://arxiv.org/abs/1801.04406; J. Zhao, M. Mathieu, Y. LeCun, "Energy-based Generative Adversarial Networks", ICLR
2017, https://arxiv.org/abs/1609.03126.
"""

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import Recorded

Score = Callable[[Tensor], Tensor]  # data (B, …) to scores (B,), large for what looks real


class AdversarialLoss(Recorded, nn.Module):
    """The two objectives of a game, of the discriminator's scores: large for what it takes for data.

    Attributes:
        saturates: Whether a discriminator that tells everything apart leaves the generator little to learn from.
        needs_gradient: Whether `penalty` looks at each datum's gradient, which batch normalisation in the
            discriminator would mix with the other data's.
    """

    saturates: bool = True
    needs_gradient: bool = False

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Give what the discriminator minimises, a scalar, of its scores (B,) of data and (B',) of samples."""

    @abstractmethod
    def generator(self, fake: Tensor) -> Tensor:
        """Give what the generator minimises, a scalar, of the scores (B,) of its samples."""

    def penalty(
        self,
        score: Score,  # noqa: ARG002 -- a hook
        real: Tensor,
        fake: Tensor,  # noqa: ARG002 -- a hook
        *,
        generator: torch.Generator | None = None,  # noqa: ARG002 -- a hook
    ) -> Tensor:
        """Give what the discriminator's slope costs it, a scalar; 0 unless a loss says otherwise.

        Args:
            score: The discriminator: (B, …) -> (B,).
            real: Data (B, …), of the precision of the discriminator's weights.
            fake: Samples of the same shape and precision, without gradient.
            generator: Draws what has to be drawn.
        """
        return real.new_zeros(())

    def threshold(self, real: Tensor, fake: Tensor) -> Tensor:  # noqa: ARG002 -- a hook
        """Give the score above which the discriminator says "data", a scalar: 0 unless a loss says otherwise."""
        return real.new_zeros(())


class NonSaturatingLoss(AdversarialLoss):
    """Discriminator: mean −log σ(D(x)) − log(1 − σ(D(G(z)))). Generator: mean −log σ(D(G(z))).

    Args:
        r1_weight: γ of the penalty γ/2 mean ‖∇D(x)‖² on data, which makes the game converge; 0 leaves it out.
    """

    def __init__(self, r1_weight: float = 0.0) -> None:
        super().__init__()
        self.r1_weight = _check_weight(r1_weight=r1_weight)
        self.needs_gradient = r1_weight > 0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Give the cross-entropy of telling the two apart."""
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Give the cross-entropy of samples that should be taken for data."""
        return F.softplus(-fake).mean()

    def penalty(
        self,
        score: Score,
        real: Tensor,
        fake: Tensor,  # noqa: ARG002 -- as the base says
        *,
        generator: torch.Generator | None = None,  # noqa: ARG002 -- as the base says
    ) -> Tensor:
        """Give γ/2 mean ‖∇D(x)‖² over the data."""
        if self.r1_weight == 0:
            return real.new_zeros(())
        return self.r1_weight / 2 * _gradient(score, real).square().sum(1).mean()


class HingeLoss(AdversarialLoss):
    """Discriminator: mean [1 − D(x)]₊ + mean [1 + D(G(z))]₊. Generator: −mean D(G(z)).

    The usual partner of spectral normalisation (T. Miyato et al., ICLR 2018, https://arxiv.org/abs/1802.05957).
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Give the two hinges."""
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Give the negative mean score."""
        return -fake.mean()


class WassersteinLoss(AdversarialLoss):
    """Critic: mean D(G(z)) − mean D(x) + λ mean (‖∇D(x̂)‖ − 1)². Generator: −mean D(G(z)).

    x̂ lies on the straight line between a datum and a sample, at a place drawn uniformly; for clouds point i goes to
    point i, in whatever order the two come. Without the penalty, minus the critic's loss estimates the Wasserstein
    distance of data and samples.

    Args:
        gradient_penalty: λ; 0 leaves the penalty out, and then something else has to bound the critic's slope
            (spectral normalisation).
    """

    saturates = False

    def __init__(self, gradient_penalty: float = 10.0) -> None:
        super().__init__()
        self.gradient_penalty = _check_weight(gradient_penalty=gradient_penalty)
        self.needs_gradient = gradient_penalty > 0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Give minus the estimated distance."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Give the negative mean score."""
        return -fake.mean()

    def penalty(self, score: Score, real: Tensor, fake: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Give λ mean (‖∇D(x̂)‖ − 1)²."""
        if self.gradient_penalty == 0:
            return real.new_zeros(())
        u = torch.rand(len(real), generator=generator).to(real).view(-1, *[1] * (real.ndim - 1))
        norm: Tensor = _gradient(score, fake.lerp(real, u)).norm(dim=1)  # (B,)
        return self.gradient_penalty * (norm - 1).square().mean()

    def threshold(self, real: Tensor, fake: Tensor) -> Tensor:
        """Give the middle between the two means: the scores' zero says nothing here."""
        return (real.mean() + fake.mean()) / 2


def pulling_away(codes: Tensor) -> Tensor:
    """Compute how parallel the codes of a batch are: 1/(B(B−1)) Σ_{i≠j} cos²(s_i, s_j).

    The repelling regulariser of Zhao et al. 2017, section 2.4: 0 for orthogonal codes, 1 for parallel ones.

    Args:
        codes: (B, F), B at least 2.

    Returns:
        A scalar in [0, 1].

    Raises:
        DataError: If there are fewer than two codes.
    """
    B = len(codes)
    if B < 2:
        raise DataError(
            f"a batch of {B} has no pairs to pull apart: set batch_size to 2 or more, and drop_last if only the last "
            "batch is so small"
        )
    unit = F.normalize(codes, dim=1)
    # The diagonal is left out, not subtracted as B: a code of length 0 has no direction and no 1 there.
    squares = (unit @ unit.T).square()
    return (squares.sum() - squares.diagonal().sum()) / (B * (B - 1))


def _gradient(score: Score, x: Tensor) -> Tensor:
    """Give the gradient of each datum's score with respect to it, (B, dimensions), itself differentiable."""
    # Autocast's half precision is too coarse for squares of gradients.
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(score(x).sum(), x, create_graph=True)
    return slope.flatten(1)


def _check_weight(**arguments: float) -> float:
    ((name, value),) = arguments.items()
    if not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} is {value}; give a number of 0 or more")
    return value
