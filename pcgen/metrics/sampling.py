"""Samples that depend on the model and a seed alone: not on the number of processes, and nearly not on the device."""

import typing
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from pcgen.errors import ConfigurationError


class Sampler(typing.Protocol):
    """Anything that draws n data (n, …) under a generator."""

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n data."""
        ...


def draw(
    model: Sampler, n: int, seed: int = 0, *, chunk: int = 64, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """Draw n samples, the same for the same model, n, seed and chunk wherever it is done.

    Args:
        model: Has `sample(n, generator=…)`.
        n: How many, 0 or more.
        seed: 0 or more.
        chunk: Samples drawn at once; part of the seed, since each chunk has a generator of its own.
        progress: Called with the number of samples drawn so far and n.

    Returns:
        (n, …) on the model's device.
    """
    parts = []
    for part in draw_chunks(model, n, seed, chunk=chunk):
        parts.append(part)
        if progress is not None:
            progress(sum(map(len, parts)), n)
    return torch.cat(parts)


def draw_chunks(
    model: Sampler, n: int, seed: int = 0, *, chunk: int = 64, rank: int = 0, world_size: int = 1
) -> Iterator[Tensor]:
    """Draw one process's chunks; those of all the ranks, one rank after the other, are what `draw` gives.

    Chunk k holds `chunk` samples (the last one the rest) and is drawn under a generator on the CPU whose state comes
    from (seed, k).

    Args:
        model: Has `sample(n, generator=…)`.
        n: How many in all.
        seed: 0 or more.
        chunk: Samples drawn at once.
        rank: This process.
        world_size: Number of processes.

    Yields:
        (b, …) on the model's device.

    Raises:
        ConfigurationError: If n, seed or chunk are out of range.
    """
    if n < 0 or seed < 0 or chunk < 1:
        raise ConfigurationError(f"n {n}, seed {seed}, chunk {chunk}: n and seed are 0 or more, chunk is 1 or more")
    chunks = max(1, -(-n // chunk))  # for n = 0 one empty chunk, which has the right shape
    for k in range(chunks * rank // world_size, chunks * (rank + 1) // world_size):
        state = int(np.random.SeedSequence([seed, k]).generate_state(1, np.uint64)[0])
        yield model.sample(min(chunk, n - k * chunk), generator=torch.Generator().manual_seed(state >> 1))
