"""The averaged network against its formula, number by number."""

import copy

import pytest
import torch
from torch import nn

from pcgen.nets import ExponentialMovingAverage


class Counting(nn.Module):
    """Weights, a statistic and a counter, all of which the test sets."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("statistic", torch.zeros(2))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        return x * self.weight.sum() + self.statistic.sum()

    @torch.no_grad()
    def become(self, t):
        self.weight.copy_(torch.tensor([1.0, -2.0, 0.5]) * (t + 1) ** 2)
        self.statistic.copy_(torch.tensor([t * 10.0, -t]))
        self.seen.fill_(t)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_the_average_is_its_formula(decay):
    network = Counting()
    network.become(0)
    average = ExponentialMovingAverage(network, decay)
    weight, statistic = network.weight.double().tolist(), network.statistic.double().tolist()
    for t in range(25):
        network.become(t)
        average.update(network)
        d = min(decay, (1 + t) / (10 + t))
        weight = [d * old + (1 - d) * new for old, new in zip(weight, network.weight.tolist(), strict=True)]
        statistic = [d * old + (1 - d) * new for old, new in zip(statistic, network.statistic.tolist(), strict=True)]
        assert average.network.weight.tolist() == pytest.approx(weight, rel=1e-5)
        assert average.network.statistic.tolist() == pytest.approx(statistic, rel=1e-5)
        assert average.network.seen == t  # a counter has no average
    x = torch.tensor([2.0])
    assert average(x).item() == pytest.approx(2 * sum(weight) + sum(statistic), rel=1e-5)


def test_a_copy_of_its_own_without_gradient():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = copy.deepcopy(network.state_dict())
    average = ExponentialMovingAverage(network, 0.9)
    assert not any(p.requires_grad for p in average.parameters())
    assert all(p.requires_grad for p in network.parameters())
    with torch.no_grad():
        network[0].weight.add_(1)
    torch.testing.assert_close(average.network[0].weight, before["0.weight"])
    average.update(network)
    assert all(p.grad is None and not p.requires_grad for p in average.parameters())
    torch.testing.assert_close(network[0].weight, before["0.weight"] + 1)  # following does not change what is followed


def test_the_state_dict_goes_on_where_it_stopped():
    """Without the count of updates, the share of the next one would be that of a beginner."""
    network = Counting()
    network.become(0)
    whole = ExponentialMovingAverage(network, 0.999)
    for t in range(8):
        network.become(t)
        whole.update(network)
        if t == 3:
            half = ExponentialMovingAverage(Counting(), 0.999)
            half.load_state_dict(copy.deepcopy(whole.state_dict()))
    for t in range(4, 8):
        network.become(t)
        half.update(network)
    assert all(torch.equal(half.state_dict()[name], value) for name, value in whole.state_dict().items())


def test_a_network_in_double_precision_stays_so():
    network = nn.Linear(2, 2, dtype=torch.float64)
    average = ExponentialMovingAverage(network, 0.5)
    average.update(network)
    assert average.network.weight.dtype == torch.float64
    torch.testing.assert_close(average.network.weight, network.weight)
