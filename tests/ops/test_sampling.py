"""Farthest point sampling against the greedy choice by loops."""

import pytest
import torch

from pcgen.errors import DataError
from pcgen.ops import farthest_point_sampling, sampling


def greedy(points, k, first):
    """The same rule with nothing kept: every distance anew for every choice."""
    chosen = [first]
    for _ in range(k - 1):
        best, index = -1.0, None
        for i, p in enumerate(points):
            if i in chosen:
                continue
            d = min(sum((a - b) ** 2 for a, b in zip(p, points[j], strict=True)) for j in chosen)
            if d > best:
                best, index = d, i
        chosen.append(index)
    return chosen


@pytest.mark.parametrize(("N", "k", "C"), [(30, 30, 3), (60, 12, 3), (25, 7, 2), (1, 1, 3)])
def test_against_loops(N, k, C):
    x = torch.randn(3, N, C, dtype=torch.float64, generator=torch.Generator().manual_seed(N))
    found = farthest_point_sampling(x, k)
    assert found.shape == (3, k)
    assert found.tolist() == [greedy(cloud.tolist(), k, 0) for cloud in x]


def test_ties_take_the_lowest_index_and_no_index_twice():
    grid = torch.tensor([[i, j, 0.0] for i in range(4) for j in range(4)])
    cloud = torch.cat([grid, grid])[None].double()  # every point twice, and many ties
    found = farthest_point_sampling(cloud, 32)[0].tolist()
    assert found == greedy(cloud[0].tolist(), 32, 0)
    assert sorted(found) == list(range(32))
    assert farthest_point_sampling(torch.zeros(1, 5, 3), 4).tolist() == [[0, 1, 2, 3]]


def test_the_path_of_other_devices_chooses_the_same(chairs):
    grid = torch.cartesian_prod(*[torch.arange(5.0)] * 3)  # distances without rounding, so that ties are ties
    for x in (grid[None], chairs[:2].double()):
        first = torch.zeros(len(x), 100, dtype=torch.int64)
        assert torch.equal(sampling._by_torch(x, first), farthest_point_sampling(x, 100))


def test_any_number_of_threads_chooses_the_same(surfaces, threads):
    x = surfaces(9, 200)
    threads(1)
    expected = farthest_point_sampling(x, 50)
    threads(3)
    assert torch.equal(farthest_point_sampling(x, 50), expected)


def test_the_first_point():
    x = torch.randn(50, 40, 3, generator=torch.Generator().manual_seed(0))
    draw = [farthest_point_sampling(x, 5, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*draw)
    assert len(set(draw[0][:, 0].tolist())) > 20  # one for each cloud
    assert (farthest_point_sampling(x, 5)[:, 0] == 0).all()
    for i in 0, 17:
        assert draw[0][i].tolist() == greedy(x[i].double().tolist(), 5, int(draw[0][i, 0]))


def test_fewer_points_are_the_beginning_of_more(chairs):
    longer = farthest_point_sampling(chairs, 64)
    assert torch.equal(farthest_point_sampling(chairs, 16), longer[:, :16])
    # farthest points cover better than the first ones: the largest hole is smaller
    holes = [torch.cdist(chairs[0], chairs[0][index]).amin(1).max() for index in (longer[0], torch.arange(64))]
    assert holes[0] < holes[1]


def test_covering_radius_is_within_twice_the_best(surfaces):
    """Gonzalez' guarantee: no choice of k points has less than half its covering radius."""
    x = surfaces(1, 300, dtype=torch.float64)[0]
    index = farthest_point_sampling(x[None], 21)[0]
    radius = torch.cdist(x, x[index[:20]]).amin(1).max()
    apart = torch.cdist(x[index], x[index]).fill_diagonal_(torch.inf).min()
    assert apart >= radius - 1e-12  # 21 points at least `radius` apart: two of them share a centre of any 20


def test_half_precision_and_empty_batches():
    x = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0)).half()
    assert torch.equal(farthest_point_sampling(x, 6), farthest_point_sampling(x.float(), 6))
    assert farthest_point_sampling(torch.empty(0, 5, 3), 2).shape == (0, 2)


def test_refusals():
    x = torch.randn(2, 8, 3)
    with pytest.raises(DataError, match="k is 9, but x has 8 points"):
        farthest_point_sampling(x, 9)
    with pytest.raises(DataError, match="k is 0"):
        farthest_point_sampling(x, 0)
    with pytest.raises(DataError, match=r"\(8, 3\)"):
        farthest_point_sampling(x[0], 2)
    for value, said in ((torch.nan, "is not finite"), (torch.inf, "is not finite"), (1e30, "overflows")):
        x[1, 3, 0] = value
        for k in (1, 2, 8):
            with pytest.raises(DataError, match=rf"x\[1\].*{said}"):
                farthest_point_sampling(x, k)
        with pytest.raises(DataError, match=rf"x\[1\].*{said}"):
            farthest_point_sampling(x.repeat(1, 1, 2), 2)
