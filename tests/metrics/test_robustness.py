"""Accuracy on damaged clouds, with classifiers that see exactly what was done to them."""

import json

import numpy as np
import pytest
import torch

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics.robustness import CHUNK, check_levels, robustness

N = 200


@pytest.fixture
def x():
    return torch.randn(CHUNK + 6, N, 3, generator=torch.Generator().manual_seed(0))


def watching(seen):
    def predict(part):
        seen.append(part.clone())
        return np.zeros(len(part), dtype=np.int64)

    return predict


def levels_seen(x, **given):
    """What a classifier saw at each level, (n, M, 3) each."""
    seen = []
    found = robustness(watching(seen), x, np.zeros(len(x), int), **given)
    whole = [torch.cat(pair) for pair in zip(seen[::2], seen[1::2], strict=True)]
    return whole, found


def same_rows(points, others):
    """For each point of a cloud whether it is one of the others."""
    return (points[:, None] == others[None]).all(-1).any(1)


def test_kept_points_are_a_growing_part_of_each_cloud(x):
    seen, found = levels_seen(x, kept=(0.06, 1, 0.5), outliers=[0], jitter=[0])
    assert found.kept.levels == (1, 0.5, 0.06)
    assert [part.shape[1] for part in seen[:3]] == [N, N // 2, 12]
    assert torch.equal(seen[0], x)
    for whole, half, few in zip(*(s[[0, 5, -1]] for s in seen[:3]), strict=True):
        assert same_rows(half, whole).all()
        assert same_rows(few, half).all()
        assert len(torch.unique(half, dim=0)) == N // 2
    places = [same_rows(whole, few) for whole, few in zip(seen[0][:5], seen[2][:5], strict=True)]
    assert not torch.equal(places[0], places[1])  # each cloud loses others


def test_outliers_are_added_from_a_normal_distribution(x):
    seen, found = levels_seen(x, kept=[1], outliers=(0.25, 0, 0.1), jitter=[0], outlier_std=0.3)
    assert found.outliers.levels == (0, 0.1, 0.25)
    assert [part.shape[1] for part in seen[1:4]] == [N, N + 20, N + 50]
    assert torch.equal(seen[3][:, :N], x)
    assert torch.equal(seen[2][:, N:], seen[3][:, N : N + 20])
    outliers = seen[3][:, N:]
    assert outliers.mean().abs() < 0.3 * 4 / outliers.numel() ** 0.5
    assert outliers.std() == pytest.approx(0.3, rel=0.03)


def test_jitter_grows_along_the_same_directions(x):
    seen, found = levels_seen(x, kept=[1], outliers=[0], jitter=(0.01, 0, 0.002))
    assert found.jitter.levels == (0, 0.002, 0.01)
    assert torch.equal(seen[2], x)
    small, large = seen[3] - x, seen[4] - x
    assert large.std() == pytest.approx(0.01, rel=0.02)
    torch.testing.assert_close(large, 5 * small, rtol=1e-2, atol=1e-5)


def test_clouds_of_one_number_of_points_keep_it(x):
    seen, found = levels_seen(x, kept=(0.06,), outliers=(0.25,), jitter=[0], outlier_std=0.01, same_number=True)
    assert found.same_number
    assert seen[0].shape == seen[1].shape == x.shape
    assert len(torch.unique(seen[0][3], dim=0)) == 12
    changed = (seen[1] != x).any(-1)
    assert (changed.sum(1) == 50).all()
    assert seen[1][changed].std() == pytest.approx(0.01, rel=0.05)


def test_accuracies_are_those_of_the_predictions_and_of_the_seed(x):
    """A classifier that counts points is right as long as none are lost."""
    y = np.arange(len(x)) % 2

    def predict(part, state={"at": 0}):  # noqa: B006 -- counts through the calls
        labels = y[state["at"] : state["at"] + len(part)]
        state["at"] = (state["at"] + len(part)) % len(x)
        return labels if part.shape[1] >= N else 1 - labels

    found = robustness(predict, x, y, kept=[1, 0.5], outliers=[0, 0.1], jitter=[0])
    assert (found.kept.accuracy, found.outliers.accuracy, found.jitter.accuracy) == ((1, 0), (1, 1), (1,))
    assert found.to_plain()["kept"] == [{"level": 1, "accuracy": 1.0}, {"level": 0.5, "accuracy": 0.0}]
    assert json.loads(json.dumps(found.to_plain())) == found.to_plain()
    first, again, other = (levels_seen(x, jitter=[0.1], seed=seed)[0] for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[-1], other[-1])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kept": (1, 0)}, r"kept is \[1, 0\]; give shares above 0 and up to 1"),
        ({"kept": ()}, "kept is"),
        ({"outliers": (-0.1,)}, "outliers is"),
        ({"jitter": (float("nan"),)}, "jitter is"),
        ({"outliers": (1.5,), "same_number": True}, "shares from 0 and below 1"),
    ],
)
def test_levels_out_of_range_are_refused(given, says):
    with pytest.raises(ConfigurationError, match=says):
        check_levels(**({"kept": [1], "outliers": [0], "jitter": [0]} | given))


def test_images_are_refused():
    with pytest.raises(DataError, match="damage is for clouds"):
        robustness(watching([]), torch.zeros(2, 1, 8, 8), [0, 1])
