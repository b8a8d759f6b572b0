"""Fréchet and kernel distance of features: torchmetrics' own, loops, moments that lose nothing, two real processes."""

import json
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import FeatureExtractor, FeatureMoments, FrechetDistance, GivenFeatures, KernelDistance
from pcgen.metrics import kernel_distance as kernel_distance_module
from pcgen.metrics.kernel_distance import kernel_distance
from pcgen.ops import InverseMultiquadratic, frechet_distance, kernel_mmd2


class Pool:
    """A feature extractor that anyone could write: extents and second moments of a cloud."""

    name, num_features = "pool-v1", 6

    def __call__(self, x):
        return torch.cat([x.amax(1), x.square().mean(1)], 1)


def clouds(n, seed, scale=1.0):
    return scale * torch.randn(n, 20, 3, generator=torch.Generator().manual_seed(seed))


def rows(n, d, seed, shift=0.0):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + shift


# Moments


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_moments_are_numpys_whatever_the_batches(shift):
    x = rows(137, 5, 0, shift)
    moments = FeatureMoments(5)
    for part in x.split([1, 60, 0, 3, 73]):
        moments.update(part)
    assert moments.count == 137
    np.testing.assert_allclose(moments.mean, x.numpy().mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-9, atol=1e-10)
    assert moments.rank == 5


def test_a_large_mean_does_not_cancel():
    """Plain sums Σx, Σxxᵀ in float64 would lose this covariance: its entries are 1e-16 of the squared mean."""
    x = rows(1000, 3, 1, 1e8)
    moments = FeatureMoments(3)
    for part in x.split(64):
        moments.update(part)
    expected = np.cov((x - 1e8).numpy(), rowvar=False)
    np.testing.assert_allclose(moments.covariance, expected, atol=1e-6)
    plain = (x.T @ x - 1000 * torch.outer(x.mean(0), x.mean(0))).numpy() / 999
    assert np.abs(plain - expected).max() > 0.1


def test_merging_is_adding_and_refuses_other_extractors():
    x = rows(50, 4, 0, 3.0)
    whole, left, right = (FeatureMoments.of(part) for part in (x, x[:20], x[20:]))
    left.merge(right)
    left.merge(FeatureMoments(4))
    torch.testing.assert_close(left.packed, whole.packed, rtol=1e-13, atol=1e-12)
    empty = FeatureMoments(4)
    empty.merge(whole)
    assert torch.equal(empty.packed, whole.packed)
    other = FeatureMoments.of(x, extractor="pointnet-v2")
    for act in (whole.merge, whole.frechet_distance):
        with pytest.raises(ConfigurationError, match=r"'features' \(4\).*'pointnet-v2' \(4\)"):
            act(other)


def test_moments_of_too_little():
    moments = FeatureMoments(3)
    with pytest.raises(DataError, match="moments of 0 rows"):
        _ = moments.mean
    moments.update(torch.zeros(1, 3))
    with pytest.raises(DataError, match=r"moments of 1 rows.*at least 2"):
        _ = moments.covariance
    with pytest.raises(DataError, match=r"\(2, 4\), not \(B, 3\)"):
        moments.update(torch.zeros(2, 4))
    with pytest.raises(DataError, match=r"not finite .first in row 1"):
        moments.update(torch.tensor([[0.0, 0, 0], [0, torch.inf, 0]]))


def test_rank():
    assert FeatureMoments.of(rows(4, 9, 0, 5.0)).rank == 3
    assert FeatureMoments.of(torch.ones(6, 3)).rank == 0
    assert FeatureMoments.of(rows(300, 2, 0) @ rows(2, 40, 1) + 7.0).rank == 2


# Kernel distance


def test_the_whole_sets_value_and_the_subsets_against_loops():
    x, y = rows(23, 4, 0), rows(31, 4, 1, 0.4)
    found = kernel_distance(x, y, subsets=7, subset_size=10, seed=3)
    assert found.value.item() == pytest.approx(unbiased(x.tolist(), y.tolist()), rel=1e-10)
    assert found.subset_size == 10
    # every subset's value is that of some ten of each: mean and std belong to seven such draws
    assert abs(found.mean - found.value) < 4 * found.std / 7**0.5
    again = kernel_distance(x, y, subsets=7, subset_size=10, seed=3)
    assert (again.mean, again.std) == (found.mean, found.std)
    assert kernel_distance(x, y, subsets=7, subset_size=10, seed=4).mean != found.mean


def unbiased(x, y):
    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def own(z):
        return sum(k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j) / (len(z) * (len(z) - 1))

    return own(x) + own(y) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))


def test_kid_is_torchmetrics_where_subsets_are_the_sets():
    from torchmetrics.image.kid import poly_mmd

    x, y = rows(40, 8, 0), rows(40, 8, 1, 0.3)
    found = kernel_distance(x, y, subsets=3, subset_size=40)
    assert found.value.item() == pytest.approx(poly_mmd(x, y).item(), rel=1e-9)
    assert found.mean.item() == pytest.approx(found.value.item(), rel=1e-9)
    assert found.std.item() == pytest.approx(0, abs=1e-12)


def test_neither_order_nor_negative_zero_shows():
    x, y = rows(30, 3, 0), rows(25, 3, 1)
    x[3] = 0.0
    found = kernel_distance(x, y, subsets=5)
    x[3] = -0.0
    mixed = kernel_distance(x[torch.randperm(30)], y.flip(0), subsets=5)
    assert [v.item() for v in mixed[:3]] == [v.item() for v in found[:3]]


def test_large_sets_give_what_small_ones_give(monkeypatch):
    x, y = rows(40, 6, 0), rows(50, 6, 1, 0.2)
    whole = kernel_distance(x, y, subsets=6, subset_size=15)
    monkeypatch.setattr(kernel_distance_module, "MOST_ROWS", 20)  # matrices of all the rows are now too large
    parts = kernel_distance(x, y, subsets=6, subset_size=15)
    assert [v.item() for v in parts[:3]] == pytest.approx([v.item() for v in whole[:3]], rel=1e-9)


def test_subset_sizes():
    x = rows(30, 3, 0)
    assert kernel_distance(x, x, subsets=1).subset_size == 15
    assert kernel_distance(x[:2], x[:2], subsets=1).subset_size == 2
    none = kernel_distance(x, x, subsets=0)
    assert none.mean.isnan()
    assert none.std.isnan()
    with pytest.raises(ConfigurationError, match="subset_size is 31, but the smaller set has 30"):
        kernel_distance(x, x, subset_size=31)
    with pytest.raises(ConfigurationError, match="subsets is -1"):
        kernel_distance(x, x, subsets=-1)
    with pytest.raises(DataError, match="at least 2"):
        kernel_distance(x[:1], x)


# Metrics


def filled(metric, generated, real, batch=16):
    for side, data in ((False, generated), (True, real)):
        for part in data.split(batch):
            metric.update(part, real=side)
    return metric


def test_frechet_distance_is_the_functions_and_torchmetrics():
    from torchmetrics.image.fid import _compute_fid

    g, r = clouds(120, 0), clouds(90, 1, 1.2)
    (value,) = filled(FrechetDistance(Pool()), g, r).compute().values()
    a, b = Pool()(g).double(), Pool()(r).double()
    moments = a.mean(0), a.T.cov(), b.mean(0), b.T.cov()
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(frechet_distance(*moments).item(), rel=1e-9)
    assert value.item() == pytest.approx(_compute_fid(*moments).item(), rel=1e-6)


def test_kernel_distance_is_the_functions():
    g, r = clouds(60, 0), clouds(50, 1, 1.2)
    kernel = InverseMultiquadratic()
    metric = filled(KernelDistance(Pool(), kernel=kernel, subsets=4, subset_size=20, prefix="KPD"), g, r)
    values = metric.compute()
    assert list(values) == metric.names
    assert metric.names[0] == "KPD(pool-v1)"
    a, b = Pool()(g).double(), Pool()(r).double()
    assert values["KPD(pool-v1)"].item() == pytest.approx(kernel_mmd2(a, b, kernel=kernel, unbiased=True).item())
    expected = kernel_distance(a, b, kernel=kernel, subsets=4, subset_size=20)
    assert values["KPD(pool-v1) subset mean"].item() == pytest.approx(expected.mean.item(), rel=1e-9)


def test_kernel_mmd_of_latents_is_a_metric():
    x, y = rows(30, 3, 0, 1.0), rows(20, 3, 1, 1.5)
    metric = KernelDistance(GivenFeatures("z", 3), prefix="MMD2", kernel=InverseMultiquadratic(), subsets=0)
    for part in x.float().split(7):
        metric.update(part, real=False)
    metric.update(y.float(), real=True)
    k = [1 / (1 + cdist(a.float(), b.float(), "sqeuclidean")) for a, b in ((x, x), (y, y), (x, y))]
    expected = (k[0].sum() - 30) / (30 * 29) + (k[1].sum() - 20) / (20 * 19) - 2 * k[2].mean()
    assert metric.compute()["MMD2(z)"].item() == pytest.approx(expected, rel=1e-9)
    with pytest.raises(DataError, match="gave features"):
        metric.update(x[:, :2], real=True)


def test_real_chairs_against_torchmetrics(chairs):
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    train, test = chairs[0][:100], chairs[1]
    frechet = filled(FrechetDistance(Pool()), test, train)
    kid = filled(KernelDistance(Pool(), subsets=10), test, train)
    a, b = Pool()(test).double(), Pool()(train).double()
    expected = _compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()).item()
    assert frechet.compute()[frechet.name].item() == pytest.approx(expected, rel=1e-6)
    assert len(a) == len(b)  # torchmetrics' KID takes sets of one size
    assert kid.compute()[kid.name].item() == pytest.approx(poly_mmd(a, b).item(), rel=1e-6, abs=1e-12)
    spoilt = filled(FrechetDistance(Pool()), 0.8 * test, train)
    assert spoilt.compute()[spoilt.name] > 2 * frechet.compute()[frechet.name]


@pytest.mark.parametrize("kind", [FrechetDistance, KernelDistance])
def test_same_data_are_near_and_other_data_far(kind):
    r = clouds(200, 0)
    near = filled(kind(Pool()), clouds(200, 1), r)
    far = filled(kind(Pool()), clouds(200, 1, 1.3), r)
    assert near.compute()[near.name] < 0.1 * far.compute()[far.name]


@pytest.mark.parametrize("kind", [FrechetDistance, KernelDistance])
@pytest.mark.parametrize("reset_real", [True, False])
def test_calling_is_updating(kind, reset_real):
    """torchmetrics' own call would reset in between, and count a kept reference twice."""
    g, r = clouds(40, 0), clouds(40, 1)
    called, updated = (kind(Pool(), reset_real=reset_real) for _ in range(2))
    for metric in (called, updated):
        metric.update(r, real=True)
    for part in g.split(20):
        assert called(part, real=False) is None
        updated.update(part, real=False)
    assert called.compute() == updated.compute()


def test_a_models_precision_is_not_the_scores():
    network, x = Network(), clouds(6, 0)
    expected = FrechetDistance(network).features(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(FrechetDistance(network).features(x), expected)
        assert network(x).dtype == torch.bfloat16
    assert FrechetDistance(network).features(x.bfloat16()).dtype == torch.float32


def test_names_carry_the_extractor():
    assert FrechetDistance(Pool()).names == ["FPD(pool-v1)"]
    assert FrechetDistance(Pool(), prefix="FID").name == "FID(pool-v1)"
    assert isinstance(Pool(), FeatureExtractor)

    def nameless(x):
        return x.flatten(1)

    with pytest.raises(ConfigurationError, match="extractor is a function with name None and num_features None"):
        FrechetDistance(nameless)
    nameless.name, nameless.num_features = "flat", 60
    assert FrechetDistance(nameless).name == "FPD(flat)"  # any function will do


class Network(nn.Module):
    name, num_features = "network", 4

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))

    def forward(self, x):
        return self.layers(x).amax(1)


@pytest.mark.parametrize("kind", [FrechetDistance, KernelDistance])
def test_a_network_stays_out_of_state_dicts_and_out_of_training_mode(kind):
    network = Network()
    holder = nn.ModuleDict({"metric": kind(network)})
    holder["metric"].update(clouds(8, 0), real=True)
    assert not holder.state_dict()
    assert not list(holder.parameters())
    holder.train()
    network.train()
    a, b = (holder["metric"].features(clouds(5, 1)) for _ in range(2))
    assert torch.equal(a, b)  # no dropout
    assert not a.requires_grad
    again = pickle.loads(pickle.dumps(filled(kind(Network()), clouds(9, 0), clouds(9, 1))))
    assert again.names


def test_too_few_data_warn_once_with_the_rank():
    metric = filled(FrechetDistance(Pool()), clouds(4, 0), clouds(50, 1))
    with pytest.warns(UserWarning, match="4 data, rank 3"):
        metric.compute()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.update(clouds(1, 2), real=False)
        metric.compute()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled(FrechetDistance(Pool()), clouds(7, 0), clouds(7, 1)).compute()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("kind", [FrechetDistance, KernelDistance])
def test_bad_input(kind):
    metric = kind(Pool())
    with pytest.raises(DataError, match="0 generated data"):
        metric.compute()
    metric.update(clouds(1, 0), real=False)
    metric.update(clouds(5, 0), real=True)
    with pytest.raises(DataError, match="of 1 generated data"):
        metric.compute()
    bad = clouds(3, 0)
    bad[1, 4, 0] = torch.nan
    with pytest.raises(DataError, match=r"'pool-v1' gave features that are not finite .first in row 1"):
        metric.update(bad, real=False)
    liar = Pool()
    liar.num_features = 7
    with pytest.raises(DataError, match=r"\(2, 6\), not \(B, 7\)"):
        kind(liar).update(clouds(2, 0), real=True)


@pytest.mark.parametrize("kind", [FrechetDistance, KernelDistance])
def test_reset_may_keep_the_reference(kind):
    g, r = clouds(20, 0), clouds(20, 1)
    keeps, forgets = (filled(kind(Pool(), reset_real=flag), g, r) for flag in (False, True))
    first = {k: v.item() for k, v in keeps.compute().items()}
    keeps.reset()
    forgets.reset()
    keeps.update(g, real=False)
    forgets.update(g, real=False)
    assert {k: v.item() for k, v in keeps.compute().items()} == pytest.approx(first, rel=1e-12)
    with pytest.raises(DataError, match="0 real"):
        forgets.compute()


PROCESS = """
import json, sys, warnings
import torch
import torch.distributed as dist
from pcgen.metrics import FrechetDistance, KernelDistance, LatentFactorScores

warnings.simplefilter("ignore")
dist.init_process_group("gloo")
rank = dist.get_rank()

class Pool:
    name, num_features = "pool-v1", 6

    def __call__(self, x):
        return torch.cat([x.amax(1), x.square().mean(1)], 1)

def clouds(n, seed, scale=1.0):
    return scale * torch.randn(n, 20, 3, generator=torch.Generator().manual_seed(seed))

results = {}
for name, mine in {
    "blocks": (slice(0, 17), slice(17, 41))[rank],  # in order, unequal
    "interleaved": (slice(0, 41, 2), slice(1, 41, 2))[rank],  # as a distributed sampler deals them
    "idle": (slice(0, 41), slice(0, 0))[rank],  # one process has nothing
}.items():
    g, r = clouds(41, 0), clouds(41, 1, 1.2)
    metrics = FrechetDistance(Pool()), KernelDistance(Pool(), subsets=5)
    latent = LatentFactorScores(estimator="lasso")
    if len(g[mine]):
        for metric in metrics:
            for part in g[mine].split(3):
                metric.update(part, real=False)
            metric.update(r[mine], real=True)
        latent.update(g[mine][:, 0], r[mine][:, 0] + g[mine][:, 0])
    values = {k: v.item() for metric in metrics for k, v in metric.compute().items()}
    results[name] = values | {k: v.item() for k, v in latent.compute().items()}
print(json.dumps(results))
dist.destroy_process_group()
"""


def test_two_processes_give_what_one_gives(tmp_path, together):
    from pcgen.metrics import LatentFactorScores

    g, r = clouds(41, 0), clouds(41, 1, 1.2)
    expected = {k: v.item() for m in (FrechetDistance(Pool()), KernelDistance(Pool(), subsets=5))
                for k, v in filled(m, g, r).compute().items()}  # fmt: skip
    latent = LatentFactorScores(estimator="lasso")
    latent.update(g[:, 0], r[:, 0] + g[:, 0])
    expected |= {k: v.item() for k, v in latent.compute().items()}
    seen = [json.loads(text.splitlines()[-1]) for text in together(PROCESS, [], tmp_path)]
    assert seen[0] == seen[1]  # both processes the same bits
    assert set(seen[0]) == {"blocks", "interleaved", "idle"}
    for way, values in seen[0].items():
        frechet = values.pop("FPD(pool-v1)")
        assert frechet == pytest.approx(expected["FPD(pool-v1)"], rel=1e-12), way  # sums in another order
        assert values == {k: v for k, v in expected.items() if k != "FPD(pool-v1)"}, way  # bit for bit
