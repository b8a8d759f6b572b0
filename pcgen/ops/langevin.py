"""Langevin dynamics: walks downhill in an energy, with noise, whose stationary distribution is exp(−E).

    x ← x − δ²/2 ∇E(x) + √temperature δ ε,  ε ~ N(0, I)

It is the unadjusted form: no step is rejected, so the stationary distribution is that of exp(−E/temperature) up to an
error of the order of δ². For E(x) = ‖x‖²/(2s²) the stationary variance is exactly s²/(1 − δ²/(4s²)).
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError

Energy = Callable[[Tensor], Tensor]


def langevin(
    energy: Energy,
    x: Tensor,
    *,
    steps: int,
    step_size: float,
    temperature: float | Sequence[float] = 1.0,
    clamp: float | None = None,
    generator: torch.Generator | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """Run a Langevin chain from each datum.

    Args:
        energy: (B, …) -> (B,), differentiable; each datum's energy must not depend on the other data.
        x: Where the chains begin (B, …); it is not written to.
        steps: T, how many, 0 or more.
        step_size: δ. The drift is δ²/2 of the gradient, the noise has standard deviation √temperature δ.
        temperature: Of the noise, 0 or more; 0 goes downhill and draws nothing. Or one for each step.
        clamp: After each step values are put back into [−clamp, clamp]; None leaves them.
        generator: Source of the noise; it may live on the CPU while the data are elsewhere.
        chunk_size: Data whose gradient is computed at once; None for all. It bounds memory and changes nothing else.

    Returns:
        The chains' last states (B, …), without gradient.

    Raises:
        ConfigurationError: If a number is out of its range.
        DataError: If the energy does not give one number for each datum, or no gradient.

    Langevin dynamics as in Y. N. Wu, R. Gao, T. Han, S.-C. Zhu, "A Tale of Three Probabilistic Families", 2019,
    https://arxiv.org/abs/1810.04261, with a temperature on the noise.

    >>> import torch
    >>> x = langevin(lambda x: (x**2).sum(1) / 2, torch.full((1, 2), 4.0), steps=300, step_size=0.2, temperature=0.0)
    >>> bool(x.abs().max() < 0.02)
    True
    """
    for state in langevin_states(
        energy,
        x,
        steps=steps,
        step_size=step_size,
        temperature=temperature,
        clamp=clamp,
        generator=generator,
        chunk_size=chunk_size,
    ):
        x = state
    return x


def langevin_states(
    energy: Energy,
    x: Tensor,
    *,
    steps: int,
    step_size: float,
    temperature: float | Sequence[float] = 1.0,
    clamp: float | None = None,
    generator: torch.Generator | None = None,
    chunk_size: int | None = None,
) -> Iterator[Tensor]:
    """Run a Langevin chain from each datum and give every state: T + 1 of them, first the beginning.

    Args and errors are those of `langevin`. Each state is one tensor that the next step leaves alone.

    >>> import torch
    >>> states = langevin_states(lambda x: (x**2).sum(1) / 2, torch.ones(1, 1), steps=2, step_size=1.0, temperature=0.0)
    >>> [state.item() for state in states]
    [1.0, 0.5, 0.25]
    """
    temperatures = _checked(steps, step_size, temperature, clamp, chunk_size)
    state = x.detach().clone()
    yield state
    for t in temperatures:
        state = state.add(energy_gradient(energy, state, chunk_size=chunk_size), alpha=-(step_size**2) / 2)
        if t > 0:
            state.add_(_noise(x, generator), alpha=math.sqrt(t) * step_size)
        if clamp is not None:
            state.clamp_(-clamp, clamp)
        yield state


def energy_gradient(energy: Energy, x: Tensor, *, chunk_size: int | None = None) -> Tensor:
    """Give ∇E (B, …) at data (B, …), without a graph.

    Args:
        energy: (B, …) -> (B,); each datum's energy must not depend on the other data.
        x: Data.
        chunk_size: Data whose gradient is computed at once; None for all.

    Raises:
        DataError: If the energy does not give one number for each datum, or no gradient.

    >>> import torch
    >>> energy_gradient(lambda x: (x**2).sum(1), torch.tensor([[1.0, 3.0]]))
    tensor([[2., 6.]])
    """
    if len(x) == 0:
        return torch.zeros_like(x)
    parts = x.detach().split(chunk_size or len(x))
    return torch.cat([_gradient(energy, part) for part in parts]) if len(parts) > 1 else _gradient(energy, parts[0])


def _gradient(energy: Energy, x: Tensor) -> Tensor:
    with torch.inference_mode(mode=False), torch.enable_grad():  # a validation of Lightning's is in inference mode
        leaf = x.clone().requires_grad_()
        values = checked_values(energy, leaf)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return gradient


def checked_values(energy: Energy, x: Tensor) -> Tensor:
    """Give the energies (B,) of data (B, …), if that is what they are."""
    values = energy(x)
    if values.shape != x.shape[:1]:
        raise DataError(
            f"the energy gave {tuple(values.shape)} for data {tuple(x.shape)}; it is one number for each datum, "
            f"({len(x)},)"
        )
    if not values.requires_grad:
        raise DataError("the energy does not depend on the data by differentiable operations, so it has no gradient")
    return values


def _noise(x: Tensor, generator: torch.Generator | None) -> Tensor:
    where = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=where, dtype=x.dtype).to(x.device)


def _checked(
    steps: int,
    step_size: float,
    temperature: float | Sequence[float],
    clamp: float | None,
    chunk_size: int | None,
) -> list[float]:
    """Check the numbers and give the temperature of each step."""
    if steps < 0:
        raise ConfigurationError(f"steps is {steps}; give 0 or more")
    if not 0 < step_size < math.inf:
        raise ConfigurationError(f"step_size is {step_size}; give a number above 0")
    if clamp is not None and not clamp > 0:
        raise ConfigurationError(f"clamp is {clamp}; give a number above 0, or None to leave the values alone")
    if chunk_size is not None and chunk_size < 1:
        raise ConfigurationError(f"chunk_size is {chunk_size}; give 1 or more, or None for all at once")
    temperatures = [float(temperature)] * steps if isinstance(temperature, int | float) else list(temperature)
    if len(temperatures) != steps:
        raise ConfigurationError(f"temperature has {len(temperatures)} values for {steps} steps; give one for each")
    if not all(0 <= t < math.inf for t in temperatures):
        raise ConfigurationError(f"temperature is {temperature}; it must be 0 or more")
    return temperatures
