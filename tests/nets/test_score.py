"""The score network of Generative PointNet, and its kernel for frozen parameters beside the plain way."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import grad, vmap

from pcgen.errors import ConfigurationError, DataError
from pcgen.nets import PointNetScore, frozen
from pcgen.ops import langevin, langevin_map

NORMS = ["channel", "paper", "none"]
DOUBLE = torch.float64


def network(norm="channel", widths=(8, 13), head_widths=(6, 5), *, points=9, dtype=DOUBLE):
    """A network with frozen parameters, its normalisations with scales and shifts of either sign."""
    torch.manual_seed(1)
    net = PointNetScore(widths, head_widths, norm, points if norm == "paper" else None).to(dtype)
    for module in net.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.uniform_(module.bias, 0.3, 1)  # or a head of few channels may be dead
    return net.requires_grad_(requires_grad=False)


def clouds(batch=3, points=9, dtype=DOUBLE):
    return torch.randn(batch, points, 3, dtype=dtype, generator=torch.Generator().manual_seed(2))


def value_and_gradient(score, x):
    x = x.clone().requires_grad_()
    f = score(x)
    return f.detach(), torch.autograd.grad(f.sum(), x)[0]


def naively(net, cloud):
    """The score of one cloud by NumPy: points in rows, one layer after the other."""
    h = cloud.numpy()
    for layer in net.points:
        h = h @ layer.linear.weight[:, :, 0].numpy().T
        h = h if layer.linear.bias is None else h + layer.linear.bias.numpy()
        if net.norm != "none":
            h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
            scale, shift = layer.norm.weight.numpy(), layer.norm.bias.numpy()
            h = h * scale + shift if net.norm == "channel" else h * scale[:, None] + shift[:, None]
        h = np.maximum(h, 0)
    h = h.mean(0)
    linear = [layer for layer in net.head if isinstance(layer, nn.Linear)]
    for layer in linear[:-1]:
        h = np.maximum(layer.weight.numpy() @ h + layer.bias.numpy(), 0)
    return (linear[-1].weight.numpy() @ h + linear[-1].bias.numpy())[0]


@pytest.fixture
def computed(monkeypatch):
    """How many batches went through the kernel."""
    calls = []
    kernel = frozen._computed
    monkeypatch.setattr(frozen, "_computed", lambda *args, **options: calls.append(1) or kernel(*args, **options))
    return calls


# ── what the network is ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_published_configuration_has_1_39_million_parameters():
    net = PointNetScore((64, 128, 256, 512, 1024), (512, 256, 64), "paper", 2048)
    assert sum(p.numel() for p in net.parameters()) == 1_391_617
    assert PointNetScore().num_features == 1984


@pytest.mark.parametrize("norm", NORMS)
def test_scores_are_those_of_the_equations(norm, computed):
    net, x = network(norm), clouds()
    expected = [naively(net, cloud) for cloud in x]
    np.testing.assert_allclose(net(x), expected, rtol=1e-10)
    np.testing.assert_allclose(net._plainly(x), expected, rtol=1e-10)
    assert len(computed) == 1


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("frozen_parameters", [True, False])
def test_derivatives_agree_with_finite_differences(norm, frozen_parameters, computed):
    net, x = (
        network(norm, (5, 7), points=4).requires_grad_(requires_grad=not frozen_parameters),
        clouds(2, 4).requires_grad_(),
    )
    assert torch.autograd.gradcheck(net, x, atol=1e-7)
    assert torch.autograd.gradgradcheck(lambda x: net(x).square(), x, atol=1e-6)  # or "none" would have no second
    assert bool(computed) == frozen_parameters


@pytest.mark.parametrize("norm", NORMS)
def test_the_order_of_the_points_matters_with_the_published_norm_alone(norm):
    net, x = network(norm), clouds()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    f, g = value_and_gradient(net, x)
    f_moved, g_moved = value_and_gradient(net, x[:, order])
    assert net.permutation_invariant == (norm != "paper")
    assert torch.allclose(f, f_moved, rtol=1e-12) == net.permutation_invariant
    assert torch.allclose(g[:, order], g_moved, rtol=1e-9) == net.permutation_invariant


def test_features_are_the_largest_activations_of_every_layer():
    net, x = network(), clouds()
    seen = []
    for layer in net.points:
        layer.register_forward_hook(lambda module, given, h: seen.append(h.amax(2)))
    assert torch.equal(net.features(x), torch.cat(seen, 1))
    assert net.features(x).shape == (3, net.num_features)


@pytest.mark.parametrize("norm", ["channel", "none"])
@pytest.mark.parametrize("points", [2, 17, 130])
def test_any_number_of_points(norm, points):
    assert network(norm)(clouds(points=points)).shape == (3,)


@pytest.mark.parametrize("asking", [True, False])
def test_a_network_for_other_points_says_so(asking):
    net = network("paper").requires_grad_(requires_grad=asking)
    with pytest.raises(DataError, match=r"9 points and got 7.*num_points"):
        net(clouds(points=7))
    with pytest.raises(DataError, match="batch dimension"):
        net(clouds()[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": ()}, "widths is empty"),
        ({"widths": (4, 0)}, "width is 0"),
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"norm": "paper"}, "needs the number of points"),
        ({"num_points": 5}, "no other norm has one"),
        ({"norm": "paper", "num_points": 0}, "num_points is 0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        PointNetScore(**arguments)


def test_half_precision_scores_are_given_in_single():
    assert network(dtype=torch.bfloat16)(clouds(dtype=torch.bfloat16)).dtype == torch.float32


# ── the kernel beside the plain way ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("widths", "points"),
    [
        ((5,), 2),  # one layer, fewer channels than a block
        ((6, 12, 131), 64),  # whole blocks of channels and points; more summands than a panel backwards
        ((300, 7), 65),  # more summands than two panels forwards
        ((4, 9, 8), 200),
    ],
)
def test_kernel_and_autograd_agree(norm, widths, points, computed):
    net, x = network(norm, widths, points=points, dtype=torch.float32), clouds(5, points, torch.float32)
    exact_net = network(norm, widths, points=points)
    exact_net.load_state_dict(net.state_dict())
    exact = value_and_gradient(exact_net._plainly, x.double())
    for mine, theirs in zip(value_and_gradient(net, x), exact, strict=True):
        assert (mine - theirs).abs().max() < 1e-4 * theirs.abs().max()
    for mine, theirs in zip(value_and_gradient(exact_net, x.double()), exact, strict=True):
        assert (mine - theirs).abs().max() < 1e-11 * theirs.abs().max()
    assert len(computed) == 2


def test_a_head_of_one_layer():
    net, x = network(head_widths=()), clouds()
    for mine, theirs in zip(value_and_gradient(net, x), value_and_gradient(net._plainly, x), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_cloud_far_from_the_origin_keeps_its_gradient():
    """A mean a thousand times the deviation: the normalisation must take it away before it squares."""
    net, x = network(dtype=torch.float32), 0.3 * clouds(dtype=torch.float32)
    exact = network()
    exact.load_state_dict(net.state_dict())
    moved = x + 300
    _, expected = value_and_gradient(exact._plainly, moved.double())
    _, mine = value_and_gradient(net, moved)
    _, plain = value_and_gradient(net._plainly, moved)
    assert (mine - expected).abs().max() < 3 * (plain - expected).abs().max() + 1e-5 * expected.abs().max()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("held", [1, 1 << 18])
def test_a_clouds_numbers_depend_on_no_other_cloud_nor_on_threads(threads, held, monkeypatch):
    net, x = network(dtype=torch.float32), clouds(9, dtype=torch.float32)
    expected = [value_and_gradient(net, cloud[None]) for cloud in x]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(frozen, "_HELD", held)
    f, g = value_and_gradient(net, x)
    assert torch.equal(f, torch.cat([one[0] for one in expected]))
    assert torch.equal(g, torch.cat([one[1] for one in expected]))
    with torch.no_grad():
        assert torch.equal(net(x), f)


def test_clouds_are_read_in_any_layout_and_not_written_to(computed):
    net, x = network(), clouds()
    before = x.clone()
    strided = torch.randn(9, 6, 3, dtype=DOUBLE).transpose(0, 1)[::2]
    strided.copy_(x)
    f, g = value_and_gradient(net, x)
    leaf = strided.requires_grad_()
    assert torch.equal(net(leaf), f)
    assert torch.equal(torch.autograd.grad(net(leaf).sum(), leaf)[0], g)
    assert torch.equal(x, before)
    assert len(computed) == 3


def test_chains_in_inference_mode_and_their_exact_gradient(computed, monkeypatch):
    net, z = network(), clouds().requires_grad_()

    def energy(x):
        return x.square().sum((1, 2)) - 50 * net(x)

    options = {"steps": 3, "step_size": 0.3}
    with torch.inference_mode():
        end = langevin(energy, z.detach(), temperature=0.0, **options)
        assert net(end).shape == (3,)
    moved = langevin_map(energy, z, **options)
    (back,) = torch.autograd.grad(moved.square().sum(), z)
    assert torch.equal(moved, end)
    assert len(computed) == 10  # three steps, one score, three steps, and three on the way back
    monkeypatch.setattr(frozen, "is_computed", lambda *_: False)
    plain = langevin_map(energy, z, **options)
    torch.testing.assert_close(moved, plain)
    torch.testing.assert_close(back, torch.autograd.grad(plain.square().sum(), z)[0])


def test_not_a_number_stays_visible():
    net, x = network(), clouds()
    x[1, 4, 0] = torch.nan
    f, g = value_and_gradient(net, x)
    assert f.isnan().tolist() == [False, True, False]
    assert g.isnan().any((1, 2)).tolist() == [False, True, False]


def test_changed_parameters_are_read_anew_and_a_change_before_the_backward_pass_is_noticed():
    net, x = network(), clouds().requires_grad_()
    f = net(x)
    net.points[0].norm.weight.data.mul_(2)  # leaves no trace in the parameter's version
    torch.testing.assert_close(net(x), net._plainly(x))
    assert not torch.allclose(f, net(x))
    g = net(x)
    net.points[0].norm.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        g.sum().backward()


# ── when the kernel is not taken ──────────────────────────────────────────────────────────────────────────────────


def test_a_parameter_that_asks_gets_its_gradient(computed):
    net, x = network(), clouds()
    net.points[0].linear.weight.requires_grad_()
    net(x).sum().backward()
    assert net.points[0].linear.weight.grad.abs().sum() > 0
    assert not computed
    with torch.no_grad():
        net(x)
    assert len(computed) == 1


class Doubled(PointNetScore):
    def local(self, x):
        yield from super().local(2 * x)


def test_what_is_not_the_network_as_it_stands_goes_the_plain_way(computed):
    x, net, seen = clouds(), network(), []
    net.points[0].linear.register_forward_hook(lambda *args: seen.append(1))
    net(x)
    assert seen
    doubled = Doubled((8, 13), (6, 5)).double().requires_grad_(requires_grad=False)
    doubled.load_state_dict(network().state_dict())
    torch.testing.assert_close(doubled(x), network()._plainly(2 * x))
    other = network()
    other.head[1] = nn.Softplus()
    torch.testing.assert_close(other(x), other._plainly(x))
    spectral = network()
    nn.utils.parametrizations.spectral_norm(spectral.points[1].linear)
    spectral.eval()(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(dtype=torch.float32)(x.float()).dtype == torch.float32
    assert not computed


def test_transforms_and_forward_derivatives_go_the_plain_way(computed):
    net, x = network(), clouds()
    expected = value_and_gradient(net._plainly, x)[1]
    torch.testing.assert_close(grad(lambda x: net(x).sum())(x), expected)
    torch.testing.assert_close(vmap(lambda cloud: net(cloud[None])[0])(x), net._plainly(x))
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(net(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
    torch.testing.assert_close(slope, expected.sum((1, 2)))
    assert not computed


def test_several_gradients_at_once(computed):
    """The gradient of each score, as torch batches them, is the same cloud's and no other's."""
    net, x = network(), clouds().requires_grad_()
    f = net(x)
    (batched,) = torch.autograd.grad(f, x, torch.eye(3, dtype=DOUBLE), is_grads_batched=True)
    expected = value_and_gradient(net._plainly, x.detach())[1]
    torch.testing.assert_close(batched[range(3), range(3)], expected)
    assert batched[0, 1:].abs().max() == 0
    assert len(computed) == 1


def test_no_clouds_and_single_points(computed):
    net = network()
    assert net(clouds(0)).shape == (0,)
    x = clouds(0).requires_grad_()
    assert torch.autograd.grad(net(x).sum(), x)[0].shape == (0, 9, 3)
    np.testing.assert_allclose(net(clouds(2, 1)), [naively(net, cloud) for cloud in clouds(2, 1)], rtol=1e-10)
    assert not computed
