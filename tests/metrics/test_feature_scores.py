"""FPD and KID of sets of clouds: against SciPy and loops, and what is said of too few clouds."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from pcgen.errors import ConfigurationError
from pcgen.metrics import SetEvaluator, evaluate_sets
from pcgen.metrics.feature_scores import ReferenceFeatures
from pcgen.metrics.store import Store


def clouds(n, seed, stretch=1.0):
    x = torch.randn(n, 20, 3, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1.0, stretch, 0.5])
    return x / x.norm(dim=-1).amax(1)[:, None, None]


class Moments:
    """An extractor that anyone can repeat: standard deviations along the axes and the mean distance from the origin."""

    name, identity, num_features = "moments-v1", "0123456789abcdef", 4

    def __init__(self):
        self.calls = 0
        self.card = {"input": {"kind": "clouds", "radius": 1.0, "up_axis": 2}}

    def features(self, x, *, radius=None, up_axis=None):
        self.calls += 1
        x = x / radius if up_axis in {None, 2} else x.roll(2 - up_axis, 2) / radius
        return torch.cat([x.std(1), x.norm(dim=-1).mean(1, keepdim=True)], 1)


def naive_fpd(x, y):
    x, y = x.double().numpy(), y.double().numpy()
    cx, cy = np.cov(x.T), np.cov(y.T)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cx + cy - 2 * sqrtm(cx @ cy).real)


def naive_kid(x, y):
    def k(a, b):
        return (float(a.double() @ b.double()) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_against_scipy_and_loops():
    s, r, net = clouds(12, 0, stretch=0.6), clouds(12, 1), Moments()
    found = evaluate_sets(s, r, draws=0, extractor=net)
    f, g = (net.features(x, radius=1.0) for x in (s, r))
    assert found.values["fpd"] == pytest.approx(naive_fpd(f, g), rel=1e-6)
    assert found.values["kid"] == pytest.approx(naive_kid(f, g), rel=1e-6)
    assert found.remarks == ()
    assert found.protocol.extractor == "moments-v1:0123456789ab, up z"
    assert found.values.keys() == set(SetEvaluator(r, extractor=net).names)
    assert evaluate_sets(r, r, draws=0, extractor=net).values["fpd"] == pytest.approx(0, abs=1e-12)


def test_radius_and_up_axis_reach_the_network():
    s, r = clouds(9, 0, stretch=0.6), clouds(9, 1)
    plain = evaluate_sets(s, r, draws=0, extractor=Moments()).values
    large = evaluate_sets(8 * s, 8 * r, radius=8.0, draws=0, extractor=Moments()).values
    assert large["fpd"] == pytest.approx(plain["fpd"], rel=1e-5)
    lying = evaluate_sets(s.roll(-1, 2), r.roll(-1, 2), draws=0, extractor=Moments(), up_axis=1)
    assert lying.values["fpd"] == pytest.approx(plain["fpd"], rel=1e-6)
    assert lying.protocol.extractor.endswith("up y")


def test_fewer_clouds_than_features_are_remarked_upon_with_the_rank():
    (remark,) = evaluate_sets(clouds(3, 0), clouds(3, 1), draws=0, extractor=Moments()).remarks
    assert "fewer clouds than the 4 features (rank 2 of 3 clouds and rank 2 of 3 clouds)" in remark


def test_clouds_of_another_size_than_stated_are_remarked_upon_also_when_their_features_are_kept(tmp_path, recwarn):
    for _ in range(2):
        found = evaluate_sets(
            5 * clouds(300, 0),
            clouds(300, 1),
            distances=[],
            draws=0,
            extractor="pointnet-modelnet10-v1",
            store=Store(tmp_path),
        )
        said = [remark for remark in found.remarks if "mean little" in remark]
        assert len(said) == 1
        assert said[0].startswith("FPD and KID of the generated clouds: the clouds reach 5 from the origin")
    assert not [w for w in recwarn if "mean little" in str(w.message)]  # once is enough


def test_one_cloud_has_no_covariance():
    found = evaluate_sets(clouds(1, 0), clouds(1, 1), draws=0, extractor=Moments())
    assert "fpd" not in found.values
    assert any("at least 2 clouds" in remark for remark in found.remarks)


def test_features_are_kept(tmp_path):
    net, store = Moments(), Store(tmp_path)
    first = evaluate_sets(clouds(9, 0), clouds(9, 1), draws=0, extractor=net, store=store)
    again = evaluate_sets(clouds(9, 0), clouds(9, 1), draws=0, extractor=net, store=store)
    assert net.calls == 2
    assert again.values == first.values
    net.identity = "another"
    evaluate_sets(clouds(9, 0), clouds(9, 1), draws=0, extractor=net, store=store)
    assert net.calls == 4


def test_table_names_the_extractor():
    table = evaluate_sets(clouds(9, 0), clouds(9, 1), draws=0, extractor=Moments()).score_table()
    assert "FPD(moments-v1) ↓" in table.markdown()
    assert "moments-v1:0123456789ab" in table.notes[0]


def test_refusals():
    with pytest.raises(ConfigurationError, match="radius of their ball"):
        evaluate_sets(clouds(3, 0), clouds(3, 1), radius=None, extractor=Moments())
    with pytest.raises(ConfigurationError, match="no extractor 'vgg'"):
        evaluate_sets(clouds(3, 0), clouds(3, 1), extractor="vgg")
    images = Moments()
    images.card = {"input": {"kind": "images"}}
    with pytest.raises(ConfigurationError, match="takes images"):
        ReferenceFeatures(clouds(3, 0), images, radius=1.0)


def test_naming_the_extractors_own_axis_asks_the_same_question(tmp_path):
    clouds, store = torch.rand(4, 16, 3) - 0.5, Store(tmp_path)
    for axis in (None, 2):
        ReferenceFeatures(clouds, Moments(), radius=1.0, up_axis=axis, store=store)
    assert store.contents().files == 1
