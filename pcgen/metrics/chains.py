"""The chains of samples: what they pass through on the way from noise to data."""

import typing
from collections.abc import Callable

import torch
from torch import Tensor

from pcgen.base import GenerativeModel
from pcgen.errors import ConfigurationError
from pcgen.metrics.sampling import draw


class HasTrajectory(typing.Protocol):
    """Anything that gives the states (frames, n, …) that n samples pass through."""

    def trajectory(self, n: int, frames: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Give the states, from noise to the samples."""
        ...


def draw_trajectories(
    model: HasTrajectory,
    n: int,
    frames: int,
    seed: int = 0,
    *,
    chunk: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Draw n samples with what they pass through; the last states are the samples that `draw` gives.

    Args:
        model: Has `trajectory(n, frames, generator=…)`.
        n: How many, 0 or more.
        frames: States of each chain, the noise and the sample among them; at least 2.
        seed: 0 or more.
        chunk: Samples drawn at once; part of the seed, as in `draw`.
        progress: Called with the number of samples drawn so far and n.

    Returns:
        (frames, n, …) on the model's device.

    Raises:
        ConfigurationError: If n, frames, seed or chunk are out of range.
    """
    if frames < 2:
        raise ConfigurationError(f"frames is {frames}; give at least 2, the noise and the sample")
    return draw(_Chains(model, frames), n, seed, chunk=chunk, progress=progress).transpose(0, 1)


def samples_and_noise(
    model: GenerativeModel, n: int, seed: int = 0, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, Tensor]:
    """Draw "samples" (n, …) of a model that can sample, as `draw` does, and the "noise" (n, …) that they began with.

    Of a model without `trajectory` there is no noise, and of one that cannot sample there is nothing. Of a model that
    goes on with kept chains, the "noise" is where these had ended.
    """
    if model.can("trajectory"):
        states = draw_trajectories(model, n, 2, seed, progress=progress)
        return {"samples": states[-1], "noise": states[0]}
    return {"samples": draw(model, n, seed, progress=progress)} if model.can("sample") else {}


class _Chains:
    """Samples whole chains (n, frames, …), so that chunks and their seeds are those of samples."""

    def __init__(self, model: HasTrajectory, frames: int) -> None:
        self._model, self._frames = model, frames

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        return self._model.trajectory(n, self._frames, generator=generator).transpose(0, 1)
