"""Confidence intervals: against a loop, for coverage of the truth, and for the trap of the naive bootstrap."""

import numpy as np
import pytest
import torch

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import functional as F


def test_interval_of_a_mean_is_that_of_theory():
    terms = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = F.bootstrap_interval(terms, draws=4000)
    half = 1.96 * terms.std() / 20
    assert low == pytest.approx((terms.mean() - half).item(), abs=0.006)
    assert high == pytest.approx((terms.mean() + half).item(), abs=0.006)


def test_interval_contains_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        low, high = F.bootstrap_interval(torch.from_numpy(rng.random(60) < 0.4), level=0.9, draws=300, seed=seed)
        hits += low <= 0.4 <= high
    assert 0.82 <= hits / 200 <= 0.97


def test_groups_keep_their_sizes():
    ones, zeros = torch.ones(30), torch.zeros(10)
    assert F.bootstrap_interval(ones, zeros) == (0.75, 0.75)  # drawn as one group it would vary


def test_seeded():
    terms = torch.rand(50, generator=torch.Generator().manual_seed(0))
    assert F.bootstrap_interval(terms, seed=1) == F.bootstrap_interval(terms, seed=1)
    assert F.bootstrap_interval(terms, seed=1) != F.bootstrap_interval(terms, seed=2)


def test_interval_of_1nna_contains_its_value():
    # drawing whole clouds with replacement would make doubles each other's neighbours and push 1-NNA towards 1
    rng = np.random.default_rng(1)
    s, r = torch.from_numpy(rng.normal(size=(2, 80, 3)))
    matrices = torch.cdist(s, s), torch.cdist(s, r), torch.cdist(r, r)
    value = F.one_nearest_neighbor_accuracy(*matrices).item()
    low, high = F.bootstrap_interval(*F.neighbor_agreement(*matrices))
    assert low < value < high
    assert 0.1 < high - low < 0.25  # 160 coin tosses: ± 1.96 · √(.25/160) = ± .077


def test_interval_of_the_divergence():
    rng = np.random.default_rng(2)
    base = rng.dirichlet(np.ones(50), size=40)
    p, q = (torch.from_numpy(rng.multinomial(200, base)) for _ in range(2))
    mean = [counts.sum(0).double() / counts.sum() for counts in (p, q)]
    middle = (mean[0] + mean[1]) / 2
    jsd = sum((m * (m / middle).log2()).sum() for m in mean).item() / 2
    low, high = F.divergence_interval(p, q, draws=300)
    assert low < jsd < high
    assert (low, high) == F.divergence_interval(p, q, draws=300)


@pytest.mark.parametrize(("arguments", "message"), [({"level": 1.0}, "level is 1.0"), ({"draws": 0}, "draws is 0")])
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        F.bootstrap_interval(torch.ones(3), **arguments)


def test_nothing_to_draw_from():
    with pytest.raises(DataError, match="at least one shape"):
        F.bootstrap_interval(torch.ones(3), torch.ones(0))
