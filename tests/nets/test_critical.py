"""The pass over the critical points against the plain way: every layer on every point, then torch.max."""

import copy

import pytest
import torch
from torch import nn

from pcgen.nets import PointNetEncoder, critical, pointnet
from pcgen.nets.critical import couples_points, max_over_points
from pcgen.nets.spectral import spectral_normalized


def network(slope=0.2, *, batch_norm=False, widths=(6, 9, 12)):
    """A per-point network in double precision, its normalisations with statistics and with scales of either sign."""
    torch.manual_seed(1)
    net = pointnet.PointwiseMLP(3, widths, "max", batch_norm=batch_norm, negative_slope=slope).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            for value in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(value)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net


def plainly(x, layers):
    return layers(x.flatten(0, 1)).unflatten(0, x.shape[:2]).max(1).values


def derivatives(pooled, layers, x):
    """Value, first derivatives, and those of a gradient penalty, by parameters and by input."""
    x = x.clone().requires_grad_()
    value = pooled(x, layers)
    weight = torch.linspace(-1, 2, value.numel(), dtype=x.dtype).view_as(value)
    score = (value * weight).sum() + value.square().sum()
    inputs = [x, *layers.parameters()]
    first = torch.autograd.grad(score, inputs, create_graph=True)
    penalty = (first[0].flatten(1).norm(dim=1) - 1).square().mean()
    second = torch.autograd.grad(penalty, inputs, allow_unused=True)
    return [value, penalty, *first, *second]


def assert_same(given, expected):
    for k, (mine, theirs) in enumerate(zip(given, expected, strict=True)):
        if theirs is None:
            assert mine is None or not mine.any()
            continue
        torch.testing.assert_close(mine if mine is not None else torch.zeros_like(theirs), theirs, msg=f"number {k}")


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("points", [1, 5, 200])  # one, fewer than features, many more
def test_value_and_derivatives_are_those_of_the_plain_way(slope, batch_norm, points):
    net, x = network(slope, batch_norm=batch_norm), torch.randn(4, points, 3, dtype=torch.float64)
    assert_same(derivatives(max_over_points, net.layers, x), derivatives(plainly, net.layers, x))


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_of_points_that_win_alike_the_first_has_the_gradient(slope):
    """In small whole numbers nothing is rounded: twins of a point, and other ties, are equal to the bit."""
    net = network(slope, widths=(5, 7))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape))
    x = torch.randint(-2, 3, (6, 40, 3)).double()
    x[:, 20:] = x[:, :20]  # every point has a twin
    x[1] = x[1, :1]  # one point, forty times
    assert_same(derivatives(max_over_points, net.layers, x), derivatives(plainly, net.layers, x))
    x.requires_grad_()
    max_over_points(x, net.layers).sum().backward()
    assert not x.grad[:, 20:].any()
    assert x.grad[:, :20].any()


def test_second_derivatives_of_the_input_by_finite_differences():
    net, x = network(widths=(4, 5)), torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)

    def cubed(x):  # or the second derivatives of a piecewise linear function would be zero
        return max_over_points(x, net.layers).pow(3)

    assert torch.autograd.gradgradcheck(cubed, x)


@pytest.mark.parametrize("held", [1, 700])  # a cloud at a time; two clouds, and one left over
@pytest.mark.parametrize("threads", [1, 64])  # NumPy's search and torch's
def test_parts_of_the_batch_and_either_search_find_the_same_winners(monkeypatch, held, threads):
    net, x = network(), torch.randn(5, 29, 3, dtype=torch.float64)
    values = net.layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    monkeypatch.setitem(critical._HELD, "cpu", held)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(critical.winners(x, critical.read(net.layers)), values.argmax(1))


def test_not_a_number_stays_visible():
    net, x = network(), torch.randn(2, 200, 3, dtype=torch.float64)
    x[1, 50] = torch.nan
    y = net(x.requires_grad_())
    assert y[0].isfinite().all()
    assert y[1].isnan().all()


def test_a_weight_that_moves_when_read_is_read_once_a_pass():
    """With spectral normalisation in training, both ways take one power iteration and use one weight."""
    net = spectral_normalized(network()).train()
    other, x = copy.deepcopy(net), torch.randn(3, 200, 3, dtype=torch.float64)
    assert not couples_points(net.layers)
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert mine is not theirs
        with torch.no_grad():
            mine.mul_(1 + 0.5 * torch.rand_like(mine))
            theirs.copy_(mine)
    for _ in range(2):
        assert_same(derivatives(max_over_points, net.layers, x), derivatives(plainly, other.layers, x))
    for (name, mine), theirs in zip(net.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)


@pytest.fixture
def passes(monkeypatch):
    """Calls of the pass over the critical points."""
    calls = []
    monkeypatch.setattr(pointnet, "max_over_points", lambda x, layers: calls.append(x) or max_over_points(x, layers))
    return calls


def test_it_is_taken_where_it_pays_and_nothing_couples_the_points(passes):
    x = torch.randn(2, 300, 3)
    plain, normed = PointNetEncoder((8, 16), batch_norm=False), PointNetEncoder((8, 16))
    for taken in (plain, plain.train(), normed.eval(), spectral_normalized(copy.deepcopy(plain))):
        passes.clear()
        taken(x).sum().backward()
        assert len(passes) == 1
    passes.clear()
    frozen = copy.deepcopy(plain).requires_grad_(requires_grad=False)
    frozen(x)  # nothing has a gradient
    plain(x[:, :9])  # few points
    normed.train()(x)  # normalised over the batch
    PointNetEncoder((8, 16), pool="mean", batch_norm=False)(x)
    with torch.no_grad():
        plain(x)
    with torch.autocast("cpu", torch.bfloat16):
        plain(x)
    copy.deepcopy(plain).bfloat16()(x.bfloat16())
    hooked = copy.deepcopy(plain)
    hooked.points.layers[0].register_forward_hook(lambda *_: None)
    hooked(x)
    without_statistics = copy.deepcopy(normed).eval()
    without_statistics.points.layers[1].running_mean = None
    without_statistics.points.layers[1].running_var = None
    without_statistics(x)
    assert not passes
    frozen(x.requires_grad_())  # a generator learns from a fixed critic
    assert len(passes) == 1


def test_transforms_and_forward_derivatives_go_the_plain_way():
    net, x = network(), torch.randn(3, 200, 3, dtype=torch.float64)
    (expected,) = torch.autograd.grad(net(x.requires_grad_()).sum(), x)
    x = x.detach()
    torch.testing.assert_close(torch.func.grad(lambda x: net(x).sum())(x), expected)
    one_by_one = torch.vmap(torch.func.grad(lambda cloud: net(cloud[None]).sum()))(x)
    torch.testing.assert_close(one_by_one, expected)
    toward = torch.randn_like(x)
    _, change = torch.func.jvp(net, (x,), (toward,))
    torch.testing.assert_close(change.sum(), (expected * toward).sum())
    with torch.autograd.forward_ad.dual_level():
        y = net(torch.autograd.forward_ad.make_dual(x, toward))
        change = torch.autograd.forward_ad.unpack_dual(y).tangent
    torch.testing.assert_close(change.sum(), (expected * toward).sum())


def test_an_empty_batch_and_the_input_transform_go_through():
    net = PointNetEncoder((8, 16), (4,), input_transform=True, batch_norm=False, negative_slope=0.1)
    assert net(torch.zeros(0, 300, 3)).shape == (0, 4)
    x = torch.randn(2, 300, 3, requires_grad=True)
    net(x).sum().backward()
    assert x.grad.any()
    assert all(p.grad is not None for p in net.parameters())


def test_the_encoders_gradients_are_the_same_either_way(monkeypatch):
    """A whole critic update in single precision, loss and gradients, with the pass and without."""
    torch.manual_seed(0)
    net = PointNetEncoder((16, 32, 64), (8, 1), batch_norm=False, negative_slope=0.2)
    real, fake = torch.randn(4, 256, 3), torch.rand(4, 256, 3)
    found = []
    for least in (128, 10**9):
        monkeypatch.setattr(critical, "_LEAST_POINTS", least)
        between = ((real + fake) / 2).requires_grad_()
        (gradient,) = torch.autograd.grad(net(between).sum(), between, create_graph=True)
        penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        loss = net(fake).mean() - net(real).mean() + 10 * penalty
        found.append([loss, *torch.autograd.grad(loss, net.parameters(), allow_unused=True)])
    assert sum(g is not None and bool(g.any()) for g in found[0]) >= 7
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("batch_norm", [False, True])
def test_on_a_gpu_it_is_the_same(batch_norm):
    net, x = network(batch_norm=batch_norm), torch.randn(4, 300, 3, dtype=torch.float64)
    expected = derivatives(plainly, net.layers, x)
    given = derivatives(max_over_points, net.cuda().layers, x.cuda())
    assert_same([g if g is None else g.cpu() for g in given], expected)
