import copy
import io

import pytest
import torch
from torch import nn

from pcgen.errors import ConfigurationError
from pcgen.nets import (
    CNNDecoder,
    CNNEncoder,
    ImageMLPEncoder,
    MLPDecoder,
    PointNetEncoder,
)
from pcgen.nets.spectral import spectral_normalized, uses_batch_norm

MAKE = {
    "pointnet": lambda: PointNetEncoder((8, 16), (6,), batch_norm=False, negative_slope=0.2),
    "normed pointnet": lambda: PointNetEncoder((8, 16), (6,)),
    "pixels": lambda: ImageMLPEncoder((1, 8, 8), (9, 6), batch_norm=False),
    "cnn": lambda: CNNEncoder((1, 8, 8), (4, 5), (6,), batch_norm=False, negative_slope=0.2),
    "strided cnn": lambda: CNNEncoder((1, 8, 8), (4, 5), (6,), "stride", batch_norm=False),
    "transposed": lambda: CNNDecoder(64, (1, 8, 8), (4, 5), (6,), batch_norm=False),
}


def data(net, size=3):
    x = torch.randn(size, 200 * 3 if isinstance(net, PointNetEncoder) else 64)
    if isinstance(net, CNNDecoder):
        return x
    return x.view(size, 200, 3) if isinstance(net, PointNetEncoder) else x.view(size, 1, 8, 8)


def normalised(net):
    return [layer for layer in net.modules() if hasattr(layer, "parametrizations")]


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_the_largest_singular_value_becomes_one(make):
    torch.manual_seed(0)
    net = make()
    wide = [layer for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    before = [layer.weight.detach().clone() for layer in wide]
    assert spectral_normalized(net) is net
    assert normalised(net) == wide
    x = data(net)
    for _ in range(200):
        net(x[:2])
    for layer, weight in zip(wide, before, strict=True):
        outputs = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        matrix = layer.weight.detach().transpose(0, outputs).flatten(1)
        torch.testing.assert_close(torch.linalg.svdvals(matrix)[0], torch.ones(()), rtol=1e-3, atol=0)
        expected = weight / torch.linalg.svdvals(weight.transpose(0, outputs).flatten(1))[0]
        torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-3, atol=1e-5)


def test_a_network_without_batch_normalisation_changes_no_faster_than_its_input():
    torch.manual_seed(0)
    net = PointNetEncoder((16, 32), (8, 1), batch_norm=False, negative_slope=0.2)
    for parameter in net.parameters():
        parameter.data.mul_(5)
    spectral_normalized(net)
    for _ in range(100):
        net(torch.randn(1, 4, 3))
    net.eval()
    a, b = torch.randn(2, 200, 1, 3)
    assert ((net(a) - net(b)).norm(dim=1) <= (1 + 1e-4) * (a - b).flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_power_iterations_run_in_training_only_and_a_copy_is_on_its_own(make):
    torch.manual_seed(0)
    net = spectral_normalized(make())
    x = data(net)
    before = copy.deepcopy(net.state_dict())
    net.eval()
    y = net(x)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    twin = copy.deepcopy(net)
    torch.testing.assert_close(twin(x), y, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))
    net.train()(x)
    vectors = [name for name in before if name.endswith(("_u", "_v"))]
    assert len(vectors) == 2 * len(normalised(net))
    assert any(not torch.equal(net.state_dict()[name], before[name]) for name in vectors)
    torch.testing.assert_close(twin(x), y, rtol=0, atol=0)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("assign", [False, True])
def test_it_is_saved_and_built_again_also_without_memory(make, assign):
    torch.manual_seed(0)
    net = spectral_normalized(make())
    x = data(net)
    for _ in range(3):
        net(x[:2])
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    weights = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    with torch.device("meta"):
        skeleton = spectral_normalized(make())
    assert {k: v.shape for k, v in skeleton.state_dict().items()} == {k: v.shape for k, v in weights.items()}
    again = skeleton if assign else spectral_normalized(make())
    again.load_state_dict(weights, assign=assign)
    torch.testing.assert_close(again.eval()(x), net.eval()(x), rtol=0, atol=0)
    torch.testing.assert_close(again.train()(x), net.train()(x), rtol=0, atol=0)  # the same next iteration too


@pytest.mark.parametrize("make", [m for name, m in MAKE.items() if name != "normed pointnet"])
def test_a_critic_update_of_several_passes_has_the_gradient_of_their_sum(make):
    """Real, generated and penalised data in one backward pass; the vectors stand still at a fixed point."""
    torch.manual_seed(0)
    net = spectral_normalized(make()).double()
    real, fake = data(net).double(), data(net).double()
    for _ in range(300):  # until the vectors no longer move
        net(real[:1])

    def terms(net):
        between = ((real + fake) / 2).requires_grad_()
        (slope,) = torch.autograd.grad(net(between).sum(), between, create_graph=True)
        return [net(fake).sum(), -net(real).sum(), (slope.flatten(1).norm(dim=1) - 1).square().sum()]

    def gradients(loss):
        found = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(net.parameters(), found, strict=True)]

    together = gradients(torch.stack(terms(net)).sum())
    apart = [gradients(terms(net)[k]) for k in range(3)]
    assert any(g.any() for g in apart[2])
    for k, gradient in enumerate(together):
        torch.testing.assert_close(gradient, sum(part[k] for part in apart), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("make", [MAKE["pointnet"], MAKE["strided cnn"]])
def test_its_gradient_goes_through_the_singular_value(make):
    """Against differences of W / svd(W), for one weight."""
    torch.manual_seed(0)
    net = spectral_normalized(make()).double().eval()
    layer = normalised(net)[-1]
    weight = layer.parametrizations.weight.original
    sigma = layer.parametrizations.weight[0]
    u, _, v = torch.linalg.svd(weight.detach().flatten(1))
    sigma._u.copy_(u[:, 0])
    sigma._v.copy_(v[0])
    toward, direction = torch.randn_like(weight), torch.randn_like(weight)
    (layer.weight * toward).sum().backward()

    def value(step):
        moved = (weight + step * direction).detach()
        return (moved / torch.linalg.svdvals(moved.flatten(1))[0] * toward).sum()

    expected = (value(1e-5) - value(-1e-5)) / 2e-5
    torch.testing.assert_close((weight.grad * direction).sum(), expected, rtol=1e-6, atol=1e-8)


def test_twice_is_once():
    net = spectral_normalized(spectral_normalized(MAKE["pointnet"]()))
    assert all(len(layer.parametrizations.weight) == 1 for layer in normalised(net))


def test_what_cannot_be_normalised_is_refused():
    with pytest.raises(ConfigurationError, match="Sequential has no linear or convolutional layer"):
        spectral_normalized(nn.Sequential(nn.ReLU()))
    net = PointNetEncoder((8,), input_transform=True)
    with pytest.raises(ConfigurationError, match=r"input_transform\.head\.\d is zero, .* input_transform"):
        spectral_normalized(net)
    assert not normalised(net)  # nothing half done


@pytest.mark.parametrize(
    ("module", "uses"),
    [
        (PointNetEncoder((8,)), True),
        (PointNetEncoder((8,), batch_norm=False), False),
        (CNNEncoder(), True),
        (CNNEncoder(batch_norm=False), False),
        (MLPDecoder(4, 8, (8,)), True),
        (nn.SyncBatchNorm(3), True),
        (nn.BatchNorm3d(3), True),
        (nn.Sequential(nn.LayerNorm(3), nn.InstanceNorm1d(3), nn.GroupNorm(1, 3)), False),
    ],
)
def test_normalisation_over_the_batch_is_found(module, uses):
    assert uses_batch_norm(module) == uses
