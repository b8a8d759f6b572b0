"""The Fréchet distance: closed forms, SciPy's matrix root, torchmetrics' own, and singular covariances."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from pcgen.errors import DataError
from pcgen.ops import frechet_distance


def moments(n, d, seed, spread=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * spread + shift
    return torch.from_numpy(x.mean(0)), torch.from_numpy(np.cov(x, rowvar=False).reshape(d, d))


def by_scipy(mean1, cov1, mean2, cov2):
    root = sqrtm(cov1.numpy())
    inner = sqrtm(root @ cov2.numpy() @ root)
    return float(((mean1 - mean2) ** 2).sum() + cov1.trace() + cov2.trace() - 2 * np.trace(inner).real)


@pytest.mark.parametrize(("d", "seed"), [(1, 0), (2, 1), (7, 2), (40, 3)])
def test_against_scipy_and_torchmetrics(d, seed):
    from torchmetrics.image.fid import _compute_fid

    a, b = moments(500, d, seed), moments(400, d, seed + 10, spread=0.3, shift=2.0)
    value = frechet_distance(*a, *b)
    assert value.dtype == torch.float64
    assert value.ndim == 0
    assert value.item() == pytest.approx(by_scipy(*a, *b), rel=1e-9)
    assert value.item() == pytest.approx(_compute_fid(*a, *b).item(), rel=1e-9)
    assert value.item() == pytest.approx(frechet_distance(*b, *a).item(), rel=1e-12)


def test_closed_forms():
    # one dimension: (μ − μ')² + (σ − σ')²
    one = [torch.tensor(v, dtype=torch.float64) for v in ([1.0], [[4.0]], [-2.0], [[9.0]])]
    assert frechet_distance(*one).item() == pytest.approx(9 + 1, rel=1e-14)
    # covariances that commute: Σ (√λ − √λ')²
    q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    a, b = torch.tensor([0.0, 1, 4, 9, 1e-6]), torch.tensor([1.0, 1, 0, 16, 1e-6])
    zero = torch.zeros(5, dtype=torch.float64)
    found = frechet_distance(zero, (q * a) @ q.T, zero, (q * b) @ q.T)
    assert found.item() == pytest.approx(1 + 0 + 4 + 1 + 0, rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(5, 60), (3, 200), (150, 128)])
def test_a_singular_covariance_costs_no_digits(n, d):
    mean, cov = moments(n, d, seed=n)
    # shifted alone: the distance is the shift's square, and the same data are at 0 to rounding
    scale = cov.trace().item()
    assert frechet_distance(mean, cov, mean, cov).item() <= 1e-13 * scale
    moved = frechet_distance(mean, cov, mean + 0.5, cov)
    assert moved.item() == pytest.approx(0.25 * d, abs=1e-12 * scale)
    # two singular ones on orthogonal subspaces share nothing: the traces add
    a, b = torch.zeros(d, d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
    half = d // 2
    a[:half, :half], b[half:, half:] = cov[:half, :half], cov[half:, half:]
    expected = (a.trace() + b.trace()).item()
    assert frechet_distance(mean, a, mean, b).item() == pytest.approx(expected, rel=1e-12)


def test_singular_against_the_nuclear_norm_of_the_data():
    # tr (Σ^½ Σ' Σ^½)^½ is the nuclear norm of X Yᵀ for centred X, Y with Σ = XᵀX, Σ' = YᵀY: no root of Σ at all
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 50)), rng.normal(size=(9, 50))
    expected = np.trace(x.T @ x) + np.trace(y.T @ y) - 2 * np.linalg.norm(x @ y.T, "nuc")
    zero = torch.zeros(50, dtype=torch.float64)
    found = frechet_distance(zero, torch.from_numpy(x.T @ x), zero, torch.from_numpy(y.T @ y))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_rotation_and_zero():
    a, b = moments(100, 6, 0), moments(100, 6, 1)
    q = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    turned = (q @ a[0], q @ a[1] @ q.T, q @ b[0], q @ b[1] @ q.T)
    assert frechet_distance(*turned).item() == pytest.approx(frechet_distance(*a, *b).item(), rel=1e-10)
    zero = torch.zeros(3), torch.zeros(3, 3)
    assert frechet_distance(*zero, *zero).item() == 0.0


def test_rounding_is_forgiven_and_nonsense_is_not():
    mean, cov = moments(50, 4, 0)
    frechet_distance(mean.float(), cov.float(), mean, cov)  # rounded to float32
    dented = torch.diag(torch.tensor([1.0, 1.0, -1e-9, 0.0], dtype=torch.float64))
    assert frechet_distance(mean, dented, mean, dented).item() < 1e-12
    eye = torch.eye(4, dtype=torch.float64)
    with pytest.raises(DataError, match=r"cov2 has the eigenvalue -0\.5"):
        frechet_distance(mean, eye, mean, torch.diag(torch.tensor([1.0, 1, 1, -0.5])))
    with pytest.raises(DataError, match="cov1 differs from its transpose by up to 1"):
        frechet_distance(mean, eye + torch.triu(torch.ones(4, 4), 1), mean, eye)
    with pytest.raises(DataError, match="mean1 is not finite"):
        frechet_distance(mean * torch.nan, eye, mean, eye)
    with pytest.raises(DataError, match="cov2 is not finite"):
        frechet_distance(mean, eye, mean, eye * torch.inf)
    with pytest.raises(DataError, match=r"mean1 .*\(4,\).*mean2 .*\(3,\)"):
        frechet_distance(mean, eye, mean[:3], eye[:3, :3])
    with pytest.raises(DataError, match=r"cov1 \(3, 4\)"):
        frechet_distance(mean, eye[:3], mean, eye)
