"""Kernel MMD²: loops in float64, closed forms of normal distributions, the U-statistic's mean, blocks and gradients."""

import math

import pytest
import torch

from pcgen.errors import ConfigurationError, DataError
from pcgen.ops import (
    GaussianKernel,
    InverseMultiquadratic,
    MultiscaleInverseMultiquadratic,
    PolynomialKernel,
    kernel_mmd2,
    kernels,
)
from pcgen.recipe import build, describe


def normal(n, d, seed=0, dtype=torch.float64):
    return torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def imq(a, b):
    return 1 / (1 + sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def multiscale(a, b):
    squared = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    return sum(2 * len(a) * s / (2 * len(a) * s + squared) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))


def gaussian(a, b):
    return math.exp(-sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / (2 * 0.7**2))


def polynomial(a, b):
    return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3


KERNELS = [
    (InverseMultiquadratic(), imq),
    (MultiscaleInverseMultiquadratic(), multiscale),
    (GaussianKernel(0.7), gaussian),
    (PolynomialKernel(), polynomial),
]


def by_loops(x, y, k, unbiased):
    x, y = x.tolist(), y.tolist()
    n, m = len(x), len(y)
    if unbiased:
        xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    else:
        xx = sum(k(a, b) for a in x for b in x) / n**2
        yy = sum(k(a, b) for a in y for b in y) / m**2
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize(("kernel", "loop"), KERNELS)
@pytest.mark.parametrize(("n", "m", "d"), [(9, 9, 3), (5, 12, 1), (2, 3, 8)])
def test_against_loops(kernel, loop, n, m, d, unbiased):
    x, y = normal(n, d, 0), normal(m, d, 1) + 0.5
    found = kernel_mmd2(x, y, kernel=kernel, unbiased=unbiased)
    assert found.item() == pytest.approx(by_loops(x, y, loop, unbiased), rel=1e-11, abs=1e-14)
    assert kernel_mmd2(y, x, kernel=kernel, unbiased=unbiased).item() == pytest.approx(found.item(), abs=1e-13)


def test_the_default_is_the_waes():
    x, y = normal(6, 2), normal(7, 2, 1)
    assert kernel_mmd2(x, y).item() == pytest.approx(by_loops(x, y, imq, unbiased=False), rel=1e-12)
    assert kernel_mmd2(x, x).item() == 0.0
    assert kernel_mmd2(x[:1], y[:1]).item() > 0


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.0, 0.25), (1.0, 1.0)])
def test_normal_distributions_against_the_closed_form(mean, variance):
    """E exp(−(x−y)²/(2σ²)) of independent normals with difference N(δ, v) is σ/√(σ²+v) exp(−δ²/(2(σ²+v)))."""
    sigma2, n, times = 0.7**2, 300, 60

    def expected(shift, spread):
        return math.sqrt(sigma2 / (sigma2 + spread)) * math.exp(-(shift**2) / (2 * (sigma2 + spread)))

    truth = expected(0, 2.0) + expected(0, 2 * variance) - 2 * expected(mean, 1 + variance)
    found = torch.stack(
        [
            kernel_mmd2(
                normal(n, 1, 2 * s),
                normal(n, 1, 2 * s + 1) * math.sqrt(variance) + mean,
                kernel=GaussianKernel(0.7),
                unbiased=True,
            )
            for s in range(times)
        ]
    )
    assert abs(found.mean() - truth) < 4 * found.std() / math.sqrt(times)
    assert found.std() / math.sqrt(times) < 0.01


def test_the_u_statistic_is_unbiased_and_the_v_statistic_is_above_it():
    pairs = [(normal(8, 2, 2 * s), normal(8, 2, 2 * s + 1)) for s in range(400)]
    u = torch.stack([kernel_mmd2(*p, unbiased=True) for p in pairs])
    v = torch.stack([kernel_mmd2(*p) for p in pairs])
    assert abs(u.mean()) < 4 * u.std() / 20
    assert v.min() > 0
    assert v.mean() > 10 * u.std() / 20


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("kernel", [k for k, _ in KERNELS])
def test_gradients(kernel, unbiased):
    x, y = normal(5, 3).requires_grad_(), normal(4, 3, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: kernel_mmd2(a, b, kernel=kernel, unbiased=unbiased), (x, y))


def test_coinciding_points_have_a_gradient():
    x = normal(4, 3).requires_grad_()
    kernel_mmd2(x, x.detach()[:2]).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("kernel", [k for k, _ in KERNELS])
def test_blocks_of_rows_change_nothing(monkeypatch, kernel, unbiased):
    x, y = normal(57, 4).requires_grad_(), normal(43, 4, 1)
    whole = kernel_mmd2(x, y, kernel=kernel, unbiased=unbiased)
    (expected,) = torch.autograd.grad(whole, x)
    monkeypatch.setattr(kernels, "TILE", 10)
    blocks = kernel_mmd2(x, y, kernel=kernel, unbiased=unbiased)
    assert blocks.item() == pytest.approx(whole.item(), rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(blocks, x)[0], expected, rtol=1e-10, atol=1e-14)
    both = kernel_mmd2(y, (z := x.detach().requires_grad_()), kernel=kernel, unbiased=unbiased)
    torch.testing.assert_close(torch.autograd.grad(both, z)[0], expected, rtol=1e-10, atol=1e-14)
    with torch.no_grad():
        assert kernel_mmd2(x, y, kernel=kernel, unbiased=unbiased).item() == pytest.approx(whole.item(), rel=1e-12)


@pytest.mark.parametrize("n", [30, 400])
def test_far_from_the_origin_nothing_is_lost(n):
    x, y = normal(n, 3, dtype=torch.float32), normal(n, 3, 1, dtype=torch.float32)
    far = [(t.double() + 4096).float() for t in (x, y)]
    near = [(t.double() - 4096).float() for t in far]  # the same rounding without the shift
    assert kernel_mmd2(*far).item() == pytest.approx(kernel_mmd2(*near).item(), rel=1e-6)


def by_differences(x, y, k):
    """V-statistic and its gradient by x, from the differences of all pairs at once."""
    x = x.detach().requires_grad_()

    def mean(a, b):
        return k((a[:, None] - b[None]).square().sum(2)).mean()

    value = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    return value, torch.autograd.grad(value, x)[0]


PROFILES = [
    (InverseMultiquadratic(0.3), lambda s: 0.3 / (0.3 + s)),
    (GaussianKernel(0.7), lambda s: (-s / (2 * 0.7**2)).exp()),
    (MultiscaleInverseMultiquadratic((0.1, 2.0)), lambda s: 0.6 / (0.6 + s) + 12 / (12 + s)),
]


@pytest.mark.parametrize(("kernel", "profile"), PROFILES)
@pytest.mark.parametrize("place", ["near", "far", "pairs of twins", "spread"])
def test_many_pairs_are_as_exact_as_differences(monkeypatch, kernel, profile, place):
    """Large tiles come from a product of matrices, which must not show."""
    monkeypatch.setattr(kernels, "TILE", 150)
    x, y = normal(200, 3), normal(180, 3, 1) + 0.2
    if place == "far":
        x, y = x + 1e4, y + 1e4
    elif place == "pairs of twins":
        x[100:] = x[:100] + 1e-7
    elif place == "spread":  # so far that only differences see what is near
        x, y = x * 1e-3, y * 1e-3
        x[::2] += 1e7
        y[::3] -= 1e7
    z = x.clone().requires_grad_()
    value, (expected, gradient) = kernel_mmd2(z, y, kernel=kernel), by_differences(x, y, profile)
    assert value.item() == pytest.approx(expected.item(), rel=1e-7)
    torch.testing.assert_close(torch.autograd.grad(value, z)[0], gradient, rtol=1e-6, atol=1e-9)


def test_the_number_of_threads_stays_and_does_not_show(monkeypatch):
    monkeypatch.setattr(kernels, "TILE", 40)
    x, y, before = normal(90, 3), normal(70, 3, 1), torch.get_num_threads()
    try:
        values = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            values.append(kernel_mmd2(x, y))
            assert torch.get_num_threads() == threads
        with pytest.raises(RuntimeError, match="broken"):
            kernel_mmd2(x, y, kernel=_broken)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert values[0] == values[1]


def _broken(a, b):
    raise RuntimeError("broken")


def test_half_precision_is_computed_in_float32():
    x, y = normal(20, 3).half(), normal(20, 3, 1).half()
    assert kernel_mmd2(x, y).item() == kernel_mmd2(x.float(), y.float()).item()


@pytest.mark.parametrize("kernel", [k for k, _ in KERNELS])
def test_kernels_are_recorded(kernel):
    x, y = normal(3, 4), normal(2, 4, 1)
    assert torch.equal(build(describe(kernel))(x, y), kernel(x, y))


def test_refusals():
    x = normal(4, 3)
    with pytest.raises(DataError, match="two samples of one space"):
        kernel_mmd2(x, normal(4, 2))
    with pytest.raises(DataError, match="one floating-point dtype"):
        kernel_mmd2(x, x.float())
    with pytest.raises(DataError, match="at least 2"):
        kernel_mmd2(x, x[:1], unbiased=True)
    with pytest.raises(DataError, match="at least 1"):
        kernel_mmd2(x, x[:0])
    bad = x.clone()
    bad[2, 1] = torch.nan
    with pytest.raises(DataError, match=r"y\[2\] is not finite"):
        kernel_mmd2(x, bad)
    with pytest.raises(ConfigurationError, match="scale is 0"):
        InverseMultiquadratic(0.0)
    with pytest.raises(ConfigurationError, match="bandwidth is -1"):
        GaussianKernel(-1.0)
    with pytest.raises(ConfigurationError, match="scales is empty"):
        MultiscaleInverseMultiquadratic(())
    with pytest.raises(ConfigurationError, match="degree is 0"):
        PolynomialKernel(0)
    with pytest.raises(ConfigurationError, match="offset is nan"):
        PolynomialKernel(offset=float("nan"))
