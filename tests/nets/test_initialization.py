"""He's weights: their spread, what they do to a signal, and what they leave alone; outputs that begin at zero."""

import math

import pytest
import torch
from torch import nn

from pcgen.errors import ConfigurationError
from pcgen.models import GAN
from pcgen.nets import (
    MLP,
    CNNDecoder,
    MLPDecoder,
    PointNetEncoder,
    ResNetDecoder,
    kaiming_initialized,
    zero_output,
)


def test_weights_have_variance_two_over_fan_in_and_no_bias():
    torch.manual_seed(0)
    network = kaiming_initialized(nn.Sequential(nn.Linear(300, 400), nn.ReLU(), nn.Conv2d(8, 64, 5)))
    for layer, fan_in in ((network[0], 300), (network[2], 8 * 25)):
        assert math.isclose(layer.weight.var().item(), 2 / fan_in, rel_tol=0.05)
        assert abs(layer.weight.mean().item()) < 0.01 * math.sqrt(2 / fan_in) * 3
        assert not layer.bias.any()


def test_a_deep_network_hands_on_as_much_as_it_gets():
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Linear(256, 256), nn.ReLU())]
    x = torch.randn(200, 256)
    before = nn.Sequential(*layers)(x).square().mean().item()
    after = kaiming_initialized(nn.Sequential(*layers))(x).square().mean().item()
    assert before < 0.05
    assert 0.3 < after < 3


def test_a_critics_input_transform_begins_as_the_identity():
    torch.manual_seed(0)
    critic = PointNetEncoder((8, 16), (8,), batch_norm=False, input_transform=True)
    model = GAN(MLPDecoder(4, 16, (12,)), critic)
    matrices = model.discriminator.features.input_transform(torch.randn(2, 16, 3))
    assert torch.equal(matrices, torch.eye(3).expand(2, 3, 3))


@pytest.mark.parametrize(
    ("network", "data"),
    [
        (MLP(3, (5,), 2), torch.randn(4, 3)),
        (ResNetDecoder(3, (2, 8, 8), (4, 4)), torch.randn(4, 3)),
        (CNNDecoder(3, (2, 8, 8), (4, 4)), torch.randn(4, 3)),
        (nn.Conv1d(3, 2, 1, bias=False), torch.randn(4, 3, 5)),
    ],
)
def test_a_network_of_zero_output_gives_nothing_and_learns(network, data):
    assert network(data).any()
    assert zero_output(network) is network
    assert not network(data).any()
    (network(data) - 1).square().mean().backward()
    assert list(network.parameters())[-1].grad.any()


def test_a_network_without_layers_has_no_output_to_set():
    with pytest.raises(ConfigurationError, match="Identity has no linear or convolutional layer"):
        zero_output(nn.Identity())
