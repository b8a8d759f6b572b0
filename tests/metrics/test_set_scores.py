"""MMD, COV, 1-NNA and coverage by reconstructions: worked by hand, and against loops and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import functional as F

# Three generated (rows) and four references (columns). By hand:
#   least in each column: 1, 2, 1, 7            -> MMD = 11/4 = 2.75
#   nearest column of each row: 0, 2, 0         -> references 0 and 2 covered: COV = 2/4
# and with the sides swapped, as PointFlow had them for sixteen months:
#   least in each row: 1, 1, 2                  -> 4/3
#   nearest row of each column: 0, 2, 1, 2      -> all three: 3/3
GOLDEN = torch.tensor([[1.0, 5.0, 3.0, 9.0], [4.0, 6.0, 1.0, 8.0], [2.0, 2.5, 6.0, 7.0]])
GOLDEN[2, 1] = 2.0  # a tie in row 2 between references 0 and 1: the first one is covered


def test_golden_orientation():
    assert F.minimum_matching_distance(GOLDEN).item() == 2.75
    assert F.coverage(GOLDEN).item() == 0.5
    assert F.covered_references(GOLDEN).tolist() == [True, False, True, False]
    assert F.matching_distances(GOLDEN).tolist() == [1.0, 2.0, 1.0, 7.0]


def test_golden_swapped_differs():
    assert F.minimum_matching_distance(GOLDEN.T).item() == pytest.approx(4 / 3, abs=0)
    assert F.coverage(GOLDEN.T).item() == 1.0


def test_coverage_tie_covers_the_first_alone():
    assert F.coverage(torch.zeros(5, 4)).item() == 0.25  # a generator so far off that all distances round alike
    assert F.coverage(torch.tensor([[2.0, 1.0, 1.0]])).item() == pytest.approx(1 / 3)
    assert F.covered_references(torch.tensor([[2.0, 1.0, 1.0]])).tolist() == [False, True, False]


def test_golden_1nna():
    # s0, s1, r0, r1. s0: s1 at 1 is nearest (right). s1: r0 at 0.5 (wrong). r0: s1 at 0.5 (wrong). r1: r0 at 2 (right).
    d_ss = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    d_sr = torch.tensor([[3.0, 4.0], [0.5, 5.0]])
    d_rr = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    assert [t.tolist() for t in F.neighbor_agreement(d_ss, d_sr, d_rr)] == [[1.0, 0.0], [0.0, 1.0]]
    assert F.one_nearest_neighbor_accuracy(d_ss, d_sr, d_rr).item() == 0.5
    d_sr = torch.tensor([[3.0, 0.9], [0.5, 5.0]])  # now s0 and r1 find each other at .9: only wrong ones are left
    assert F.one_nearest_neighbor_accuracy(d_ss, d_sr, d_rr).item() == 0.0
    d_sr = torch.tensor([[3.0, 2.0], [0.5, 5.0]])  # r1 has r0 and s0 at 2: half right. s0 right. s1, r0 wrong
    assert F.one_nearest_neighbor_accuracy(d_ss, d_sr, d_rr).item() == 1.5 / 4


def test_1nna_diagonal_is_not_looked_at():
    d_ss = torch.tensor([[math.nan, 1.0], [1.0, math.inf]])
    d_sr, d_rr = torch.full((2, 2), 5.0), torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
    assert F.one_nearest_neighbor_accuracy(d_ss, d_sr, d_rr).item() == 1.0


def test_1nna_of_indistinguishable_and_of_repeated_clouds():
    n = 6
    zeros = torch.zeros(n, n)
    # all alike: each has n − 1 neighbours of its own and n of the other set, what chance gives
    assert F.one_nearest_neighbor_accuracy(zeros, zeros, zeros).item() == pytest.approx((n - 1) / (2 * n - 1))
    apart = 1 - torch.eye(n)
    assert F.one_nearest_neighbor_accuracy(apart, apart, apart).item() == 0.0  # the generator repeats the reference
    far = torch.full((n, n), 1e30)
    assert F.one_nearest_neighbor_accuracy(zeros, far, apart).item() == 1.0  # a collapsed and far one


def test_1nna_of_one_cloud_each():
    one = torch.ones(1, 1)
    assert F.one_nearest_neighbor_accuracy(one, one, one).item() == 0.0
    assert F.coverage(one).item() == 1.0
    assert F.minimum_matching_distance(one).item() == 1.0


@pytest.mark.parametrize(("S", "R"), [(7, 7), (12, 5), (1, 9)])
def test_against_loops(S, R):
    d = torch.rand(S, R, dtype=torch.float64, generator=torch.Generator().manual_seed(S))
    rows = d.tolist()
    mmd = sum(min(rows[i][j] for i in range(S)) for j in range(R)) / R
    cov = len({min(range(R), key=rows[i].__getitem__) for i in range(S)}) / R
    assert F.minimum_matching_distance(d).item() == pytest.approx(mmd, rel=1e-15)
    assert F.coverage(d).item() == cov


def _points(n, shift=0.0, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3)) + shift


def _distances(a, b):
    return torch.from_numpy(np.linalg.norm(a[:, None] - b[None], axis=-1))


@pytest.mark.parametrize(("S", "R", "shift"), [(40, 40, 0.0), (40, 40, 1.5), (25, 40, 0.7)])
def test_1nna_against_sklearn(S, R, shift):
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    s, r = _points(S, shift, 1), _points(R, 0, 2)
    x, y = np.concatenate([s, r]), np.repeat([1, 0], [S, R])
    expected = cross_val_score(KNeighborsClassifier(1), x, y, cv=LeaveOneOut()).mean()
    got = F.one_nearest_neighbor_accuracy(_distances(s, s), _distances(s, r), _distances(r, r), allow_unequal=S != R)
    assert got.item() == pytest.approx(expected, rel=1e-14)


def test_1nna_of_unequal_sets_is_refused_and_its_ideal_is_as_said():
    with pytest.raises(ConfigurationError, match=r"3 generated and 4 reference.*allow_unequal"):
        F.one_nearest_neighbor_accuracy(torch.ones(3, 3), torch.ones(3, 4), torch.ones(4, 4))
    S, R = 30, 90
    ideal = (S * (S - 1) + R * (R - 1)) / ((S + R) * (S + R - 1))
    values = []
    for seed in range(40):
        s, r = _points(S, 0, 2 * seed), _points(R, 0, 2 * seed + 1)
        values.append(
            F.one_nearest_neighbor_accuracy(
                _distances(s, s), _distances(s, r), _distances(r, r), allow_unequal=True
            ).item()
        )
    assert np.mean(values) == pytest.approx(ideal, abs=0.02)


def test_order_of_clouds_does_not_show():
    g = torch.Generator().manual_seed(3)
    d = torch.rand(9, 9, generator=g)
    ss, rr = torch.rand(2, 9, 9, generator=g)
    p, q = torch.randperm(9, generator=g), torch.randperm(9, generator=g)
    assert F.minimum_matching_distance(d[p][:, q]) == F.minimum_matching_distance(d)  # to the last bit
    assert F.coverage(d[p][:, q]) == F.coverage(d)
    ss[0, 1] = d[0].min()  # a tie between own and other
    shuffled = F.one_nearest_neighbor_accuracy(ss[p][:, p], d[p][:, q], rr[q][:, q])
    assert shuffled == F.one_nearest_neighbor_accuracy(ss, d, rr)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_distances_that_are_none(bad):
    d = torch.ones(3, 3)
    d[1, 2] = bad
    fine = torch.ones(3, 3)
    for score in (F.minimum_matching_distance, F.coverage):
        with pytest.raises(DataError, match=r"d\[1, 2\]"):
            score(d)
    for arguments, name in (((d, fine, fine), "d_ss"), ((fine, d, fine), "d_sr"), ((fine, fine, d), "d_rr")):
        with pytest.raises(DataError, match=rf"{name}\[1, 2\]"):
            F.one_nearest_neighbor_accuracy(*arguments)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (2, 2, 2)])
def test_matrices_that_are_none(shape):
    with pytest.raises(DataError, match=r"\(S, R\)"):
        F.coverage(torch.ones(shape))


def test_matrices_that_do_not_belong_together():
    with pytest.raises(DataError, match="d_rr has shape"):
        F.one_nearest_neighbor_accuracy(torch.ones(3, 3), torch.ones(3, 3), torch.ones(4, 4))


def test_golden_reconstruction_agreement():
    # datum 0: own reconstruction at 1, other data at 5  -> both. datum 1: reconstruction of 0 at 2, own at 3 -> any.
    # datum 2: datum 1 at 1, reconstructions at 4, 4, 6 -> neither.
    d_dd = torch.tensor([[0.0, 5.0, 5.0], [5.0, 0.0, 3.0], [5.0, 1.0, 0.0]])
    d_dr = torch.tensor([[1.0, 4.0, 4.0], [2.0, 3.0, 9.0], [4.0, 4.0, 6.0]])
    some, own = F.reconstruction_agreement(d_dd, d_dr)
    assert some.tolist() == [1.0, 1.0, 0.0]
    assert own.tolist() == [1.0, 0.0, 0.0]


def test_reconstruction_agreement_ties():
    d_dd = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    some, own = F.reconstruction_agreement(d_dd, torch.ones(2, 2))  # one datum and two reconstructions at 1
    assert some.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert own.tolist() == pytest.approx([1 / 3, 1 / 3])


def _chamfer(a, b):
    (to_b, _), (to_a, _) = cKDTree(b).query(a), cKDTree(a).query(b)
    return (to_b**2).mean() + (to_a**2).mean()


def test_reconstruction_coverage_against_a_loop():
    rng = np.random.default_rng(5)
    data = rng.normal(size=(12, 40, 3))
    noise = np.where(np.arange(12) < 6, 0.02, 1.5)[:, None, None]  # half of them good
    reconstructions = data + noise * rng.normal(size=data.shape)
    some = own = 0
    for i in range(12):
        others = [(_chamfer(data[i], data[j]), "datum", j) for j in range(12) if j != i]
        others += [(_chamfer(data[i], reconstructions[j]), "reconstruction", j) for j in range(12)]
        _, kind, j = min(others)
        some += kind == "reconstruction"
        own += kind == "reconstruction" and j == i
    assert 0 < own <= some < 12
    tensors = torch.from_numpy(data).float(), torch.from_numpy(reconstructions).float()
    assert F.reconstruction_coverage(*tensors).item() == some / 12
    assert F.own_reconstruction_coverage(*tensors).item() == own / 12


def test_reconstruction_coverage_of_perfect_and_collapsed_models():
    data = torch.randn(8, 30, 3, generator=torch.Generator().manual_seed(0))
    assert F.reconstruction_coverage(data, data).item() == 1.0
    assert F.own_reconstruction_coverage(data, data).item() == 1.0
    collapsed = data.mean(0, keepdim=True).expand(8, -1, -1)
    assert F.own_reconstruction_coverage(data, collapsed).item() <= 1 / 8
    assert F.reconstruction_coverage(data[:1], data[:1] + 9).item() == 1.0  # nothing else is there


def test_reconstruction_coverage_refuses_what_does_not_pair():
    with pytest.raises(DataError, match="3 reconstructions of 4 data"):
        F.reconstruction_coverage(torch.ones(4, 5, 3), torch.ones(3, 5, 3))
    with pytest.raises(DataError, match="0 reconstructions of 0 data"):
        F.reconstruction_coverage(torch.ones(0, 5, 3), torch.ones(0, 5, 3))
