"""Models whose codes can be computed by hand."""

from typing import Any

import pytest
import torch
from torch import nn

from pcgen.base import Decomposition, GenerativeModel, verb
from pcgen.ops import warp_images

SIDE = 41


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


class Sheared(GenerativeModel):
    """A square of one brightness in an image that is sheared: the code is (shear, brightness), and W is known.

    The brightness is read off the middle of the image, the shear off the centres of mass of its rows.
    """

    sample_shape = (1, SIDE, SIDE)
    latent_dim = 2
    chunk_size = 3

    def __init__(self):
        super().__init__()
        self.latent_parts = {"shape": slice(0, 1), "appearance": slice(1, 2)}

    @verb
    def encode(self, x):
        y, across = torch.meshgrid(*[torch.linspace(-1, 1, SIDE).to(x)] * 2, indexing="ij")
        lit = x[:, 0] * (y.abs() < 0.5)
        # W = (x + s y, y): row y is moved by −s y
        place = (lit * across).sum(-1) / lit.sum(-1).clamp(min=1e-6)
        shear = -(place * y[:, 0]).sum(-1) / (y[:, 0].square() * (y[:, 0].abs() < 0.5)).sum()
        return torch.stack([shear, x[:, 0, SIDE // 2, SIDE // 2]], -1)

    @verb
    def decode(self, z):
        return self.decompose(z).x

    @verb
    def decompose(self, z):
        y, across = torch.meshgrid(*[torch.linspace(-1, 1, SIDE).to(z)] * 2, indexing="ij")
        soft = [torch.sigmoid((0.6 - t.abs()) / 0.08) for t in (across, y)]
        template = z[:, 1, None, None, None] * (soft[0] * soft[1])[None, None]
        grid = torch.stack([across + z[:, 0, None, None] * y, y.expand(len(z), -1, -1)], -1)
        return Decomposition(warp_images(template, grid), template, grid, {})


@pytest.fixture
def toys() -> Any:
    return {kind.__name__: kind for kind in (Linear, WithPrior, Variational, Sampler, OnlyEncodes, OnlyDecodes)}


@pytest.fixture(params=[(5, 3), (1, 4, 4)], ids=["clouds", "images"])
def shape(request) -> tuple[int, ...]:
    return request.param


@pytest.fixture
def data(shape) -> torch.Tensor:
    return torch.rand(20, *shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def sheared() -> GenerativeModel:
    return Sheared()
