"""FID and KID of sets of images: against closed forms and loops, in parts, and what is refused."""

import numpy as np
import pytest
import torch

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import Scores
from pcgen.metrics.image_evaluator import ImageEvaluator, evaluate_images
from pcgen.metrics.store import Store


class Means:
    """An extractor that anyone can repeat: the means of the upper and of the lower half."""

    name, identity, num_features = "halves-v1", "0123456789abcdef", 2

    def __init__(self):
        self.calls = 0
        self.card = {"input": {"kind": "images", "shape": [1, 4, 4]}}

    def features(self, x, progress=None):
        self.calls += 1
        return torch.stack([x[:, 0, :2].mean((1, 2)), x[:, 0, 2:].mean((1, 2))], 1)


def images(n, seed, *, high=1.0):
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed)) * high


def naive_kid(x, y):
    def k(a, b):
        return (float(a.double() @ b.double()) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_against_closed_forms_and_loops():
    s, r, o, net = images(9, 0, high=0.5), images(12, 1), images(9, 2), Means()
    scores = evaluate_images(s, r, oracle=o, extractor=net, data="grey", split="test", seed=3)
    for values, x in ((scores.values, s), (scores.oracle, o)):
        f, g = (net.features(t).double().numpy() for t in (x, r))
        a, b = np.cov(f.T), np.cov(g.T)
        root = np.sqrt(np.linalg.eigvals(a @ b)).sum()
        fid = ((f.mean(0) - g.mean(0)) ** 2).sum() + np.trace(a + b) - 2 * root
        assert values == {
            "fid": pytest.approx(fid, rel=1e-6),
            "kid": pytest.approx(naive_kid(net.features(x), net.features(r)), rel=1e-6),
        }
    assert scores.remarks == ()
    assert (scores.protocol.extractor, scores.protocol.image_shape) == ("halves-v1:0123456789ab", [1, 4, 4])
    assert Scores.from_json(scores.to_json()) == scores


def test_parts_give_what_the_whole_gives():
    evaluator = ImageEvaluator(images(12, 1), extractor=Means())
    s, told = images(10, 0), []
    parts = evaluator.features_of_parts(iter(s.split(4)), 10, progress=lambda done, total: told.append((done, total)))
    torch.testing.assert_close(parts, evaluator.features_of(s), rtol=0, atol=0)
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_features_are_kept_by_content(tmp_path):
    store, net, r = Store(tmp_path), Means(), images(6, 1)
    for _ in range(2):
        ImageEvaluator(r, extractor=net, store=store)
    assert net.calls == 1
    ImageEvaluator(r.flip(0), extractor=net, store=store)
    assert net.calls == 2


def test_few_images_are_remarked_upon():
    (remark,) = evaluate_images(images(2, 0), images(9, 1), extractor=Means()).remarks
    assert "rank 1 of 2 images and rank 2 of 9 images" in remark


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda x: x[:1], "at least 2 images"),
        (lambda x: x[:0], "(0, 1, 4, 4)"),
        (lambda x: x[:, 0], "(4, 4, 4)"),
        (lambda x: x * torch.nan, "nan"),
        (lambda x: 2 * x, "[0, 1]"),
        (lambda x: x - 1, "[0, 1]"),
        (lambda x: x[..., :3], "(1, 4, 3) and extractor halves-v1 takes (1, 4, 4)"),
    ],
)
def test_what_are_no_images(change, part):
    good = images(4, 0)
    for s, r in ((change(good), good), (good, change(good))):
        with pytest.raises(DataError) as caught:
            evaluate_images(s, r, extractor=Means())
        assert part in str(caught.value)


def test_an_extractor_of_clouds_is_refused():
    with pytest.raises(ConfigurationError, match="takes clouds"):
        evaluate_images(images(4, 0), images(4, 1), extractor="pointnet-modelnet10-v1")
