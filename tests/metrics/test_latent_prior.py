"""A code against its prior and by itself: closed forms, loops, drawn distributions, order, precision and refusals."""

import math

import numpy as np
import pytest
import torch

from pcgen.errors import DataError
from pcgen.metrics import ActiveUnits, KLPerDimension, LatentMMD
from pcgen.metrics import functional as F
from pcgen.ops import GaussianKernel, InverseMultiquadratic, MultiscaleInverseMultiquadratic, PolynomialKernel


def normal(n, d, seed=1, dtype=torch.float64):
    return torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# Kernel distance to the prior


@pytest.mark.parametrize("unbiased", [False, True])
def test_mmd_against_loops(unbiased):
    codes = normal(12, 2) * 2 + 1
    prior = torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).tolist()

    def mean(a, b, *, same):
        pairs = [(p, q) for i, p in enumerate(a) for j, q in enumerate(b) if not (same and unbiased and i == j)]
        return sum(1 / (1 + math.dist(p, q) ** 2) for p, q in pairs) / len(pairs)

    z = codes.tolist()
    expected = mean(z, z, same=True) + mean(prior, prior, same=True) - 2 * mean(z, prior, same=False)
    assert F.latent_mmd2(codes, unbiased=unbiased, seed=5).item() == pytest.approx(expected, rel=1e-12)


def test_mmd_finds_what_differs_from_the_prior():
    good = normal(2000, 4)
    codes = {"good": good, "shifted": good + 0.3, "wide": 1.3 * good, "narrow": 0.7 * good}
    codes["dead latent"] = torch.cat([good[:, :3], torch.zeros(2000, 1)], 1)
    codes["twice the same"] = torch.cat([good[:, :3], good[:, :1]], 1)
    spread = F.latent_mmd2_of_prior(2000, 4).std
    found = {name: F.latent_mmd2(z).item() / spread for name, z in codes.items()}
    assert abs(found.pop("good")) < 4
    assert min(found.values()) > 20, found


def shrink(s2, d, v):
    """E exp(−‖u‖² / (2 s2)) for u ~ N(0, v I) of d dimensions."""
    return (s2 / (s2 + v)) ** (d / 2)


@pytest.mark.parametrize(("d", "bandwidth"), [(1, 1.0), (2, 0.7), (8, 2.0)])
def test_of_prior_against_the_closed_form_of_the_gaussian_kernel(d, bandwidth):
    s2, n = bandwidth**2, 50
    mean = shrink(s2, d, 2)  # E k(x, y)
    squared = shrink(s2 / 2, d, 2)  # E k(x, y)²
    shared = shrink(s2, d, 1) ** 2 * shrink((s2 + 1) / 2, d, 1)  # E k(x, y) k(x, y')
    zeta = squared - 2 * shared + mean**2
    kernel = GaussianKernel(bandwidth)
    u, v = (F.latent_mmd2_of_prior(n, d, kernel=kernel, unbiased=unbiased) for unbiased in (True, False))
    assert u.mean == 0.0
    assert u.std == pytest.approx(math.sqrt(4 * zeta / (n * (n - 1)) + 4 * zeta / n**2), rel=0.03)
    assert v.mean == pytest.approx(2 / n * (1 - mean), rel=0.02)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize(
    "kernel", [InverseMultiquadratic(), MultiscaleInverseMultiquadratic(), PolynomialKernel(degree=2)]
)
def test_of_prior_is_what_samples_of_the_prior_give(kernel, unbiased):
    n, d, times = 20, 3, 600
    expected = F.latent_mmd2_of_prior(n, d, kernel=kernel, unbiased=unbiased)
    found = torch.stack(
        [F.latent_mmd2(normal(n, d, 2 * s + 1), kernel=kernel, unbiased=unbiased, seed=2 * s) for s in range(times)]
    )
    assert abs(found.mean() - expected.mean) < 4 * found.std() / math.sqrt(times) + 0.03 * expected.mean
    assert found.std().item() == pytest.approx(expected.std, rel=0.15)


def test_neither_order_nor_batches_nor_precision_of_the_codes_shows():
    codes = normal(300, 3, dtype=torch.float32)
    shuffled = codes[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    value = F.latent_mmd2(codes)
    assert value.dtype == torch.float64
    assert F.latent_mmd2(shuffled) == value
    assert F.latent_mmd2(codes.double()) == value
    metric = LatentMMD()
    for part in shuffled.split(77):
        metric.update(part)
    assert metric.compute() == value
    assert not metric.state_dict()


def test_the_metrics_arguments_reach_the_function():
    codes = normal(50, 2, dtype=torch.float32)
    options = {"kernel": GaussianKernel(0.5), "unbiased": False, "seed": 3}
    metric = LatentMMD(**options)
    metric.update(codes)
    assert metric.compute() == F.latent_mmd2(codes, **options) != F.latent_mmd2(codes)
    units = ActiveUnits(threshold=1.5)
    units.update(codes * torch.tensor([1.0, 2.0]))
    assert units.compute().item() == 1


# Active units


def test_active_units_are_those_of_numpy():
    raw = normal(1000, 5)
    codes = (raw - raw.mean(0)) / raw.std(0, correction=0) * torch.tensor([1.0, 0.0, 0.101, 0.099, 3.0]) + 7
    expected = (np.var(codes.numpy(), axis=0) > 0.01).sum()
    assert F.active_units(codes).item() == expected == 3
    assert F.active_units(codes, threshold=1e-6).item() == 4
    metric = ActiveUnits()
    for part in codes.split(333):
        metric.update(part)
    assert metric.compute().item() == 3


def test_a_far_mean_is_no_variance():
    codes = torch.full((1000, 2), 1e4) + torch.tensor([0.0, 1.0]) * normal(1000, 2).float()
    assert F.active_units(codes).item() == 1


def test_the_two_counts_of_active_units_differ_where_they_should():
    """A code of a tenth of the prior's spread, told precisely: no active unit by its variance, one by its KL."""
    codes, sigma = 0.05 * normal(400, 1), 0.05
    kl = 0.5 * (codes.square() + sigma**2 - math.log(sigma**2) - 1)
    metric = KLPerDimension(1)
    metric.update(kl)
    assert F.active_units_by_kl(metric.compute()).item() == 1
    assert F.active_units(codes).item() == 0
    assert F.active_units_by_kl(torch.tensor([0.0101, 0.0099])).item() == 1


# Single, dead, refused


def test_single_and_dead_latents_give_numbers():
    for codes in (normal(30, 1), torch.zeros(30, 3), torch.cat([normal(30, 1), torch.ones(30, 1)], 1)):
        assert F.latent_mmd2(codes).isfinite()
        assert 0 <= F.active_units(codes) <= codes.shape[1]
    assert F.active_units(torch.zeros(30, 3)).item() == 0


@pytest.mark.parametrize("score", [F.latent_mmd2, F.active_units])
def test_functions_refuse(score):
    with pytest.raises(
        DataError, match=r"codes have shape \(7,\); give \(n, d\), codes\[:, None\] for a single latent"
    ):
        score(torch.zeros(7))
    with pytest.raises(DataError, match="1 codes are too few"):
        score(torch.zeros(1, 3))
    bad = normal(6, 2)
    bad[4, 1] = torch.inf
    with pytest.raises(DataError, match=r"codes\[4\] is not finite"):
        score(bad)


@pytest.mark.parametrize("make", [LatentMMD, ActiveUnits])
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_metrics_refuse(make):
    metric = make()
    with pytest.raises(DataError, match="0 codes are too few"):
        metric.compute()
    metric.update(torch.zeros(0, 2))  # an empty batch is none
    metric.update(normal(5, 2))
    with pytest.raises(DataError, match="codes of 3 latents after codes of 2"):
        metric.update(normal(5, 3))
    with pytest.raises(DataError, match=r"give \(n, d\)"):
        metric.update(torch.zeros(5))


def test_of_prior_refuses():
    with pytest.raises(DataError, match="1 codes of 3 latents"):
        F.latent_mmd2_of_prior(1, 3)
