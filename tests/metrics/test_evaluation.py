"""A whole evaluation: against its parts, on real chairs, on bad input."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import SetEvaluator, evaluate_sets
from pcgen.metrics import functional as F


def clouds(n, seed, points=32, stretch=1.0):
    x = torch.randn(n, points, 3, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1.0, stretch, 0.5])
    return x / x.norm(dim=-1).amax(1)[:, None, None]


def chamfer_matrix(a, b):
    trees = [[cKDTree(c) for c in s.double().numpy()] for s in (a, b)]
    return torch.tensor(
        [[(t.query(u.data)[0] ** 2).mean() + (u.query(t.data)[0] ** 2).mean() for t in trees[1]] for u in trees[0]]
    )


def test_against_independent_distances():
    s, r = clouds(40, 0, stretch=0.6), clouds(40, 1, points=48)  # more than one block of rows
    result = evaluate_sets(s, r, draws=50)
    ss, sr, rr = chamfer_matrix(s, s), chamfer_matrix(s, r), chamfer_matrix(r, r)
    assert result.values["mmd_cd"] == pytest.approx(F.minimum_matching_distance(sr).item(), rel=1e-5)
    assert result.values["cov_cd"] == F.coverage(sr).item()
    assert result.values["1nna_cd"] == F.one_nearest_neighbor_accuracy(ss, sr, rr).item()
    assert result.values["jsd"] == F.jensen_shannon_divergence(s / 2, r / 2).item()
    assert result.values["share_outside_ball"] == 0.0
    for name, (low, high) in result.intervals.items():
        assert low <= result.values[name] <= high, name


def test_radius_scales_both_sets_alike():
    s, r = clouds(5, 0), clouds(5, 1)
    small = evaluate_sets(s, r, draws=0)
    large = evaluate_sets(8 * s, 8 * r, radius=8.0, draws=0)
    assert large.values["jsd"] == small.values["jsd"]
    assert large.values["mmd_cd"] == pytest.approx(64 * small.values["mmd_cd"], rel=1e-6)
    assert large.protocol.jsd_radius == 8.0
    grown = evaluate_sets(1.5 * s, r, draws=0).values
    assert grown["share_outside_ball"] > 0  # not rescaled to fit
    assert grown["reference_share_outside_ball"] == 0
    around = evaluate_sets(s, 1.5 * r, draws=0).values
    assert around["share_outside_ball"] == 0
    assert around["reference_share_outside_ball"] == ((1.5 * r).norm(dim=-1) > 1).double().mean()


def test_oracle_progress_and_protocol():
    seen = []
    s, r, o = clouds(33, 0), clouds(33, 1), clouds(33, 2)
    result = evaluate_sets(
        s, r, oracle=o, data="balls", split="test", normalization={"scope": "shape"}, chunk=64, seed=5, draws=20,
        progress=lambda done, total: seen.append(done / total),
    )  # fmt: skip
    alone = evaluate_sets(o, r, seed=5, draws=20)
    assert result.oracle == alone.values
    assert result.oracle_intervals == alone.intervals
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    p = result.protocol
    assert (p.data, p.split, p.num_reference, p.num_generated, p.num_points, p.seed, p.chunk) == (
        "balls", "test", 33, 33, 32, 5, 64,
    )  # fmt: skip
    assert "squared" in p.distances["cd"]
    assert evaluate_sets(s, r, seed=5, draws=20).to_json() == evaluate_sets(s, r, seed=5, draws=20).to_json()


def test_both_orientations():
    s, r = clouds(6, 0), clouds(6, 1, stretch=0.3)
    values = evaluate_sets(s, r, both_orientations=True, draws=0).values
    other = evaluate_sets(r, s, draws=0).values
    assert values["mmd_cd_swapped"] == pytest.approx(other["mmd_cd"], rel=1e-6)
    assert values["mmd_cd"] != pytest.approx(other["mmd_cd"], rel=1e-3)
    assert values["cov_cd_swapped"] == other["cov_cd"]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("radius", [None, 1.0])
def test_names_are_those_of_the_values(both, radius):
    evaluator = SetEvaluator(clouds(3, 0), both_orientations=both, radius=radius, draws=0)
    assert sorted(evaluator.names) == sorted(evaluator.score(clouds(3, 1))[0])


def test_one_cloud_and_a_set_against_itself():
    one = clouds(1, 0)
    assert evaluate_sets(one, one, draws=10).values["mmd_cd"] == 0.0
    same = evaluate_sets(clouds(9, 0), clouds(9, 0), draws=10).values
    assert (same["mmd_cd"], same["cov_cd"], same["1nna_cd"], same["jsd"]) == (0.0, 1.0, 0.0, 0.0)


def test_refusals():
    good = clouds(3, 0)
    with pytest.raises(ConfigurationError, match="3 generated clouds against 4 references"):
        evaluate_sets(good, clouds(4, 1))
    assert evaluate_sets(good, clouds(4, 1), allow_unequal=True, draws=0).protocol.num_reference == 4
    with pytest.raises(ConfigurationError, match="no distance emd2; there is"):
        evaluate_sets(good, good, distances=["emd2"])
    with pytest.raises(ConfigurationError, match="radius is 0"):
        evaluate_sets(good, good, radius=0.0)
    bad = good.clone()
    bad[1, 0, 0] = torch.inf
    with pytest.raises(DataError, match="1 of the 3 generated"):
        evaluate_sets(bad, good)
    with pytest.raises(DataError, match="1 of the 3 reference"):
        evaluate_sets(good, bad)
    with pytest.raises(DataError, match=r"\(3, 32, 2\)"):
        evaluate_sets(good[..., :2], good)


def test_oracle_on_real_chairs(chairs):
    train, test = chairs
    subset = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: len(test)]]
    sphere = torch.nn.functional.normalize(torch.randn(test.shape, generator=torch.Generator().manual_seed(1)), dim=-1)
    result = evaluate_sets(sphere * 0.7, test, oracle=subset, draws=100)
    assert 0.40 <= result.oracle["1nna_cd"] <= 0.66  # two samples of nearly one distribution
    assert 0.40 <= result.oracle["cov_cd"] <= 0.70
    assert result.oracle["share_outside_ball"] == 0.0
    assert 0 < result.oracle["jsd"] < 0.1
    assert result.values["1nna_cd"] > 0.95  # a hundred spheres are no chairs
    assert result.values["cov_cd"] < 0.2
    assert result.values["mmd_cd"] > 2 * result.oracle["mmd_cd"]
    assert result.values["jsd"] > 3 * result.oracle["jsd"]
    assert np.isfinite(list(result.values.values())).all()


def test_evaluation_is_imported_without_what_only_trainers_need():
    code = "import sys, pcgen.metrics.evaluation; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torchmetrics", "scipy", "matplotlib", "numba", "h5py", "rich"} & set(loaded)


def test_an_oracle_that_is_none_is_named_before_any_work(monkeypatch):
    x = torch.rand(6, 12, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    monkeypatch.setattr(SetEvaluator, "compare", lambda *_, **__: pytest.fail("worked"))
    bad = x.clone()
    bad[2, 0, 0] = torch.nan
    with pytest.raises(DataError, match="1 of the 6 oracle clouds hold NaN"):
        evaluate_sets(x, x, oracle=bad)
    with pytest.raises(ConfigurationError, match="5 oracle clouds against 6 references"):
        evaluate_sets(x, x, oracle=x[:5])
