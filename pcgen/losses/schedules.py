"""How the weight of a KL term goes with the training's steps.

Every schedule is a formula of the step alone and holds no state, so that a resumed run goes on exactly where it was.
"""

import math
from abc import ABC, abstractmethod

from torch import Tensor

from pcgen.errors import ConfigurationError
from pcgen.recipe import Recorded


class Schedule(Recorded, ABC):
    """What a KL costs at a step of the training.

    Attributes:
        quantity: What `value` is: "beta", the weight of the KL, or "capacity", its target in nats.
    """

    quantity: str = "beta"

    @abstractmethod
    def value(self, step: int) -> float:
        """Give the schedule's value after so many optimizer steps, 0 or more."""

    def penalty(self, kl: Tensor, step: int) -> Tensor:
        """Give what is added to the reconstruction for a KL (nats, any shape) at a step: β(step) KL."""
        return self.value(step) * kl


class ConstantBeta(Schedule):
    """β at every step; 1 is the plain VAE.

    I. Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", ICLR 2017,
    https://openreview.net/forum?id=Sy2fzU9gl.

    Args:
        beta: β, 0 or more.

    >>> ConstantBeta(4.0).value(1000)
    4.0
    """

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = _weight("beta", beta)

    def value(self, step: int) -> float:  # noqa: ARG002 -- the same at every step
        """Give β."""
        return self.beta


class LinearBeta(Schedule):
    """β goes from one value to another on a straight line, in either direction, and stays there.

    Args:
        initial: β up to `begin_step`.
        final: β from `end_step` on. Below `initial` it anneals high → low: a high β finds a disentangled code, and a
            low one then lets the reconstruction become sharp.
        end_step: Optimizer step at which `final` is reached.
        begin_step: Optimizer step at which β begins to move.

    >>> schedule = LinearBeta(initial=4.0, final=1.0, begin_step=100, end_step=200)
    >>> [schedule.value(step) for step in (0, 100, 150, 1000)]
    [4.0, 4.0, 2.5, 1.0]
    """

    def __init__(self, initial: float = 4.0, final: float = 1.0, end_step: int = 10000, begin_step: int = 0) -> None:
        self.initial, self.final = _weight("initial", initial), _weight("final", final)
        self.begin_step, self.end_step = _span(begin_step, end_step)

    def value(self, step: int) -> float:
        """Give β at a step."""
        return self.initial + (self.final - self.initial) * self._way(_share(step, self.begin_step, self.end_step))

    def _way(self, share: float) -> float:
        """Give how much of the change is done when a share of the time is over."""
        return share


class CosineBeta(LinearBeta):
    """As `LinearBeta`, but along half a cosine: slow at both ends.

    Args:
        initial: β up to `begin_step`.
        final: β from `end_step` on.
        end_step: Optimizer step at which `final` is reached.
        begin_step: Optimizer step at which β begins to move.

    >>> schedule = CosineBeta(initial=4.0, final=0.0, end_step=300)
    >>> [round(schedule.value(step), 6) for step in (0, 100, 150, 300)]
    [4.0, 3.0, 2.0, 0.0]
    """

    def _way(self, share: float) -> float:
        return 0.5 - 0.5 * math.cos(math.pi * share)


class CyclicalBeta(Schedule):
    """β rises on a straight line at the beginning of every cycle and keeps its value for the rest of it.

    H. Fu et al., "Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing", NAACL 2019,
    https://arxiv.org/abs/1903.10145; four cycles with a ramp of one half are theirs.

    Args:
        initial: β at the beginning of a cycle.
        final: β at its end.
        period: Optimizer steps of a cycle.
        ramp: Share of a cycle in which β moves, in (0, 1].
        cycles: After so many, β stays `final`; None goes on for ever.

    >>> schedule = CyclicalBeta(period=100, cycles=2)
    >>> [schedule.value(step) for step in (0, 25, 50, 99, 100, 125, 200, 225)]
    [0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0, 1.0]
    """

    def __init__(
        self,
        initial: float = 0.0,
        final: float = 1.0,
        period: int = 2500,
        ramp: float = 0.5,
        cycles: int | None = None,
    ) -> None:
        self.initial, self.final = _weight("initial", initial), _weight("final", final)
        if period < 1 or (cycles is not None and cycles < 1):
            raise ConfigurationError(f"period is {period} and cycles is {cycles}; give at least 1 of either")
        if not 0 < ramp <= 1:
            raise ConfigurationError(f"ramp is {ramp}; it is a share of a cycle, above 0 and at most 1")
        self.period, self.ramp, self.cycles = period, ramp, cycles

    def value(self, step: int) -> float:
        """Give β at a step."""
        if self.cycles is not None and step >= self.cycles * self.period:
            return self.final
        share = min(step % self.period / (self.period * self.ramp), 1.0)
        return self.initial + (self.final - self.initial) * share


class Capacity(Schedule):
    """γ |KL − C|: the code is asked to carry C nats, and C grows on a straight line.

    C. P. Burgess et al., "Understanding disentangling in β-VAE", 2018, https://arxiv.org/abs/1804.03599.

    Args:
        initial: C up to `begin_step`, in nats.
        final: C from `end_step` on, in nats.
        gamma: γ, the price of a nat too many or too few.
        end_step: Optimizer step at which `final` is reached.
        begin_step: Optimizer step at which C begins to move.

    >>> schedule = Capacity(final=25.0, end_step=100)
    >>> schedule.value(50)
    12.5
    >>> import torch
    >>> schedule.penalty(torch.tensor(10.5), 50)
    tensor(2000.)
    """

    quantity = "capacity"

    def __init__(
        self,
        initial: float = 0.0,
        final: float = 25.0,
        gamma: float = 1000.0,
        end_step: int = 100000,
        begin_step: int = 0,
    ) -> None:
        self.initial, self.final = _weight("initial", initial), _weight("final", final)
        self.gamma = _weight("gamma", gamma)
        self.begin_step, self.end_step = _span(begin_step, end_step)

    def value(self, step: int) -> float:
        """Give C at a step, in nats."""
        return self.initial + (self.final - self.initial) * _share(step, self.begin_step, self.end_step)

    def penalty(self, kl: Tensor, step: int) -> Tensor:
        """Give γ |KL − C(step)|."""
        return self.gamma * (kl - self.value(step)).abs()


def _weight(name: str, value: float) -> float:
    if not value >= 0 or not math.isfinite(value):
        raise ConfigurationError(f"{name} is {value}; give a number of 0 or more")
    return float(value)


def _span(begin: int, end: int) -> tuple[int, int]:
    if begin < 0 or end < begin:
        raise ConfigurationError(
            f"the schedule begins at step {begin} and ends at step {end}; give 0 <= begin_step <= end_step"
        )
    return begin, end


def _share(step: int, begin: int, end: int) -> float:
    """Give the share of the time from begin to end that is over at a step; all of it where that is none."""
    return 1.0 if step >= end else max(step - begin, 0) / max(end - begin, 1)
