"""The Sinkhorn divergence against a log-domain loop in float64, the exact assignment, and differences."""

import builtins
import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pcgen.errors import ConfigurationError, DataError
from pcgen.losses import SinkhornDivergence, sinkhorn_divergence
from pcgen.recipe import build, describe


def spheres(n, seed, scale=(1.0, 1.0, 1.0), clouds=1):
    x = torch.randn(clouds, n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=2, keepdim=True) * torch.tensor(scale, dtype=torch.float64)


def entropic(x, y, temperature, p):
    """min ⟨π, C⟩ + ε KL(π | uniform) by alternating soft minima until nothing moves: the dual's value."""
    cost = (x[:, None] - y[None]).square().sum(-1) ** (p / 2)
    f = torch.zeros(len(x), dtype=torch.float64)
    for _ in range(3000):
        g = -temperature * (((f[:, None] - cost) / temperature).logsumexp(0) - math.log(len(x)))
        new = -temperature * (((g[None] - cost) / temperature).logsumexp(1) - math.log(len(y)))
        moved, f = (new - f).abs().max(), new
        if moved < 1e-10:
            break
    else:
        pytest.fail("the reference has not converged")
    return (f.mean() + g.mean()).item()


def by_loop(x, y, blur, p):
    e = p * blur**p
    return entropic(x, y, e, p) - entropic(x, x, e, p) / 2 - entropic(y, y, e, p) / 2


@pytest.mark.parametrize(("p", "blur"), [(2, 0.5), (2, 0.2), (1, 0.3), (1, 0.15)])
def test_against_the_loop(p, blur):
    x, y = spheres(40, 0, (0.8, 0.8, 0.8)), spheres(55, 1, (1.0, 0.5, 0.7)) + 0.1
    expected = by_loop(x[0], y[0], blur, p)
    values = [sinkhorn_divergence(x, y, blur=blur, p=p, scaling=scaling).item() for scaling in (0.7, 0.9, 0.995)]
    errors = [abs(value / expected - 1) for value in values]
    assert errors[2] < 2e-3
    assert errors[1] < 0.05
    assert errors[2] < errors[1] < errors[0]
    single = sinkhorn_divergence(x.float(), y.float(), blur=blur, p=p).item()
    assert single == pytest.approx(sinkhorn_divergence(x, y, blur=blur, p=p).item(), rel=1e-4)


@pytest.mark.parametrize("p", [1, 2])
def test_a_small_blur_gives_the_earth_movers_distance(p):
    x, y = spheres(30, 2), spheres(30, 3, (0.7, 0.7, 0.7)) + 0.2
    cost = (x[0, :, None] - y[0]).norm(dim=-1).pow(p).numpy()
    rows, columns = linear_sum_assignment(cost)
    exact = cost[rows, columns].mean()
    errors = [abs(sinkhorn_divergence(x, y, blur=b, p=p, scaling=0.98).item() / exact - 1) for b in (1.0, 0.2, 0.005)]
    assert errors[2] < 0.01
    assert errors[2] < max(errors)


def test_a_large_blur_gives_the_squared_distance_of_the_means():
    x, y = spheres(30, 4), spheres(50, 5, (0.5, 0.5, 0.5)) + torch.tensor([0.3, 0.0, 0.4])
    expected = (x.mean(1) - y.mean(1)).square().sum().item()
    assert sinkhorn_divergence(x, y, blur=100.0).item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_cloud_is_at_zero_from_itself_with_gradient_zero(p, dtype):
    x = spheres(60, 6).to(dtype).requires_grad_()
    value = sinkhorn_divergence(x, x.detach(), p=p)
    assert value.item() == pytest.approx(0, abs=1e-6)
    value.sum().backward()
    assert x.grad.abs().max() < 1e-5
    permuted = x.detach()[:, torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    assert sinkhorn_divergence(x.detach(), permuted, p=p).item() == pytest.approx(0, abs=1e-5)


def test_symmetry_shift_and_distance_from_the_origin():
    x, y = spheres(40, 7), spheres(50, 8, (0.6, 0.9, 0.8))
    value = sinkhorn_divergence(x, y).item()
    assert value > 0
    assert sinkhorn_divergence(y, x).item() == pytest.approx(value, rel=1e-9)
    assert sinkhorn_divergence(2 * x, 2 * y, blur=0.1).item() == pytest.approx(4 * value, rel=1e-9)
    far = [(t + 512).float() for t in (x, y)]
    near = [(t.double() - 512).float() for t in far]
    assert sinkhorn_divergence(*far).item() == pytest.approx(sinkhorn_divergence(*near).item(), rel=1e-4)


@pytest.mark.parametrize("p", [1, 2])
def test_gradient_against_differences(p):
    """Both sides; the potentials are taken as converged, so they must be."""
    x, y = spheres(12, 9).requires_grad_(), (spheres(15, 10, (0.7, 0.7, 0.7)) + 0.1).requires_grad_()

    def loss(a, b):
        return sinkhorn_divergence(a, b, blur=0.5, p=p, scaling=0.99).sum()

    gradients = torch.autograd.grad(loss(x, y), (x, y))
    for which, gradient in enumerate(gradients):
        direction = torch.randn(gradient.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(which))
        sides = []
        for step in (1e-4, -1e-4):
            moved = [x.detach(), y.detach()]
            moved[which] = moved[which] + step * direction
            sides.append(loss(*moved).item())
        assert (gradient * direction).sum().item() == pytest.approx((sides[0] - sides[1]) / 2e-4, rel=0.02, abs=1e-4)


def test_descent_moves_a_cloud_onto_another():
    x, y = spheres(40, 11).requires_grad_(), spheres(40, 12, (0.5, 0.5, 0.5)) + 0.5
    before = sinkhorn_divergence(x, y).item()
    for _ in range(15):
        (gradient,) = torch.autograd.grad(sinkhorn_divergence(x, y, scaling=0.8).sum(), x)
        with torch.no_grad():
            x -= 0.3 * 40 * gradient
    assert sinkhorn_divergence(x, y).item() < 0.02 * before


def test_batches():
    x, y = spheres(30, 13, clouds=3), spheres(20, 14, (0.8, 0.8, 0.8), clouds=3)
    batch = sinkhorn_divergence(x, y)
    assert batch.shape == (3,)
    for i in range(3):
        assert batch[i].item() == pytest.approx(sinkhorn_divergence(x[i : i + 1], y[i : i + 1]).item(), rel=1e-9)
    assert sinkhorn_divergence(x[:0], y[:0]).shape == (0,)
    assert sinkhorn_divergence(torch.zeros(1, 3, 3), torch.zeros(1, 2, 3)).item() == 0.0


def test_gradients_stay_switched_off():
    x = spheres(10, 15).requires_grad_()
    with torch.no_grad():
        value = sinkhorn_divergence(x, x.detach() + 0.1)
        assert not torch.is_grad_enabled()
    assert not value.requires_grad
    assert torch.is_grad_enabled()


def test_the_module_is_the_function_and_is_recorded():
    x, y = spheres(20, 16), spheres(25, 17) + 0.2
    loss = SinkhornDivergence(blur=0.2, p=1, scaling=0.8)
    again = build(describe(loss))
    expected = sinkhorn_divergence(x, y, blur=0.2, p=1, scaling=0.8)
    assert torch.equal(loss(x, y), expected)
    assert torch.equal(again(x, y), expected)
    half = SinkhornDivergence()(x.half(), y.half())
    assert half.dtype == torch.float32


def test_refusals():
    x = spheres(10, 18)
    for options, said in (
        ({"blur": 0.0}, "blur is 0.0"),
        ({"p": 3}, "p is 3"),
        ({"scaling": 1.0}, "scaling is 1.0"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            SinkhornDivergence(**options)
    bad = x.clone()
    bad[0, 3, 1] = torch.nan
    with pytest.raises(DataError, match=r"y\[0\] is not finite"):
        sinkhorn_divergence(x, bad)
    with pytest.raises(DataError, match="different numbers of clouds"):
        sinkhorn_divergence(x, spheres(10, 0, clouds=2))


def test_a_missing_library_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "geomloss":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationError, match="pip install geomloss"):
        sinkhorn_divergence(spheres(5, 0), spheres(5, 1))
