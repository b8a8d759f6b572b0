"""The earth mover's distance against SciPy's assignment in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pcgen.errors import ConfigurationError, DataError
from pcgen.ops import (
    _gpu_auction,
    assignment,
    earth_mover_bounds,
    earth_mover_distance,
    optimal_assignment,
    pairwise_earth_mover_distance,
)
from pcgen.ops.assignment import PairwiseAssignment


def two(make):
    """Make both clouds in the same way from the noise that is there."""
    return lambda x, y, g: (make(x, g), make(y, g))


MAKERS = {  # of normal noise x and y (1, N, 3) and a generator
    "gaussian": lambda x, y, g: (x, y),
    "uniform": two(lambda x, g: torch.rand(x.shape, generator=g, dtype=x.dtype)),
    "sphere": two(lambda x, g: x / x.norm(dim=2, keepdim=True)),
    "clusters": two(lambda x, g: 1e-3 * x + torch.randint(0, 3, (1, x.shape[1], 1), generator=g)),
    "tight clusters": two(lambda x, g: 1e-9 * x + torch.randint(0, 3, (1, x.shape[1], 1), generator=g)),
    "duplicates": lambda x, y, g: (x[:, torch.arange(x.shape[1]) // 4], y[:, torch.arange(x.shape[1]) // 3]),
    "one point": lambda x, y, g: (x[:, :1].repeat(1, x.shape[1], 1), y),
    "line": two(lambda x, g: x * torch.tensor([1.0, 0, 0])),
    "integer grid": two(lambda x, g: torch.randint(0, 5, x.shape, generator=g).double()),
    "far from the origin": two(lambda x, g: x + 1000),
    "far apart": lambda x, y, g: (x, y + 1000),
    "outlier": lambda x, y, g: (torch.cat([x[:, :1] + 1e4, x[:, 1:]], 1), y),
    "permuted": lambda x, y, g: (x, x[:, torch.randperm(x.shape[1], generator=g)]),
    "nearly equal": lambda x, y, g: (x, x[:, torch.randperm(x.shape[1], generator=g)] + 1e-7 * y),
    "all zero": two(lambda x, g: 0 * x),
    "tiny": two(lambda x, g: 1e-18 * x),
    "huge": two(lambda x, g: 1e17 * x),
}


def clouds(kind, n, seed=0, dtype=torch.float64):
    """A pair (1, n, 3) of a kind."""
    g = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(1, n, 3, generator=g, dtype=torch.float64) for _ in range(2))
    return [t.to(dtype) for t in MAKERS[kind](x, y, g)]


def cost_matrix(x, y, squared):
    d = (x.double()[:, None] - y.double()[None]).square().sum(2).numpy()
    return d if squared else np.sqrt(d)


def optimum(x, y, squared):
    """The mean cost of the best bijection of two clouds (N, 3), by SciPy."""
    c = cost_matrix(x, y, squared)
    return c[linear_sum_assignment(c)].mean()


def check(x, y, squared, tolerance, found, optima=None):
    """A bijection, its cost, a bound below SciPy's optimum and the gap that was asked for."""
    assert (found.distance.dtype, found.lower_bound.dtype, found.assignment.dtype) == (
        torch.float64,
        torch.float64,
        torch.int64,
    )
    optima = [optimum(*pair, squared) for pair in zip(x, y, strict=True)] if optima is None else optima
    for i, (best, distance, bound, index) in enumerate(zip(optima, *(t.numpy() for t in found), strict=True)):
        c = cost_matrix(x[i], y[i], squared)
        slack = 1e-15 * c.max()
        np.testing.assert_array_equal(np.sort(index), np.arange(len(c)))
        np.testing.assert_allclose(distance, c[np.arange(len(c)), index].mean(), rtol=1e-13, atol=0)
        assert 0 <= bound <= best * (1 + 1e-11) + slack
        assert best <= distance * (1 + 1e-13) + slack
        assert bound <= distance
        assert distance - bound <= max(tolerance, 1e-9) * distance
        if tolerance == 0:
            assert distance <= best * (1 + 1e-12) + slack


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("n", [1, 2, 3, 17, 33, 100])
def test_is_the_optimum_with_its_proof(kind, n, squared):
    for dtype in (torch.float32, torch.float64):
        x, y = clouds(kind, n, seed=n, dtype=dtype)
        best = [optimum(x[0], y[0], squared)]
        for tolerance in (0, 1e-5, 1e-2):
            check(x, y, squared, tolerance, earth_mover_bounds(x, y, squared=squared, tolerance=tolerance), best)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("kind", MAKERS)
def test_many_points(kind, squared):
    x, y = clouds(kind, 500, dtype=torch.float32)
    check(x, y, squared, 0, earth_mover_bounds(x, y, squared=squared, tolerance=0))


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("n", [15, 16, 31, 32, 63, 64, 65, 513])
def test_sizes_beside_whole_vectors_and_leaves(surfaces, n, squared):
    x, y = surfaces(2, n, 1), surfaces(2, n, 2)
    check(x, y, squared, 0, earth_mover_bounds(x, y, squared=squared, tolerance=0))


@pytest.mark.parametrize("squared", [False, True])
def test_real_chairs(chairs, squared):
    x, y = chairs[:2, ::2], chairs[2:4, ::2]
    best = [optimum(*pair, squared) for pair in zip(x, y, strict=True)]
    for tolerance in (0, 1e-5, 1e-3):
        check(x, y, squared, tolerance, earth_mover_bounds(x, y, squared=squared, tolerance=tolerance), best)


@pytest.mark.parametrize("precise", [False, True])
def test_the_two_meanings_have_different_bijections(precise):
    x = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]], dtype=torch.float64 if precise else torch.float32)
    y = torch.tensor([[[1.0, 0.0, 0.0], [2.0, 0.5, 0.0]]], dtype=x.dtype)
    stay = torch.tensor([[1, 0]])  # the shared point stays: √4.25 + 0
    shift = torch.tensor([[0, 1]])  # both move by one or so: 1 + √1.25
    assert torch.equal(optimal_assignment(x, y), stay)
    assert torch.equal(optimal_assignment(x, y, squared=True), shift)
    torch.testing.assert_close(earth_mover_distance(x, y), x.new_tensor([math.sqrt(4.25) / 2]))
    torch.testing.assert_close(earth_mover_distance(x, y, squared=True), x.new_tensor([(1 + 1.25) / 2]))
    torch.testing.assert_close(pairwise_earth_mover_distance(x, y), x.new_tensor([[math.sqrt(4.25) / 2]]))
    torch.testing.assert_close(pairwise_earth_mover_distance(x, y, squared=True), x.new_tensor([[1.125]]))


@pytest.mark.parametrize("solver", ["exact", "auction"])
@pytest.mark.parametrize("squared", [False, True])
def test_invariances(surfaces, squared, solver):
    x, y = surfaces(2, 150, 1, torch.float64), surfaces(2, 150, 2, torch.float64)
    d = earth_mover_distance(x, y, squared=squared, solver=solver)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    shift = torch.tensor([3.0, -50.0, 7.0], dtype=torch.float64)
    rtol = 1e-12 if solver == "exact" else 1e-5
    others = [(y, x), (x @ rotation + shift, y @ rotation + shift), (x[:, order], y.flip(1)), (1000 * x, 1000 * y)]
    for k, (a, b) in enumerate(others):
        factor = (1e6 if squared else 1e3) if k == 3 else 1
        found = earth_mover_distance(a, b, squared=squared, solver=solver)
        torch.testing.assert_close(found, factor * d, rtol=rtol, atol=0)


def test_the_triangle_inequality(surfaces):
    a = surfaces(5, 80, 3)
    d = pairwise_earth_mover_distance(a, a)
    assert (d[:, :, None] <= (d[:, None, :] + d.T[None, :, :]) * (1 + 1e-6)).all()


def test_moved_clouds_are_as_far_as_they_were_moved():
    x = clouds("gaussian", 200)[0]
    shift = torch.tensor([0.3, 0.0, 0.4], dtype=torch.float64)
    torch.testing.assert_close(earth_mover_distance(x, x + shift), x.new_tensor([0.5]), rtol=1e-12, atol=0)
    squared = earth_mover_distance(x, x + shift, squared=True)
    torch.testing.assert_close(squared, x.new_tensor([0.25]), rtol=1e-12, atol=0)


# ── gradients ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("solver", ["exact", "auction"])
@pytest.mark.parametrize("squared", [False, True])
def test_gradients_and_their_gradients(squared, solver):
    x, y = (t.requires_grad_() for t in clouds("gaussian", 6, seed=2))

    def distance(x, y):
        return earth_mover_distance(x, y, squared=squared, solver=solver)

    def matrix(x, y):
        return pairwise_earth_mover_distance(x, y, squared=squared, solver=solver)

    for function in (distance, matrix):
        assert torch.autograd.gradcheck(function, (x, y))
        assert torch.autograd.gradgradcheck(function, (x, y))


def test_the_gradient_is_that_of_the_pairs(surfaces):
    x, y = surfaces(2, 70, 1).requires_grad_(), surfaces(2, 70, 2)
    earth_mover_distance(x, y, squared=True).sum().backward()
    matched = y.gather(1, optimal_assignment(x, y, squared=True)[..., None].expand(-1, -1, 3))
    torch.testing.assert_close(x.grad, 2 * (x.detach() - matched) / 70)


def test_the_gradient_of_a_set_with_itself(surfaces):
    a = surfaces(3, 20, 1, torch.float64).requires_grad_()
    weights = torch.arange(9.0, dtype=torch.float64).view(3, 3)
    (own,) = torch.autograd.grad((weights * pairwise_earth_mover_distance(a, a)).sum(), a)
    b = a.detach().clone().requires_grad_()
    both = torch.autograd.grad((weights * pairwise_earth_mover_distance(a, b)).sum(), (a, b))
    torch.testing.assert_close(own, both[0] + both[1])


@pytest.mark.parametrize("squared", [False, True])
def test_the_gradient_of_zero_is_zero(squared):
    x, y = clouds("permuted", 40)
    x.requires_grad_()
    d = earth_mover_distance(x, y, squared=squared)
    d.sum().backward()
    assert d.item() == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


# ── many pairs ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_pairs_are_one_pair_at_a_time(surfaces, squared, dtype):
    a, b = surfaces(3, 50, 1, dtype), surfaces(4, 50, 2, dtype)
    d = pairwise_earth_mover_distance(a, b, squared=squared)
    assert (d.shape, d.dtype) == ((3, 4), dtype)
    expected = torch.tensor([[optimum(x, y, squared) for y in b] for x in a])
    torch.testing.assert_close(d.double(), expected, rtol=1e-12 if dtype == torch.float64 else 1e-7, atol=0)
    auctioned = pairwise_earth_mover_distance(a, b, squared=squared, solver="auction", tolerance=1e-3)
    assert (auctioned.double() >= expected * (1 - 1e-7)).all()
    torch.testing.assert_close(auctioned.double(), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("squared", [False, True])
def test_a_set_with_itself(surfaces, squared):
    a, told = surfaces(4, 40, 1), []
    d = pairwise_earth_mover_distance(a, a, squared=squared, progress=told.append)
    assert sum(told) == 16
    assert torch.equal(d, d.T)
    assert torch.equal(d.diagonal(), torch.zeros(4))
    torch.testing.assert_close(d, pairwise_earth_mover_distance(a, a.clone(), squared=squared), rtol=1e-6, atol=1e-9)


def test_progress_counts_every_entry(surfaces):
    told = []
    pairwise_earth_mover_distance(surfaces(3, 20, 1), surfaces(5, 20, 2), progress=told.append)
    assert sum(told) == 15


@pytest.mark.parametrize("squared", [False, True])
def test_a_pair_does_not_depend_on_its_company(surfaces, squared):
    a, b = surfaces(2, 60, 1), surfaces(2, 60, 2)
    alone = PairwiseAssignment(a, b, squared=squared).solve(torch.tensor([[0, 1]]), assignments=True)
    far, tight = 1e15 * surfaces(1, 60, 3), clouds("tight clusters", 60, dtype=torch.float32)[0]
    crowd = PairwiseAssignment(torch.cat([far, a]), torch.cat([b, tight]), squared=squared)
    among = crowd.solve(torch.tensor([[0, 0], [1, 1], [1, 2], [0, 2]]), assignments=True)
    assert all(torch.equal(one[0], many[1]) for one, many in zip(alone, among, strict=True))


def test_only_the_pairs_that_need_it_are_assigned_in_double_precision(surfaces, monkeypatch):
    tight = [torch.cat([0.0 * s, 1e-9 * s[:, :1] + s], 1) for s in clouds("gaussian", 150, dtype=torch.float64)]
    a = torch.cat([surfaces(1, 300, 1, torch.float64), tight[0]])
    b = torch.cat([surfaces(1, 300, 2, torch.float64), tight[1] * 1e-9])
    solver, used = PairwiseAssignment(a, b, squared=False), []
    whole = PairwiseAssignment._assign

    def noted(self, pairs, precision, *rest):
        used.append((precision, pairs.tolist()))
        return whole(self, pairs, precision, *rest)

    monkeypatch.setattr(PairwiseAssignment, "_assign", noted)
    pairs = torch.tensor([[0, 0], [1, 1], [0, 1], [0, 0]])
    found = solver.solve(pairs, assignments=True)
    assert used[0] == (torch.float32, pairs.tolist())
    assert len(used) == 2
    assert used[1][0] == torch.float64
    assert 0 < len(used[1][1]) < 4
    check(a[pairs[:, 0]], b[pairs[:, 1]], False, 0, found)


def test_the_same_whatever_the_threads(surfaces, threads):
    a, b = surfaces(4, 120, 1), surfaces(3, 120, 2)
    results = []
    for count in (1, 2, 2):
        threads(count)
        bounds = earth_mover_bounds(a[:3], b, tolerance=1e-3)
        results.append((pairwise_earth_mover_distance(a, b), *bounds))
    for other in results[1:]:
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(results[0], other, strict=True))


# ── another device, played by the CPU ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("squared", [False, True])
def test_the_device_way(surfaces, monkeypatch, squared):
    monkeypatch.setattr(assignment, "CLOUDS_AT_ONCE", 2)
    a, b, told = surfaces(2, 40, 1), surfaces(3, 40, 2), []
    pairs = torch.tensor([[0, 0], [1, 2], [0, 1], [1, 1], [0, 2]])
    found = PairwiseAssignment(a, b, squared=squared)._on_device(pairs, 1e-3, True, told.append)
    assert told == [2, 2, 1]
    check(a[pairs[:, 0]], b[pairs[:, 1]], squared, 1e-3, found)
    without = PairwiseAssignment(a, b, squared=squared)._on_device(pairs, 1e-3, False, None)
    assert without.assignment.shape == (5, 0)
    assert torch.equal(without.distance, found.distance)
    empty = PairwiseAssignment(a, b, squared=squared)._on_device(pairs[:0], 1e-3, True, None)
    assert [t.shape for t in empty] == [(0,), (0,), (0, 40)]


def test_what_a_devices_auction_leaves_open_is_assigned_on_the_cpu(surfaces):
    a, b = surfaces(1, 30, 1), surfaces(2, 30, 2)
    pairs = torch.tensor([[0, 0], [0, 1]])
    found = PairwiseAssignment(a, b, squared=False)._on_device(pairs, 1e-12, True, None)
    check(a[[0, 0]], b, False, 1e-12, found)


def test_a_devices_auction_that_does_not_end_is_ended_on_the_cpu(surfaces, monkeypatch):
    monkeypatch.setattr(_gpu_auction, "BIDS_PER_POINT", 0)
    a, b = surfaces(1, 30, 1), surfaces(2, 30, 2)
    pairs = torch.tensor([[0, 0], [0, 1]])
    found = PairwiseAssignment(a, b, squared=False)._on_device(pairs, 1e-3, True, None)
    check(a[[0, 0]], b, False, 1e-3, found)


# ── what goes in ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(surfaces, dtype):
    x, y = surfaces(2, 30, 1).to(dtype), surfaces(2, 30, 2).to(dtype)
    for squared in (False, True):
        d = earth_mover_distance(x, y, squared=squared)
        assert d.dtype == torch.float32
        assert torch.equal(d, earth_mover_distance(x.float(), y.float(), squared=squared))
        assert pairwise_earth_mover_distance(x, x, squared=squared).dtype == torch.float32


def test_strides_do_not_matter(surfaces):
    x, y = surfaces(2, 60, 1), surfaces(2, 60, 2)
    strided = x.transpose(1, 2).contiguous().transpose(1, 2), y.repeat(1, 1, 2)[:, :, :3]
    assert torch.equal(earth_mover_distance(*strided), earth_mover_distance(x, y))
    dense = x[:, ::2].contiguous(), y[:, 1::2].contiguous()
    assert torch.equal(earth_mover_distance(x[:, ::2], y[:, 1::2]), earth_mover_distance(*dense))
    assert torch.equal(earth_mover_distance(x[:1].expand(2, -1, -1), y), earth_mover_distance(x[[0, 0]], y))


def test_no_clouds():
    none, some = torch.zeros(0, 5, 3), torch.zeros(2, 5, 3)
    assert earth_mover_distance(none, none).shape == (0,)
    assert optimal_assignment(none, none).shape == (0, 5)
    assert [t.shape for t in earth_mover_bounds(none, none)] == [(0,), (0,), (0, 5)]
    assert pairwise_earth_mover_distance(none, some).shape == (0, 2)
    assert pairwise_earth_mover_distance(some, none).shape == (2, 0)
    assert pairwise_earth_mover_distance(none, none).shape == (0, 0)
    assert pairwise_earth_mover_distance(some[:1], some[:1]).shape == (1, 1)
    grown = some.clone().requires_grad_()
    pairwise_earth_mover_distance(grown, none).sum().backward()
    assert torch.equal(grown.grad, some)


BOTH = pytest.mark.parametrize("operation", [earth_mover_distance, earth_mover_bounds, pairwise_earth_mover_distance])


@BOTH
def test_sizes_that_differ_are_refused(operation):
    with pytest.raises(DataError, match=r"4 points a cloud and [yb] 5: .* draw as many"):
        operation(torch.zeros(1, 4, 3), torch.zeros(1, 5, 3))


@BOTH
def test_clouds_without_points_are_refused(operation):
    with pytest.raises(DataError, match="without points"):
        operation(torch.zeros(1, 0, 3), torch.zeros(1, 0, 3))


@BOTH
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(operation, value):
    bad = torch.zeros(3, 4, 3)
    bad[2, 1, 0] = value
    with pytest.raises(DataError, match=r"[yb]\[2\] is not finite \(first at point 1"):
        operation(torch.zeros(3, 4, 3), bad)


@BOTH
def test_values_whose_square_overflows_are_refused(operation):
    with pytest.raises(DataError, match=r"1e\+19, whose square overflows"):
        operation(torch.full((1, 4, 3), 1e19), torch.zeros(1, 4, 3))


def test_the_largest_values_that_are_accepted():
    for dtype in (torch.float32, torch.float64):
        edge = (torch.finfo(dtype).max / 16) ** 0.5
        x, y = (edge * torch.tensor([[[s, s, s], [0.0, 0, 0]]], dtype=dtype) for s in (0.999, -0.999))
        assert earth_mover_distance(x, y, squared=True).isfinite().all()
        found = earth_mover_bounds(x, y, squared=True)
        assert (found.distance - found.lower_bound <= 1e-5 * found.distance).all()


@pytest.mark.parametrize("tolerance", [-1e-3, 1.0, math.nan, math.inf])
def test_bad_tolerances_are_refused(tolerance):
    x = torch.zeros(1, 2, 3)
    for call in (
        lambda: earth_mover_distance(x, x, solver="auction", tolerance=tolerance),
        lambda: pairwise_earth_mover_distance(x, x, solver="auction", tolerance=tolerance),
        lambda: earth_mover_bounds(x, x, tolerance=tolerance),
    ):
        with pytest.raises(ConfigurationError, match="tolerance is"):
            call()


def test_an_unknown_solver_is_refused():
    with pytest.raises(ConfigurationError, match=r'solver is .sinkhorn.; choose "exact" or "auction"'):
        earth_mover_distance(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), solver="sinkhorn")


def test_batches_that_differ_are_refused():
    with pytest.raises(DataError, match="different numbers of clouds"):
        earth_mover_distance(torch.zeros(1, 2, 3), torch.zeros(2, 2, 3))
