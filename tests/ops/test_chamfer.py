"""The Chamfer distance against its definition."""

import pytest
import torch
from scipy.spatial import cKDTree

from pcgen.errors import ConfigurationError
from pcgen.ops import chamfer_distance


def definition(x, y, norm, reduction):
    d = (x[:, :, None] - y[:, None]).square().sum(3)
    d = d if norm == 2 else d.sqrt()
    there, back = d.min(2)[0], d.min(1)[0]
    return there.mean(1) + back.mean(1) if reduction == "mean" else there.sum(1) + back.sum(1)


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_the_definition_and_its_gradient(surfaces, norm, reduction, dtype):
    x, y = surfaces(3, 130, 1, dtype).requires_grad_(), surfaces(3, 77, 2, dtype).requires_grad_()
    ours = chamfer_distance(x, y, norm=norm, reduction=reduction)
    gradients = torch.autograd.grad(ours.sum(), (x, y))
    x64, y64 = (t.detach().double().requires_grad_() for t in (x, y))
    expected = definition(x64, y64, norm, reduction)
    rtol = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(ours.double(), expected, rtol=rtol, atol=0)
    assert ours.dtype == dtype
    for g, e in zip(gradients, torch.autograd.grad(expected.sum(), (x64, y64)), strict=True):
        torch.testing.assert_close(g.double(), e, rtol=1e-5, atol=rtol)


@pytest.mark.parametrize("norm", [1, 2])
def test_gradcheck(surfaces, norm):
    x, y = (surfaces(2, n, n, torch.float64).requires_grad_() for n in (7, 11))
    assert torch.autograd.gradcheck(lambda x, y: chamfer_distance(x, y, norm=norm, reduction="sum"), (x, y))


@pytest.mark.parametrize("norm", [1, 2])
def test_equal_clouds_have_distance_zero_and_gradient_zero(surfaces, norm):
    x = surfaces(2, 40).requires_grad_()
    d = chamfer_distance(x, x.detach()[:, torch.randperm(40)], norm=norm)
    d.sum().backward()
    assert torch.equal(d, torch.zeros(2))
    assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("shift", [0.0, 1000.0])
@pytest.mark.parametrize("norm", [1, 2])
def test_relative_error_stays_below_a_millionth_also_far_away(chairs, shift, norm):
    x, y = chairs[:4] + shift, chairs[4:8] + shift
    ours = chamfer_distance(x, y, norm=norm)
    for b in range(4):
        there, back = cKDTree(y[b].double()).query(x[b].double())[0], cKDTree(x[b].double()).query(y[b].double())[0]
        exact = (there**norm).mean() + (back**norm).mean()
        assert abs(float(ours[b]) / exact - 1) < 1e-6


def test_symmetry_and_invariance(surfaces):
    x, y = surfaces(2, 200, 1, torch.float64), surfaces(2, 150, 2, torch.float64)
    d = chamfer_distance(x, y)
    assert torch.equal(d, chamfer_distance(y, x))
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    torch.testing.assert_close(chamfer_distance(x @ turn + 3, y @ turn + 3), d)
    torch.testing.assert_close(chamfer_distance(x[:, torch.randperm(200)], y), d)
    torch.testing.assert_close(chamfer_distance(5 * x, 5 * y, norm=1), 5 * chamfer_distance(x, y, norm=1))


def test_options_are_checked(surfaces):
    x = surfaces(1, 5)
    with pytest.raises(ConfigurationError, match="norm is 3"):
        chamfer_distance(x, x, norm=3)
    with pytest.raises(ConfigurationError, match="reduction is 'max'"):
        chamfer_distance(x, x, reduction="max")
