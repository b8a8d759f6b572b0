import copy

import pytest
import torch
from torch import nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.nets import (
    MLP,
    CNNEncoder,
    FoldingDecoder,
    ImageMLPEncoder,
    MLPDecoder,
    MLPEncoder,
    PointNetEncoder,
    pointnet,
)
from pcgen.nets.folding import ball_points
from pcgen.nets.pointnet import max_pooled_layer
from pcgen.nets.spectral import spectral_normalized


def pointnets():
    return [
        PointNetEncoder((8, 16)),
        PointNetEncoder((8, 16), pool="mean"),
        PointNetEncoder((8, 16), (12,), input_transform=True),
        PointNetEncoder((8, 16), batch_norm=False),
    ]


@pytest.mark.parametrize("net", pointnets(), ids=["max", "mean", "transform", "plain"])
@pytest.mark.parametrize("points", [1, 7, 300])
def test_pointnet_takes_any_number_of_points_in_any_order(net, points):
    net.eval()
    x = torch.randn(3, points, 3)
    y = net(x)
    assert y.shape == (3, net.out_features)
    torch.testing.assert_close(net(x[:, torch.randperm(points)]), y, rtol=1e-4, atol=1e-5)
    assert net.permutation_invariant


def test_pointnet_equals_a_loop_over_points():
    net = PointNetEncoder((5, 6), batch_norm=False).double()
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    layers = net.points.layers
    expected = torch.stack([torch.stack([layers(p[None])[0] for p in cloud]).max(0).values for cloud in x])
    torch.testing.assert_close(net(x), expected)


def batch_normed(widths=(6, 9), slope=0.0):
    """A PointNet in double precision whose normalisations have scales of either sign."""
    torch.manual_seed(1)
    net = PointNetEncoder(widths, negative_slope=slope).double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return net


def plainly(net, x):
    """What the layers give one after the other, for every point."""
    return net.points.layers(x.flatten(0, 1)).unflatten(0, x.shape[:2]).amax(1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("widths", [(6, 9), (9,)])
@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("spectral", [False, True])
def test_the_last_layer_on_the_winners_alone_equals_it_on_every_point(monkeypatch, training, widths, slope, spectral):
    net, x = batch_normed(widths, slope).train(training), torch.randn(4, 30, 3, dtype=torch.float64)
    net = spectral_normalized(net) if spectral else net
    other, calls = copy.deepcopy(net), []
    monkeypatch.setattr(pointnet, "max_pooled_layer", lambda *given: calls.append(given) or max_pooled_layer(*given))
    weight = torch.randn(4, 9, dtype=torch.float64)
    given, expected = net(x), plainly(other, x)
    torch.testing.assert_close(given, expected)
    assert len(calls) == 1
    (given * weight).sum().backward()
    (expected * weight).sum().backward()
    for (name, mine), theirs in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=name)
    for (name, mine), theirs in zip(net.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)


def test_the_winners_layer_holds_far_from_the_origin_and_with_a_cumulative_average():
    net = batch_normed().float()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = None
    other = copy.deepcopy(net).double()
    for _ in range(3):
        x = torch.randn(3, 50, 3) + 100
        torch.testing.assert_close(net(x), plainly(other, x.double()).float(), rtol=2e-3, atol=2e-3)
    for mine, theirs in zip(net.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs.to(mine), rtol=1e-4, atol=1e-4)


def test_a_cnn_gives_features_of_images_of_its_shape_only():
    net = CNNEncoder((3, 9, 13), channels=(4, 6), head_widths=(7,)).eval()
    x = torch.rand(5, 3, 9, 13)
    assert net(x).shape == (5, net.out_features) == (5, 7)
    assert CNNEncoder((3, 9, 13), channels=(4, 6), head_widths=()).out_features == 6 * 2 * 3
    torch.testing.assert_close(net(x)[3:], net(x[3:]), rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match=r"images \(B, 3, 9, 13\) and got \(5, 9, 13\)"):
        net(x[:, 0])
    with pytest.raises(ConfigurationError, match="4 stages, which halve 9 × 13 pixels to none"):
        CNNEncoder((3, 9, 13), channels=(4, 4, 4, 4))
    with pytest.raises(ConfigurationError, match=r"image_shape is \[28, 28\]"):
        CNNEncoder([28, 28])


def test_mean_and_max_pool_differ():
    torch.manual_seed(0)
    a, b = PointNetEncoder((8,), batch_norm=False), PointNetEncoder((8,), pool="mean", batch_norm=False)
    b.load_state_dict(a.state_dict())
    x = torch.randn(2, 10, 3)
    assert (a(x) > b(x)).any()


def test_input_transform_starts_as_the_identity():
    net = PointNetEncoder((8,), input_transform=True)
    plain = PointNetEncoder((8,))
    plain.points.load_state_dict(net.points.state_dict())
    x = torch.randn(4, 20, 3)
    torch.testing.assert_close(net(x), plain(x))


def test_mlp_encoder_sees_the_order_and_one_size_only():
    net = MLPEncoder(6, (8, 9)).eval()
    x = torch.randn(3, 6, 3)
    assert net(x).shape == (3, 9)
    assert not torch.allclose(net(x), net(x.flip(1)))
    assert not net.permutation_invariant
    with pytest.raises(DataError, match="built for clouds of 6 points and got 5"):
        net(x[:, :5])


@pytest.mark.parametrize("decoder", [MLPDecoder, FoldingDecoder])
@pytest.mark.parametrize("extra", [0, 3])
def test_decoders_give_clouds(decoder, extra):
    net = decoder(latent_dim=5, num_points=33, extra_channels=extra)
    assert net(torch.randn(4, 5)).shape == (4, 33, 3 + extra)
    assert net.sample_shape == (33, 3)
    assert net.latent_dim == 5


def test_folding_gives_any_number_of_points_from_the_same_weights():
    net = FoldingDecoder(4, 64, width=16, depth=2, code_widths=(8,)).eval()
    z = torch.randn(2, 4)
    assert net(z, num_points=100).shape == (2, 100, 3)
    torch.testing.assert_close(net(z, num_points=64), net(z))


def test_folding_needs_fewer_weights_than_an_mlp():
    count = [sum(p.numel() for p in net.parameters()) for net in (FoldingDecoder(), MLPDecoder())]
    assert count[0] * 10 < count[1]


def test_template_fills_the_ball_evenly():
    points = ball_points(4000).double()
    radius = points.norm(dim=1)
    assert radius.max() <= 1
    # equal shells of volume hold equal shares, and so do the eight octants
    shells = torch.histc(radius**3, 10, 0, 1) / 4000
    assert (shells - 0.1).abs().max() < 0.01
    octants = ((points > 0).long() * torch.tensor([1, 2, 4])).sum(1).bincount(minlength=8) / 4000
    assert (octants - 0.125).abs().max() < 0.01


@pytest.mark.parametrize(
    ("x", "hint"),
    [
        (torch.zeros(5, 3), r"x\[None\]"),
        (torch.zeros(2, 3, 50), r"transpose\(1, 2\)"),
        (torch.zeros(2, 5, 2), r"\(2, 5, 2\)"),
        (torch.zeros(2, 0, 3), r"\(2, 0, 3\)"),
    ],
)
def test_clouds_of_another_shape_are_refused_with_a_hint(x, hint):
    with pytest.raises(DataError, match=hint):
        PointNetEncoder((4,))(x)


@pytest.mark.parametrize("arguments", [{"latent_dim": 0}, {"num_points": 0}, {"widths": (8, 0)}])
def test_sizes_below_one_are_refused(arguments):
    with pytest.raises(ConfigurationError, match="at least 1"):
        MLPDecoder(**arguments)


SLOPED = {
    "mlp": lambda **slope: MLP(192, (8, 9), **slope),
    "mlp with an end": lambda **slope: MLP(192, (8,), 4, batch_norm=False, **slope),
    "clouds": lambda **slope: MLPEncoder(64, (8, 9), **slope),
    "images": lambda **slope: ImageMLPEncoder((3, 8, 8), (8, 9), **slope),
    "pointnet": lambda **slope: PointNetEncoder((8, 9), (7,), input_transform=True, **slope),
    "cnn": lambda **slope: CNNEncoder((3, 8, 8), (4, 5), (7,), **slope),
    "strided cnn": lambda **slope: CNNEncoder((3, 8, 8), (4, 5), (7,), "stride", batch_norm=False, **slope),
}


@pytest.mark.parametrize("make", SLOPED.values(), ids=SLOPED)
def test_a_slope_below_zero_makes_every_relu_leaky_and_changes_no_name(make):
    plain, leaky = make(), make(negative_slope=0.2)
    assert list(plain.state_dict()) == list(leaky.state_dict())
    relus = [name for name, layer in plain.named_modules() if type(layer) is nn.ReLU]
    slopes = {name: layer.negative_slope for name, layer in leaky.named_modules() if type(layer) is nn.LeakyReLU}
    assert slopes == dict.fromkeys(relus, 0.2)
    assert not any(type(layer) is nn.ReLU for layer in leaky.modules())
    for slope in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigurationError, match=f"negative_slope is {slope}; it must be at least 0"):
            make(negative_slope=slope)


def test_the_slope_is_that_of_the_values_below_zero():
    torch.manual_seed(0)
    net = MLP(3, (4,), batch_norm=False, negative_slope=0.3)
    x = torch.randn(50, 3)
    z = x @ net[0].weight.T + net[0].bias
    torch.testing.assert_close(net(x), torch.where(z < 0, 0.3 * z, z))
    assert (net(x) < 0).any()


def test_networks_learn():
    """The folding decoder fits a sphere of another radius: gradients reach every parameter."""
    torch.manual_seed(0)
    net = FoldingDecoder(2, 64, width=32, depth=2, code_widths=(16,))
    z = torch.randn(8, 2)
    target = torch.nn.functional.normalize(net.template[:, :3], dim=1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(150):
        loss = (net(z) - target).square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            first = loss.item()
            assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
        optimizer.step()
    assert loss.item() < 0.05 * first
