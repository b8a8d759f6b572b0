"""Where the chains of a training begin."""

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import Recorded


class ChainStart(Recorded, nn.Module, ABC):
    """Gives the beginnings of a training step's chains, and takes their ends.

    `begin` and `keep` belong together: `keep` is told the ends of the chains that the last `begin` gave, once they are
    found to be healthy.
    """

    @abstractmethod
    def begin(self, x: Tensor, noise: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Give beginnings (B, N, 3).

        Args:
            x: The step's data (B, N, 3).
            noise: Draws (B, N, 3) of the reference distribution.
            generator: Source of whatever else is drawn.
        """

    def prepare(self, sample_shape: tuple[int, ...]) -> None:
        """Learn the shape (N, 3) of a chain's state, once."""

    def keep(self, ends: Tensor) -> None:
        """Take the chains' ends (B, N, 3)."""


class NoiseStart(ChainStart):
    """Each chain begins in the reference distribution, and is as short in sampling as in training.

    E. Nijkamp, M. Hill, S.-C. Zhu, Y. N. Wu, "Learning Non-Convergent Non-Persistent Short-Run MCMC Toward Energy-Based
    Model", NeurIPS 2019, https://arxiv.org/abs/1904.09770.
    """

    def begin(self, x: Tensor, noise: Tensor, *, generator: Generator | None = None) -> Tensor:  # noqa: ARG002 -- base's
        """Give the noise."""
        return noise


class DataStart(ChainStart):
    """Each chain begins at data: contrastive divergence.

    G. Hinton, "Training Products of Experts by Minimizing Contrastive Divergence", Neural Computation 14, 2002.
    """

    def begin(self, x: Tensor, noise: Tensor, *, generator: Generator | None = None) -> Tensor:  # noqa: ARG002 -- base's
        """Give the data."""
        return x.clone()


class PersistentStart(ChainStart):
    """Chains go on where earlier ones ended: persistent contrastive divergence.

    T. Tieleman, "Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient", ICML 2008;
    beginning some of them anew: Y. Du, I. Mordatch, "Implicit Generation and Modeling with Energy-Based Models",
    NeurIPS 2019, https://arxiv.org/abs/1903.08689.

    The ends are a buffer, so they are in the checkpoint. Each process has its own, and a training that goes on has them
    all; the model that `pcgen.load` gives has the first one's.

    Args:
        num_chains: How many ends are kept, M.
        restart_rate: Share of a step's chains that begins in noise all the same, in [0, 1].
    """

    chains: Tensor  # (M, N, 3)
    filled: Tensor  # (M,) bool

    def __init__(self, num_chains: int = 1000, restart_rate: float = 0.05) -> None:
        super().__init__()
        if num_chains < 1:
            raise ConfigurationError(f"num_chains is {num_chains}; give 1 or more")
        if not 0 <= restart_rate <= 1:
            raise ConfigurationError(f"restart_rate is {restart_rate}; it is a share of the chains, in [0, 1]")
        self.num_chains, self.restart_rate = num_chains, restart_rate
        self._rows: Tensor | None = None

    def prepare(self, sample_shape: tuple[int, ...]) -> None:
        """Make room for the ends."""
        self.register_buffer("chains", torch.zeros(self.num_chains, *sample_shape))
        self.register_buffer("filled", torch.zeros(self.num_chains, dtype=torch.bool))

    def begin(self, x: Tensor, noise: Tensor, *, generator: Generator | None = None) -> Tensor:  # noqa: ARG002 -- base's
        """Give kept ends, drawn without repeats, and noise where there are none yet or a chain is to begin anew.

        Raises:
            DataError: If there are more data in a batch than chains.
        """
        B = len(noise)
        if self.num_chains < B:
            raise DataError(f"num_chains is {self.num_chains} and a batch has {B} data: keep at least {B} chains")
        self._rows = torch.randperm(self.num_chains, generator=generator)[:B].to(noise.device)
        anew = torch.rand(B, generator=generator).to(noise.device) < self.restart_rate
        anew |= ~self.filled[self._rows]
        return torch.where(anew[:, None, None], noise, self.chains[self._rows])

    def keep(self, ends: Tensor) -> None:
        """Put the ends in the places of the beginnings that were given."""
        if self._rows is None:
            return
        self.chains[self._rows] = ends.detach().to(self.chains)
        self.filled[self._rows] = True
        self._rows = None

    def draw(self, n: int, *, generator: Generator | None = None) -> Tensor:
        """Give n kept ends (n, N, 3) at random, without repeats while they last; (0, N, 3) if none is kept yet."""
        kept = self.chains[self.filled]
        if len(kept) == 0:
            return kept
        device = "cpu" if generator is None else generator.device
        rounds = max(1, -(-n // len(kept)))
        rows = [torch.randperm(len(kept), generator=generator, device=device) for _ in range(rounds)]
        return kept[torch.cat(rows)[:n].to(kept.device)]
