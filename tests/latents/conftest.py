"""Models whose codes can be computed by hand."""

from typing import Any

import pytest
import torch
from torch import nn

from pcgen.base import GenerativeModel, verb


class Linear(GenerativeModel):
    """Code z = W vec(x), decoded as V z: nothing is left to chance."""

    chunk_size = 3  # so that every test crosses a chunk

    def __init__(self, latent_dim: int = 4, sample_shape: tuple[int, ...] = (5, 3)):
        super().__init__()
        self.latent_dim, self.sample_shape = latent_dim, tuple(sample_shape)
        size = int(torch.tensor(sample_shape).prod())
        generator = torch.Generator().manual_seed(0)
        self.W = nn.Parameter(torch.randn(latent_dim, size, generator=generator) / size**0.5)
        self.V = nn.Parameter(torch.randn(size, latent_dim, generator=generator))
        self.largest = 0  # batch that a verb was given

    @verb
    def encode(self, x):
        self.largest = max(self.largest, len(x))
        return x.flatten(1) @ self.W.T

    @verb
    def decode(self, z):
        self.largest = max(self.largest, len(z))
        return (z @ self.V.T).unflatten(1, self.sample_shape)


class WithPrior(Linear):
    @verb
    def prior(self, n, *, generator=None):
        return torch.randn(n, self.latent_dim, generator=generator).to(self.like)


class Variational(WithPrior):
    """Its posterior is narrower in the later dimensions."""

    @verb
    def posterior(self, x):
        self.largest = max(self.largest, len(x))
        mean = x.flatten(1) @ self.W.T
        return mean, torch.linspace(0, -4, self.latent_dim).to(mean).expand_as(mean)


class Sampler(WithPrior):
    encode = GenerativeModel.encode


class OnlyEncodes(Linear):
    decode = GenerativeModel.decode


class OnlyDecodes(Linear):
    encode = GenerativeModel.encode


@pytest.fixture
def toys() -> Any:
    return {kind.__name__: kind for kind in (Linear, WithPrior, Variational, Sampler, OnlyEncodes, OnlyDecodes)}


@pytest.fixture(params=[(5, 3), (1, 4, 4)], ids=["clouds", "images"])
def shape(request) -> tuple[int, ...]:
    return request.param


@pytest.fixture
def data(shape) -> torch.Tensor:
    return torch.rand(20, *shape, generator=torch.Generator().manual_seed(1))
