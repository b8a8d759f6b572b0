"""Residual and dense image networks: shapes, normalisation, what every layer does, and what is refused."""

import pytest
import torch
from torch.nn import functional as F

from pcgen.errors import ConfigurationError, DataError
from pcgen.nets import DenseNetDecoder, DenseNetEncoder, ResNetDecoder, ResNetEncoder
from pcgen.nets.dense import DenseBlock
from pcgen.nets.residual import ResidualBlock
from pcgen.nets.staged import DoublingConv2d, InstanceNorm
from pcgen.recipe import build, describe

ENCODERS, DECODERS = (ResNetEncoder, DenseNetEncoder), (ResNetDecoder, DenseNetDecoder)
MORE = {"ResNet": {"blocks": 2}, "DenseN": {"growth": 3, "layers": 2}}


def more(make):
    return MORE[make.__name__[:6]]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 20), (1, 29, 31), (2, 64, 64)])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("kind", [0, 1])
def test_any_size_goes_in_and_comes_out(shape, norm, kind):
    encoder = ENCODERS[kind](shape, (4, 6, 8), head_widths=(5,), norm=norm, **more(ENCODERS[kind]))
    decoder = DECODERS[kind](3, shape, (8, 6, 4), head_widths=(5,), norm=norm, **more(DECODERS[kind]))
    x = torch.rand(2, *shape)
    assert encoder(x).shape == (2, 5) == (2, encoder.out_features)
    assert decoder(torch.randn(2, 3)).shape == x.shape == (2, *decoder.sample_shape)
    kinds = {type(m).__name__ for net in (encoder, decoder) for m in net.modules() if "Norm" in type(m).__name__}
    expected = {"instance": {"InstanceNorm"}, "batch": {"BatchNorm1d", "BatchNorm2d"}, "none": set()}
    assert {name for name in kinds if "Net" not in name} == expected[norm]


@pytest.mark.parametrize("make", ENCODERS)
def test_without_a_head_the_features_are_the_last_stages(make):
    encoder = make((1, 28, 28), (4, 6, 8), **more(make))
    channels = 8 if make is ResNetEncoder else 8 + 2 * 3
    assert encoder.out_features == channels * 3 * 3
    assert encoder(torch.rand(2, 1, 28, 28)).shape == (2, encoder.out_features)


@pytest.mark.parametrize("make", DECODERS)
def test_a_decoder_cuts_the_middle_out_of_what_its_doublings_give(make):
    torch.manual_seed(0)
    whole, cut = (make(3, (1, h, w), (4, 2)) for h, w in ((12, 12), (9, 10)))
    cut.load_state_dict(whole.state_dict())
    z = torch.randn(2, 3)
    assert torch.equal(cut(z), whole(z)[:, :, 1:10, 1:11])


def test_instance_normalisation_is_that_of_each_channel_over_its_pixels():
    torch.manual_seed(0)
    norm = InstanceNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, 3.0]))
    x = 5 + 2 * torch.randn(4, 3, 6, 5)
    for layout in (x, x.contiguous(memory_format=torch.channels_last)):
        given = norm(layout)
        for image in range(4):
            for channel in range(3):
                pixels = x[image, channel].double()
                unit = (pixels - pixels.mean()) / (pixels.var(correction=0) + norm.eps).sqrt()
                expected = unit * norm.weight[channel].item() + norm.bias[channel].item()
                torch.testing.assert_close(given[image, channel].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [0, 1])
def test_with_instance_normalisation_no_image_sees_another(kind):
    torch.manual_seed(0)
    encoder, decoder = ENCODERS[kind]((1, 16, 16), (4, 6)), DECODERS[kind](3, (1, 16, 16), (6, 4))
    x, z = torch.rand(5, 1, 16, 16), torch.randn(5, 3)
    for network, data in ((encoder, x), (decoder, z)):
        alone = torch.cat([network(row[None]) for row in data])
        torch.testing.assert_close(network(data), alone, atol=1e-5, rtol=1e-5)
        assert torch.equal(network.eval()(data), network.train()(data))


def test_a_doubling_is_nearest_pixels_and_then_a_convolution():
    torch.manual_seed(0)
    layer = DoublingConv2d(3, 5).double()
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), plain)
    weight = torch.randn_like(plain)
    inputs = (x, layer.weight, layer.bias)
    for a, b in zip(
        torch.autograd.grad((layer(x) * weight).sum(), inputs),
        torch.autograd.grad((plain * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_every_layer_of_a_dense_block_sees_all_before_it():
    """The output is, channel for channel, the block's input and each layer's output of everything before."""
    torch.manual_seed(0)
    block = DenseBlock(4, 3, 3, "instance", 0.2)
    assert [layer[0].weight.shape[:2] for layer in block.layers] == [(3, 4), (3, 7), (3, 10)]
    x = torch.randn(2, 4, 5, 5)
    given = block(x)
    assert given.shape == (2, 4 + 3 * 3, 5, 5)
    seen = x
    for layer in block.layers:
        h = F.conv2d(seen, layer[0].weight, padding=1)
        h = F.leaky_relu(F.instance_norm(h), 0.2)  # the learned scale and shift begin as 1 and 0
        seen = torch.cat([seen, h], 1)
    torch.testing.assert_close(given, seen, atol=1e-5, rtol=1e-5)


def test_a_residual_block_adds_what_its_convolutions_give():
    torch.manual_seed(0)
    stage = ResNetEncoder((2, 16, 16), (4,), blocks=2, norm="none").stages[0]
    halving, same = stage
    assert isinstance(same, ResidualBlock)
    x = torch.randn(3, 2, 16, 16)
    a, _, b = halving.path
    h = F.conv2d(F.conv2d(x, a.weight, a.bias, stride=2, padding=1).relu(), b.weight, b.bias, padding=1)
    h = (h + F.conv2d(F.avg_pool2d(x, 2), halving.shortcut[1].weight)).relu()
    c, _, d = same.path
    h = (h + F.conv2d(F.conv2d(h, c.weight, c.bias, padding=1).relu(), d.weight, d.bias, padding=1)).relu()
    torch.testing.assert_close(stage(x), h)


@pytest.mark.parametrize("make", [*ENCODERS, *DECODERS])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_every_layer_acts(make, norm):
    """Each parameter has a gradient, and the output is another one when any of them is changed."""
    torch.manual_seed(0)
    if make in ENCODERS:
        network, data = make((2, 16, 16), (4, 6), norm=norm, negative_slope=0.1, **more(make)), torch.rand(8, 2, 16, 16)
    else:
        network, data = make(3, (2, 16, 16), (6, 4), norm=norm, **more(make)), torch.randn(8, 3)
    before = network(data)
    (before * torch.randn_like(before)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.any(), name
        with torch.no_grad():
            kept = parameter.clone()
            parameter.add_(0.1 * torch.randn_like(parameter))
            assert not torch.equal(network(data), before), name
            parameter.copy_(kept)


@pytest.mark.parametrize("make", [*ENCODERS, *DECODERS])
def test_the_same_seed_gives_the_same_network_and_its_record_builds_it_again(make):
    data = torch.rand(2, 1, 28, 28) if make in ENCODERS else torch.randn(2, 8)
    torch.manual_seed(0)
    network = make()
    recipe = describe(network)
    assert recipe["class_path"] == f"pcgen.nets.{make.__name__}"
    torch.manual_seed(0)
    assert torch.equal(build(recipe)(data), network(data))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ResNetEncoder((1, 8, 8), (2, 4, 8, 16)), "halve 8 × 8 pixels to none"),
        (lambda: DenseNetEncoder((1, 12, 15), (2, 4, 8)), r"12 × 15 pixels to one.*fewer stages"),
        (lambda: ResNetEncoder((28, 28)), r"image_shape is \[28, 28\]"),
        (lambda: ResNetEncoder(channels=(4, 0)), "channels is 0"),
        (lambda: ResNetEncoder(blocks=0), "blocks is 0"),
        (lambda: ResNetDecoder(blocks=0), "blocks is 0"),
        (lambda: DenseNetEncoder(layers=0), "layers is 0"),
        (lambda: DenseNetDecoder(growth=0), "growth is 0"),
        (lambda: DenseNetEncoder(norm="layer"), 'norm is .layer.; choose "instance"'),
        (lambda: ResNetDecoder(norm="layer"), 'norm is .layer.; choose "instance"'),
        (lambda: ResNetDecoder(0), "latent_dim is 0"),
        (lambda: DenseNetDecoder(channels=()), "channels is empty"),
        (lambda: ResNetEncoder(negative_slope=-1), "negative_slope is -1"),
    ],
)
def test_networks_that_cannot_be_are_refused(make, said):
    with pytest.raises(ConfigurationError, match=said):
        make()


def test_a_single_pixel_is_left_alone_where_it_is_not_normalised():
    assert ResNetEncoder((1, 8, 8), (2, 4, 8), norm="none")(torch.rand(1, 1, 8, 8)).shape == (1, 8)


def test_images_of_another_size_are_refused():
    with pytest.raises(DataError, match=r"ResNetEncoder was built for images \(B, 1, 28, 28\)"):
        ResNetEncoder()(torch.rand(2, 1, 28, 27))


@pytest.mark.parametrize("kind", [0, 1])
def test_they_learn_where_things_are(kind):
    torch.manual_seed(0)
    column = torch.arange(8).repeat(4)
    x = torch.zeros(32, 1, 8, 8)
    x[torch.arange(32), 0, :, column] = 1
    encoder = ENCODERS[kind]((1, 8, 8), (8, 16), head_widths=(16,))
    decoder = DECODERS[kind](16, (1, 8, 8), (16, 8), head_widths=(32,))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 3e-3)
    for _ in range(150):
        loss = (decoder(encoder(x)) - x).square().sum(dim=(1, 2, 3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.7  # of 7 for the mean image
