"""All pairs against one pair at a time."""

import math
import threading

import pytest
import torch
from scipy.spatial import cKDTree

from pcgen.errors import ConfigurationError, DataError
from pcgen.ops import chamfer_distance, pairwise_chamfer_distance


def by_pairs(a, b, **options):
    return torch.stack([torch.stack([chamfer_distance(x[None], y[None], **options)[0] for y in b]) for x in a])


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_one_pair_at_a_time(surfaces, norm, reduction, dtype):
    a, b = surfaces(3, 600, 1, dtype), surfaces(4, 333, 2, dtype)
    d = pairwise_chamfer_distance(a, b, norm=norm, reduction=reduction)
    torch.testing.assert_close(d, by_pairs(a, b, norm=norm, reduction=reduction), rtol=3e-7, atol=0)
    assert d.dtype == dtype


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 65), (3, 5), (15, 17), (31, 33), (63, 65), (1023, 130), (2500, 777)])
def test_any_number_of_points(surfaces, n, m):
    a, b = surfaces(2, n, 1), surfaces(3, m, 2)
    torch.testing.assert_close(pairwise_chamfer_distance(a, b), by_pairs(a, b), rtol=3e-7, atol=0)


@pytest.mark.parametrize(
    "cloud",
    [
        torch.zeros(300, 3),
        torch.cat([torch.zeros(290, 3), torch.rand(10, 3)]),
        torch.rand(300, 1) * torch.ones(3),
        torch.rand(300, 3) * torch.tensor([1, 1e-6, 0]),
        torch.rand(300, 3) + 1000,
        torch.cat([torch.rand(150, 3) - 50, torch.rand(150, 3) + 50]),
        torch.arange(300.0)[:, None].expand(300, 3).contiguous(),
    ],
    ids=["one point", "clump", "line", "sheet", "far", "two clumps", "sorted"],
)
def test_awkward_clouds(surfaces, cloud):
    a = torch.stack([cloud, cloud.flip(0), surfaces(1, 300)[0]])
    torch.testing.assert_close(pairwise_chamfer_distance(a, a.clone()), by_pairs(a, a), rtol=3e-7, atol=0)


def by_scipy(a, b, power=2):
    trees = [[cKDTree(c.double()) for c in clouds] for clouds in (a, b)]
    return torch.tensor(
        [
            [(u.query(t.data)[0] ** power).mean() + (t.query(u.data)[0] ** power).mean() for u in trees[1]]
            for t in trees[0]
        ]
    )


@pytest.mark.parametrize(("n", "m"), [(1, 7), (64, 65), (300, 411), (1500, 700)])
@pytest.mark.parametrize("norm", [1, 2])
def test_generated_surfaces_agree_with_scipy(surfaces, n, m, norm):
    a, b = surfaces(4, n, 1), surfaces(3, m, 2)
    d = pairwise_chamfer_distance(a, b, norm=norm)
    torch.testing.assert_close(d.double(), by_scipy(a, b, norm), rtol=1e-6, atol=0)


def test_real_chairs_agree_with_scipy(chairs):
    a, b = chairs[:5], chairs[5:]
    torch.testing.assert_close(pairwise_chamfer_distance(a, b).double(), by_scipy(a, b), rtol=1e-6, atol=0)


def test_one_set_with_itself_costs_half_and_has_the_same_gradient(surfaces, monkeypatch):
    from pcgen.ops import pairwise

    pairs = []

    def counted(x, y, **options):
        pairs.append(len(x))
        return chamfer_distance(x, y, **options)

    monkeypatch.setattr(pairwise, "chamfer_distance", counted)
    monkeypatch.setattr(pairwise, "CLOUDS_AT_ONCE", 4)
    a, weight = surfaces(9, 40, 1, torch.float64).requires_grad_(), torch.rand(9, 9, dtype=torch.float64)
    d = pairwise_chamfer_distance(a, a)
    assert sum(pairs) == 9 * 10 / 2
    assert max(pairs) == 4
    (gradient,) = torch.autograd.grad((d * weight).sum(), a)
    twice = torch.stack([torch.stack([chamfer_distance(x[None], y[None])[0] for y in a]) for x in a])
    torch.testing.assert_close(d, twice, rtol=1e-14, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad((twice * weight).sum(), a)[0])
    with torch.no_grad():
        torch.testing.assert_close(pairwise_chamfer_distance(a, a), d.detach(), rtol=1e-14, atol=0)


def test_one_set_with_itself_is_symmetric_with_a_zero_diagonal(surfaces):
    a = surfaces(40, 100)
    d = pairwise_chamfer_distance(a, a)
    assert torch.equal(d, pairwise_chamfer_distance(a, a.clone()))
    assert torch.equal(d, d.T)
    assert not d.diagonal().any()
    b = surfaces(3, 50, 9)
    assert torch.equal(pairwise_chamfer_distance(a, b), pairwise_chamfer_distance(b, a).T)


def test_the_same_bits_for_every_number_of_threads(surfaces, threads):
    a, b = surfaces(5, 700, 1), surfaces(40, 650, 2)
    results = []
    for count in (1, 2, 5):
        threads(count)
        results.append(pairwise_chamfer_distance(a, b))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("gradient", [False, True])
def test_progress_adds_up_on_the_calling_thread(surfaces, threads, symmetric, gradient):
    a = surfaces(37, 40).requires_grad_(gradient)
    b = a if symmetric else surfaces(70, 30)
    told, where = [], set()

    def progress(n):
        told.append(n)
        where.add(threading.get_ident())

    for count in (1, 3):
        threads(count)
        told.clear()
        pairwise_chamfer_distance(a, b, progress=progress)
        assert sum(told) == len(a) * len(b)
        assert len(told) > 30 or count > 1  # with others at work the caller may find that all is done
    assert where == {threading.get_ident()}


def test_an_error_in_progress_comes_out_and_leaves_the_threads_usable(surfaces):
    a = surfaces(20, 300)

    def refuse(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pairwise_chamfer_distance(a, a, progress=refuse)
    assert pairwise_chamfer_distance(a, a).shape == (20, 20)


def test_gradients(surfaces):
    a, b = surfaces(2, 9, 1, torch.float64).requires_grad_(), surfaces(3, 7, 2, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(pairwise_chamfer_distance, (a, b))
    torch.testing.assert_close(
        pairwise_chamfer_distance(a, b).detach(), pairwise_chamfer_distance(a.detach(), b.detach())
    )
    with torch.no_grad():
        assert not pairwise_chamfer_distance(a, b).requires_grad


@pytest.mark.parametrize(("s", "r"), [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("gradient", [False, True])
def test_empty_sets(s, r, gradient):
    a, b = torch.rand(s, 4, 3, requires_grad=gradient), torch.rand(r, 5, 3)
    assert pairwise_chamfer_distance(a, b).shape == (s, r)


def test_bad_input(surfaces):
    a, b = surfaces(2, 10), surfaces(3, 10)
    b[2, 4, 1] = math.nan
    with pytest.raises(DataError, match=r"b\[2\] is not finite \(first at point 4"):
        pairwise_chamfer_distance(a, b)
    with pytest.raises(DataError, match=r"b\[2\] is not finite"):
        pairwise_chamfer_distance(a.requires_grad_(), b)
    with pytest.raises(DataError, match="a has shape"):
        pairwise_chamfer_distance(a[0], b)
    with pytest.raises(ConfigurationError, match="norm is 0"):
        pairwise_chamfer_distance(a, a, norm=0)
