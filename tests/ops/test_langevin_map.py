"""The chain without noise as a map: its gradient against finite differences and against autograd through every step."""

import gc

import pytest
import torch
from torch import nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.nets import PointNetScore
from pcgen.ops import energy_gradient, langevin, langevin_map


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def smooth():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    return lambda x: 3 * net(x.flatten(1)).squeeze(1) + x.square().flatten(1).sum(1) / 2


def score():
    torch.manual_seed(1)
    net = PointNetScore((8, 12), (6,)).double()
    return lambda x: x.square().sum((1, 2)) - 40 * net(x)


def unrolled(energy, z, steps, step_size, clamp=None):
    x = z
    for _ in range(steps):
        (slope,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
        x = x - step_size**2 / 2 * slope
        x = x if clamp is None else x.clamp(-clamp, clamp)
    return x


OPTIONS = {"steps": 5, "step_size": 0.5}


def test_exact_gradient_against_finite_differences():
    energy, z = smooth(), normal(2, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: langevin_map(energy, z, **OPTIONS), (z,))
    # Not the identity's gradient, which straight-through would give.
    assert not torch.allclose(
        *(torch.autograd.grad(langevin_map(energy, z, gradient=g, **OPTIONS).square().sum(), z)[0]
          for g in ("exact", "straight-through")),
        rtol=0.05,
    )  # fmt: skip


@pytest.mark.parametrize("clamp", [None, 0.6])
@pytest.mark.parametrize("make", [smooth, score])
def test_exact_gradient_against_autograd_through_the_chain(make, clamp):
    energy = make()
    z = (0.8 * normal(3, *((4, 3) if make is score else (3, 2)), seed=2)).requires_grad_()
    v = normal(*z.shape, seed=3)
    expected = unrolled(energy, z, clamp=clamp, **OPTIONS)
    assert clamp is None or 0 < (expected.abs() == clamp).double().mean() < 1  # both sides are seen
    out = langevin_map(energy, z, clamp=clamp, **OPTIONS)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(torch.autograd.grad(out, z, v)[0], torch.autograd.grad(expected, z, v)[0])


def test_it_is_the_chain_without_noise():
    energy, z = smooth(), normal(4, 3, 2)
    assert torch.equal(
        langevin_map(energy, z, clamp=1.0, **OPTIONS), langevin(energy, z, temperature=0, clamp=1.0, **OPTIONS)
    )


def test_straight_through_is_the_identity_where_no_step_was_clamped():
    energy, z = smooth(), (0.8 * normal(3, 3, 2, seed=2)).requires_grad_()
    v = normal(3, 3, 2, seed=3)
    given = torch.autograd.grad(langevin_map(energy, z, gradient="straight-through", **OPTIONS), z, v)[0]
    assert torch.equal(given, v)
    out = langevin_map(energy, z, gradient="straight-through", clamp=0.6, **OPTIONS)
    inside, x = torch.ones_like(z), z.detach()
    for _ in range(OPTIONS["steps"]):
        x = x - OPTIONS["step_size"] ** 2 / 2 * energy_gradient(energy, x)
        inside = inside * (x.abs() <= 0.6)
        x = x.clamp(-0.6, 0.6)
    assert 0 < inside.mean() < 1
    assert torch.equal(torch.autograd.grad(out, z, v)[0], v * inside)


@pytest.mark.parametrize("gradient", ["exact", "straight-through"])
@pytest.mark.parametrize("clamp", [None, 0.5])
def test_linear_energies(gradient, clamp):
    weight = nn.Parameter(torch.tensor([1.0, -1.0]))
    for energy in (lambda x: x.sum(1), lambda x: (x * weight).sum(1), lambda x: x @ weight.detach()):
        z = torch.tensor([[0.1, 0.2], [3.0, -0.1]], requires_grad=True)
        out = langevin_map(energy, z, steps=2, step_size=0.1, clamp=clamp, gradient=gradient)
        (given,) = torch.autograd.grad(out.sum(), z)
        assert torch.equal(given, torch.ones_like(z) if clamp is None else (z.detach().abs() < 0.5).float())
        assert weight.grad is None


@pytest.mark.parametrize("gradient", ["exact", "straight-through"])
@pytest.mark.parametrize("clamp", [None, 0.5])
def test_no_data_and_no_steps(gradient, clamp):
    energy = score()
    z = torch.zeros(0, 4, 3, dtype=torch.float64, requires_grad=True)
    out = langevin_map(energy, z, gradient=gradient, clamp=clamp, **OPTIONS)
    assert torch.autograd.grad(out.sum(), z)[0].shape == out.shape == (0, 4, 3)
    z = normal(2, 4, 3).requires_grad_()
    out = langevin_map(energy, z, steps=0, step_size=0.1, gradient=gradient)
    assert torch.equal(out, z)
    assert torch.equal(torch.autograd.grad(out.sum(), z)[0], torch.ones_like(z))
    with torch.no_grad():  # the result is not the argument under another name
        out.add_(1)
    assert not torch.equal(out, z)


@pytest.mark.parametrize("gradient", ["exact", "straight-through"])
@pytest.mark.parametrize("chunk_size", [1, 2, 9])
def test_chunks_change_nothing(gradient, chunk_size):
    sizes, energy, z = [], smooth(), (0.8 * normal(5, 3, 2)).requires_grad_()

    def counted(x):
        sizes.append(len(x))
        return energy(x)

    def both(energy, **more):
        out = langevin_map(energy, z, clamp=0.7, gradient=gradient, **OPTIONS, **more)
        return out.detach(), torch.autograd.grad(out.sin().sum(), z)[0]

    for a, b in zip(both(counted, chunk_size=chunk_size), both(energy), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert max(sizes) == min(chunk_size, 5)


def test_parameters_get_no_gradient_and_the_input_stays():
    torch.manual_seed(0)
    net = PointNetScore((8,), (4,))
    z = torch.randn(2, 5, 3, requires_grad=True)
    before = z.detach().clone()
    langevin_map(net, z, **OPTIONS).sum().backward()
    assert z.grad is not None
    assert torch.equal(z, before)
    assert all(p.grad is None for p in net.parameters())


def test_without_a_gradient_no_graph_and_no_states_are_kept():
    """As many tensors of the data's size live at the last step as at the second."""
    alive = []

    def energy(x):
        tensors = (t for t in gc.get_objects() if type(t) is torch.Tensor)
        alive.append(sum(t.numel() == 12_345 and t.dtype == torch.float64 for t in tensors))
        return x.square().sum(1)

    z = normal(1, 12_345)
    out = langevin_map(energy, z, steps=6, step_size=0.1)
    assert not out.requires_grad
    assert alive[1] == alive[-1]
    alive.clear()
    langevin_map(energy, z.requires_grad_(), steps=6, step_size=0.1)
    assert alive[-1] == alive[1] + 4  # where they are kept they are seen
    with torch.no_grad():
        assert not langevin_map(energy, z, steps=1, step_size=0.1).requires_grad


def test_a_second_derivative_is_refused():
    z = normal(2, 3, 2).requires_grad_()
    (once,) = torch.autograd.grad(langevin_map(smooth(), z, **OPTIONS).square().sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        once.sum().backward()


def test_errors():
    z = torch.zeros(2, 3, requires_grad=True)
    with pytest.raises(ConfigurationError, match=r'gradient is "?\'?guess.*choose "exact" or "straight-through"'):
        langevin_map(lambda x: x.sum(1), z, gradient="guess", **OPTIONS)
    with pytest.raises(ConfigurationError, match="steps is -1"):
        langevin_map(lambda x: x.sum(1), z, steps=-1, step_size=0.1)
    with pytest.raises(DataError, match="one number for each datum"):
        langevin_map(lambda x: x, z, **OPTIONS)
