"""Chains drawn with the seeds of samples."""

import pytest
import torch

from pcgen.base import GenerativeModel, verb
from pcgen.errors import ConfigurationError
from pcgen.metrics import draw, draw_trajectories
from pcgen.metrics.chains import samples_and_noise


class Sampler(GenerativeModel):
    """Halves noise of its generator a hundred times, on the way to a constant."""

    sample_shape = (5, 3)

    @verb
    def sample(self, n, *, generator=None):
        return 7 + 0.5**100 * torch.randn(n, 5, 3, generator=generator).double() + self._own(n, generator)

    def _own(self, n, generator):
        return torch.rand(n, 1, 1, generator=generator).double()  # tells the samples apart


class Chain(Sampler):
    @verb
    def trajectory(self, n, frames, *, generator=None):
        noise = torch.randn(n, 5, 3, generator=generator).double()
        end = 7 + self._own(n, generator)
        powers = torch.linspace(0, 100, frames).round()
        return torch.stack([end * (k > 0) + 0.5**k * noise for k in powers.tolist()])


class Silent(GenerativeModel):
    sample_shape = (5, 3)


@pytest.mark.parametrize("n", [0, 3, 150])
def test_chains_end_in_the_samples_of_the_same_seed(n):
    states = draw_trajectories(Chain(), n, 4, 9)
    assert states.shape == (4, n, 5, 3)
    assert torch.equal(states[-1], draw(Chain(), n, 9))
    if n:
        assert not torch.equal(states, draw_trajectories(Chain(), n, 4, 10))
    few = draw_trajectories(Chain(), n, 2, 9)
    assert torch.equal(few, states[[0, -1]])


def test_noise_belongs_to_the_samples():
    found = samples_and_noise(Chain(), 70, 2)
    assert list(found) == ["samples", "noise"]
    assert torch.equal(found["samples"], draw(Chain(), 70, 2))
    assert abs(found["noise"].mean()) < 0.1 < abs(found["samples"].mean())
    only = samples_and_noise(Sampler(), 70, 2)
    assert list(only) == ["samples"]
    assert torch.equal(only["samples"], found["samples"])
    assert samples_and_noise(Silent(), 70, 2) == {}


def test_progress_counts_the_samples():
    told = []
    samples_and_noise(Chain(), 100, progress=lambda *given: told.append(given))
    assert told == [(64, 100), (100, 100)]


def test_a_chain_has_two_ends():
    with pytest.raises(ConfigurationError, match="frames is 1"):
        draw_trajectories(Chain(), 3, 1)
