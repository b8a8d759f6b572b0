"""The linear probe against scikit-learn's pipeline done by hand, toys with known answers, and invariants."""

import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import linear_svm
from pcgen.metrics.linear_svm import fit_path
from pcgen.metrics.probe import DEFAULT_COSTS, linear_probe, score_predictions
from pcgen.metrics.published import MODELNET10, ON_MODELNET10, published_for

COSTS = (1e-4, 1e-3, 1e-2, 1e-1)


def blobs(n, *, F=12, K=4, spread=1.6, seed=0, scales=True):
    """Classes of unequal sizes about means of their own, with features of very different scales."""
    rng = np.random.default_rng(7)
    means, units = rng.normal(size=(K, F)), 10.0 ** rng.uniform(-3, 3, F) if scales else np.ones(F)
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(K).repeat(6), rng.choice(K, n - 6 * K, p=np.arange(1, K + 1) / (K * (K + 1) / 2))])
    return (means[y] + spread * rng.normal(size=(n, F))) * units + 5 * units, y


@pytest.fixture(scope="module")
def data():
    return *blobs(240), *blobs(160, seed=1)


def by_hand(cost):
    return make_pipeline(StandardScaler(), LinearSVC(C=cost, dual=False, tol=1e-10, max_iter=100000))


def test_it_is_the_pipeline_of_scikit_learn(data):
    x, y, other, expected = data
    found = linear_probe(x, y, other, expected, costs=COSTS, folds=4, seed=3)
    folds = StratifiedKFold(4, shuffle=True, random_state=3)
    accuracy = {c: cross_val_score(by_hand(c), x, y, cv=folds).mean() for c in COSTS}
    assert found.cross_validation == pytest.approx({c: accuracy[c] for c in found.cross_validation}, abs=1e-12)
    assert found.cost == max(found.cross_validation, key=lambda c: (accuracy[c], -c))
    pipe = by_hand(found.cost).fit(x, y)
    np.testing.assert_allclose(found.probe.decision(other), pipe.decision_function(other), rtol=1e-3, atol=1e-4)
    assert np.array_equal(found.probe.predict(other), pipe.predict(other))
    assert found.accuracy == pipe.score(other, expected)
    assert found.train_accuracy == pipe.score(x, y)
    assert np.array_equal(found.confusion, confusion_matrix(expected, pipe.predict(other)))
    assert found.confusion.dtype == np.int64
    each = [(pipe.predict(other[expected == k]) == k).mean() for k in range(4)]
    assert found.mean_class_accuracy == pytest.approx(np.mean(each))
    assert found.interval[0] < found.accuracy < found.interval[1]


@pytest.mark.parametrize(("n", "F"), [(90, 8), (40, 130)], ids=["rows", "more features than rows"])
def test_weights_are_those_of_liblinear_at_every_cost(n, F):
    x, y = blobs(n, F=F, K=3, scales=False)
    x = np.column_stack([x, x[:, :3], x @ np.ones(F)])  # features that depend on each other have one minimum too
    x = (x - x.mean(0)) / x.std(0)
    for machine in fit_path(x, y, 3, [1e-4, 1e-2, 1.0, 30.0]):
        reference = LinearSVC(C=machine.cost, dual=False, tol=1e-10, max_iter=200000).fit(x, y)
        best = objective(x, y, machine.cost, reference.coef_.T, reference.intercept_)
        assert machine.converged
        assert objective(x, y, machine.cost, machine.weight, machine.intercept) == pytest.approx(best, rel=1e-4)
        found = x @ machine.weight + machine.intercept
        np.testing.assert_allclose(found, reference.decision_function(x), atol=0.02)


def objective(x, y, cost, weight, intercept):
    """Sum over the classes of what each machine minimises, term by term."""
    total = 0.0
    for k in range(weight.shape[1]):
        margins = np.where(y == k, 1, -1) * (x @ weight[:, k] + intercept[k])
        total += (
            0.5 * (weight[:, k] @ weight[:, k] + intercept[k] ** 2) + cost * (np.maximum(1 - margins, 0) ** 2).sum()
        )
    return total


def test_two_classes_that_a_plane_divides_are_told_apart_always():
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(60, 5)), rng.normal(size=(400, 5))
    plane = np.array([1.0, -2.0, 0.5, 0.0, 1.0])
    x, other = (a[np.abs(a @ plane) > 0.8] for a in (x, other))
    found = linear_probe(x, (x @ plane > 0).astype(int), other, (other @ plane > 0).astype(int))
    assert found.accuracy > 0.97
    assert found.train_accuracy == 1.0


def test_labels_of_chance_are_told_apart_by_chance():
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(300, 20)), rng.normal(size=(1000, 20))
    y, expected = np.arange(300) % 5, np.arange(1000) % 5
    found = linear_probe(x, rng.permutation(y), other, expected)
    assert abs(found.accuracy - 0.2) < 4 * np.sqrt(0.16 / 1000)
    assert abs(max(found.cross_validation.values()) - 0.2) < 0.1


def test_scales_offsets_and_turns_of_features_do_not_matter(data):
    x, y, other, expected = data
    found = linear_probe(x, y, other, expected)
    units = 10.0 ** np.random.default_rng(0).uniform(-6, 6, x.shape[1])
    scaled = linear_probe(x * units + 3 * units, y, other * units + 3 * units, expected)
    assert scaled.cross_validation == pytest.approx(found.cross_validation)
    assert np.array_equal(scaled.confusion, found.confusion)
    order = np.random.default_rng(1).permutation(x.shape[1])
    assert np.array_equal(linear_probe(x[:, order], y, other[:, order], expected).confusion, found.confusion)


def test_constant_features_change_nothing(data):
    x, y, other, expected = data
    found = linear_probe(x, y, other, expected)
    more = linear_probe(
        np.column_stack([x, np.full(len(x), 0.1)]), y, np.column_stack([other, 9 * other[:, :1]]), expected
    )
    assert (found.num_constant, more.num_constant) == (0, 1)
    assert np.array_equal(more.confusion, found.confusion)
    assert more.probe.weight[-1] == pytest.approx(0, abs=1e-9)


def test_the_test_data_decide_nothing(data):
    x, y, other, expected = data
    one = linear_probe(x, y, other, expected)
    two = linear_probe(x, y, other[::2] * 3, expected[::2])
    assert one.cross_validation == two.cross_validation
    assert np.array_equal(one.probe.weight, two.probe.weight)


def test_costs_in_any_order_and_seeds(data):
    x, y, other, expected = data
    one, two = (linear_probe(x, y, other, expected, costs=costs) for costs in (COSTS, (*COSTS[::-1], COSTS[0])))
    assert one.to_plain() == two.to_plain()
    assert json.loads(json.dumps(one.to_plain())) == one.to_plain()
    again = linear_probe(x, y, other, expected, costs=COSTS, seed=1)
    assert again.cross_validation != one.cross_validation


def test_the_smallest_of_equally_good_costs_is_taken_and_dear_ones_are_left_out():
    x, y = blobs(80, spread=0.01)
    found = linear_probe(x, y, x, y, costs=(0.01, 0.1, 1.0))
    assert (found.cost, found.accuracy) == (0.01, 1.0)
    assert found.remarks == ()
    x, y = blobs(120, F=60, spread=6.0, scales=False)
    found = linear_probe(x, y, x, y)
    tried = list(found.cross_validation)
    assert tried == list(DEFAULT_COSTS[: len(tried)])
    assert len(tried) < len(DEFAULT_COSTS)
    best = max(found.cross_validation.values())
    assert all(found.cross_validation[c] < best for c in tried[-2:])


def test_a_best_cost_at_an_end_is_remarked(data):
    high = linear_probe(*data, costs=(1e-8, 1e-4))
    assert high.cost == 1e-4
    assert high.remarks == ("C = 0.0001 is the largest of those given; a larger one may do better",)
    x, y = blobs(120, F=60, spread=6.0, scales=False)
    low = linear_probe(x, y, x, y, costs=(1e-3, 100.0))
    assert low.remarks == ("C = 0.001 is the smallest of those given; a smaller one may do better",)


def test_progress_is_told_and_reaches_its_end(data):
    told = []
    linear_probe(*data, costs=COSTS, folds=3, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (13, 13)


def test_a_fit_that_is_cut_short_is_remarked(data, monkeypatch):
    monkeypatch.setattr(linear_svm, "MOST_STEPS", 2)
    found = linear_probe(*data, costs=[1.0])
    assert any("the fit of C = 1 did not converge" in remark for remark in found.remarks)


def test_a_rare_class_has_fewer_folds_and_labels_may_have_gaps(data):
    x, y, other, expected = data
    keep = np.flatnonzero((y != 0) | (np.cumsum(y == 0) <= 3))
    found = linear_probe(x[keep], 2 * y[keep], other, 2 * expected, class_names=list("abcdefgh"))
    assert found.folds == 3
    assert "3 folds instead of 5: class a has only 3 training data" in found.remarks
    assert found.confusion.shape == (8, 8)
    assert found.confusion[1::2].sum() == found.confusion[:, 1::2].sum() == 0
    share = np.diagonal(found.confusion)[::2] / found.confusion.sum(1)[::2]
    assert found.mean_class_accuracy == pytest.approx(share.mean())


def _with(data, **changes):
    x, y, other, expected = (a.copy() for a in data)
    given = {"x": x, "y": y, "other": other, "expected": expected} | changes
    options = {name: given.pop(name) for name in list(given) if name not in ("x", "y", "other", "expected")}
    return linear_probe(*given.values(), **options)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (lambda x, y, o, e: {"y": 0 * y, "expected": 0 * e}, "all training data are of class 0; a probe"),
        (lambda x, y, o, e: {"y": y.clip(max=2)}, "test data are of class 3, of which there are no training data"),
        (lambda x, y, o, e: {"class_names": ["a", "b"]}, "there is a label 3, but only 2 class names: a, b"),
        (lambda x, y, o, e: {"y": np.where(np.arange(len(y)) == 0, 4, y)}, "class 4 has a single training datum"),
        (lambda x, y, o, e: {"x": np.where(x == x[0, 0], np.nan, x)}, "features of 1 of 240 training data hold NaN"),
        (lambda x, y, o, e: {"other": np.where(o == o[0, 0], np.inf, o)}, "features of 1 of 160 test data hold NaN"),
        (lambda x, y, o, e: {"other": o[:, 1:]}, "training data have 12 features and test data 11"),
        (lambda x, y, o, e: {"y": y[1:]}, r"training labels are int64 \(239,\) for 240 data"),
        (lambda x, y, o, e: {"y": y + 0.5}, "training labels are float64"),
        (lambda x, y, o, e: {"expected": e - 1}, "whole number from 0"),
        (lambda x, y, o, e: {"x": x[:0], "y": y[:0]}, r"training features have shape \(0, 12\)"),
        (lambda x, y, o, e: {"costs": [0.1, 0]}, r"costs are \[0.1, 0\]"),
        (lambda x, y, o, e: {"costs": []}, "costs are"),
        (lambda x, y, o, e: {"folds": 1}, "folds is 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_probed_is_refused(data, changes, says):
    with pytest.raises((DataError, ConfigurationError), match=says):
        _with(data, **changes(*data))


def test_a_fitted_probe_refuses_other_features(data):
    found = linear_probe(*data, costs=[0.01])
    with pytest.raises(DataError, match="features have 5 columns; this probe was fitted to 12"):
        found.probe.predict(np.zeros((2, 5)))


def test_predictions_are_counted():
    found = score_predictions([0, 0, 0, 2], [0, 0, 2, 2], num_classes=4)
    assert found.confusion.tolist() == [[2, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert (found.accuracy, found.mean_class_accuracy) == (0.75, pytest.approx((2 / 3 + 1) / 2))


def test_published_accuracies_stand_beside_their_own_classes_alone():
    assert published_for(MODELNET10[::-1]) == ON_MODELNET10
    assert published_for(MODELNET10[:9]) == published_for(()) == ()
    assert all(0.5 < one.accuracy < 1 and one.reference and one.checked for one in ON_MODELNET10)
