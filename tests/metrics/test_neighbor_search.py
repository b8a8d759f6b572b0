"""The search gives, from few pairs, to the last bit the scores of all pairs."""

import random
from functools import partial
from itertools import permutations

import pytest
import torch

from pcgen.errors import DataError
from pcgen.metrics.functional import (
    coverage,
    covered_references,
    matching_distances,
    minimum_matching_distance,
    neighbor_agreement,
    one_nearest_neighbor_accuracy,
)
from pcgen.metrics.neighbor_search import known_pairs, search_earth_mover
from pcgen.metrics.set_distances import number_of_pairs
from pcgen.ops import pairwise_earth_mover_distance


def shapes(kind, S, R, n, seed=0):
    """Two sets of clouds in a few families, so that some pairs are near and most are far."""
    generator = torch.Generator().manual_seed(seed)
    rand = partial(torch.rand, generator=generator)

    def clouds(count):
        stretch = 0.2 + rand(count, 1, 3) if kind != "alike" else torch.ones(count, 1, 3)
        x = rand(count, n, 3) * stretch
        if kind == "grid":
            x = (x * 3).round()
        return x + (rand(count, 1, 3) if kind == "moved" else 0)

    a, b = clouds(S), clouds(R)
    if kind == "twins":
        b[:3], a[-1], b[-1] = a[:3], a[0], b[3]
    return a, b


def exhaustive(a, b, squared):
    pairwise = partial(pairwise_earth_mover_distance, squared=squared)
    return pairwise(a, a), pairwise(a, b), pairwise(b, b)


def assert_same_answers(found, d_ss, d_sr, d_rr):
    for transpose in (False, True):
        got, want = (found.sr.T, d_sr.T) if transpose else (found.sr, d_sr)
        assert torch.equal(matching_distances(got), matching_distances(want))
        assert torch.equal(covered_references(got), covered_references(want))
        assert minimum_matching_distance(got) == minimum_matching_distance(want)
        assert coverage(got) == coverage(want)
    for got, want in zip(
        neighbor_agreement(found.ss, found.sr, found.rr), neighbor_agreement(d_ss, d_sr, d_rr), strict=True
    ):
        assert torch.equal(got, want)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("kind", ["stretched", "alike", "moved", "grid", "twins"])
def test_equals_all_pairs(kind, squared):
    a, b = shapes(kind, 12, 9, 48)
    found = search_earth_mover(a, b, squared=squared)
    matrices = exhaustive(a, b, squared)
    assert_same_answers(found, *matrices)
    for got, want in zip(found[:3], matrices, strict=True):
        assert (got <= want).all()  # the distance, or a lower bound
    assert found.pairs == number_of_pairs(12, 9)


@pytest.mark.parametrize(("S", "R"), [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_small_sets(S, R):
    a, b = shapes("stretched", S, R, 20)
    assert_same_answers(search_earth_mover(a, b, squared=False), *exhaustive(a, b, squared=False))


@pytest.mark.parametrize("squared", [False, True])
def test_few_pairs_are_solved(squared):
    a, b = shapes("moved", 24, 24, 64)
    found = search_earth_mover(a, b, squared=squared)
    assert found.solved < found.pairs / 6
    assert found.solved + found.stopped < found.pairs / 2
    matrices = exhaustive(a, b, squared)
    assert one_nearest_neighbor_accuracy(*found[:3]) == one_nearest_neighbor_accuracy(*matrices)


def test_real_chairs(chairs):
    train, test = chairs
    a, b = train[:14], test[:14]
    found = search_earth_mover(a, b, squared=False)
    assert_same_answers(found, *exhaustive(a, b, squared=False))
    assert found.solved < found.pairs / 4


def test_what_is_known_of_the_reference_is_used_and_grows():
    a, b = shapes("stretched", 10, 10, 32)
    other = shapes("stretched", 10, 1, 32, seed=5)[0]
    known = known_pairs(b, {})
    first = search_earth_mover(a, b, squared=False, known=known)
    again = search_earth_mover(a, b, squared=False, known=known)
    assert_same_answers(again, *first[:3])
    before = known.upper.isfinite().sum()
    kept = known_pairs(b, known.to_tensors())
    assert_same_answers(search_earth_mover(other, b, squared=False, known=kept), *exhaustive(other, b, squared=False))
    assert kept.upper.isfinite().sum() >= before
    assert (kept.lower <= kept.upper).all()
    with pytest.raises(DataError, match="the reference has 9 clouds"):
        known_pairs(b[:9], known.to_tensors())


@pytest.mark.parametrize("ranks", [2, 3])
def test_shares_put_together_are_the_whole(ranks):
    a, b = shapes("stretched", 7, 8, 40)
    parts = [search_earth_mover(a, b, squared=False, share=(rank, ranks)) for rank in range(ranks)]
    merged = [torch.stack([part[k] for part in parts]).amax(0) for k in range(3)]
    assert_same_answers(parts[0]._replace(ss=merged[0], sr=merged[1], rr=merged[2]), *exhaustive(a, b, squared=False))


def tied(k, n, generator):
    """Clouds of few places, so that most distances occur several times."""
    return torch.rand(k, n, 3, dtype=torch.float64, generator=generator).mul(3).floor()


def twin_of(cloud, generator, moved):
    """The same points in another order, one of them moved."""
    twin = cloud[torch.randperm(len(cloud), generator=generator)]
    twin[0] += moved
    return twin


def by_permutations(a, b, squared):
    n = a.shape[1]
    out = torch.zeros(len(a), len(b), dtype=torch.float64)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** (2 if squared else 1)
            out[i, j] = min(cost[torch.arange(n), torch.tensor(p)].mean() for p in permutations(range(n)))
    return out


@pytest.mark.parametrize("seed", range(24))
def test_ties_and_near_twins_in_small_sets(seed):
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    n, S, R, K = draw.randint(1, 10), draw.randint(1, 8), draw.randint(1, 8), draw.randint(1, 8)
    squared, dtype = draw.random() < 0.5, draw.choice([torch.float32, torch.float64])
    a, b, oracle = (tied(k, n, generator) for k in (S, R, K))
    moved = draw.choice([0.0, 1e-7, 1e-13])
    b[0], oracle[-1] = twin_of(a[-1], generator, moved), twin_of(b[-1], generator, moved)
    a[0], b[-1] = twin_of(a[-1], generator, moved), twin_of(b[0], generator, moved)
    a, b, oracle = a.to(dtype), b.to(dtype), oracle.to(dtype)
    known, of_ranks = known_pairs(b, {}), [known_pairs(b, {}) for _ in range(3)]
    for generated in (a, oracle, a):
        want = exhaustive(generated, b, squared)
        found = search_earth_mover(generated, b, squared=squared, known=known)
        known = known_pairs(b, known.to_tensors())
        parts = [
            search_earth_mover(generated, b, squared=squared, known=mine, share=(rank, 3))
            for rank, mine in enumerate(of_ranks)
        ]
        merged = found._replace(**{k: torch.stack([getattr(p, k) for p in parts]).amax(0) for k in ("ss", "sr", "rr")})
        for answer in (found, merged):
            assert_same_answers(answer, *want)
            for got, whole in zip(answer[:3], want, strict=True):
                assert (got <= whole).all()
                twins = [(d.clone().fill_diagonal_(1) == 0).any(1) for d in (got, whole)]
                assert got is answer.sr or torch.equal(*twins)


@pytest.mark.parametrize("squared", [False, True])
def test_small_clouds_against_all_permutations(squared):
    generator = torch.Generator().manual_seed(3)
    a, b = tied(5, 4, generator), tied(4, 4, generator)
    found = search_earth_mover(a, b, squared=squared)
    want = [by_permutations(*pair, squared) for pair in ((a, a), (a, b), (b, b))]
    torch.testing.assert_close(matching_distances(found.sr), matching_distances(want[1]), rtol=1e-12, atol=0)
    rounded = [m.round(decimals=9) for m in want]  # sums in another order part ties
    searched = [m.round(decimals=9) for m in found[:3]]
    for got, whole in zip(neighbor_agreement(*searched), neighbor_agreement(*rounded), strict=True):
        assert torch.equal(got, whole)
    assert torch.equal(covered_references(searched[1]), covered_references(rounded[1]))


def test_progress_ends_at_all_pairs_and_never_goes_back():
    a, b = shapes("stretched", 8, 8, 32)
    told = []
    search_earth_mover(a, b, squared=False, progress=told.append)
    assert sum(told) == number_of_pairs(8, 8)
    assert min(told) >= 0


def test_progress_follows_the_assignments_and_not_the_bounds():
    a, b = shapes("stretched", 30, 30, 48)
    told = []
    found = search_earth_mover(a, b, squared=False, progress=told.append)
    assert found.solved + found.stopped < found.pairs / 2
    assert max(told) < found.pairs / 2  # the pairs that bounds discard do not make the bar jump
    assert sum(told) == found.pairs


def test_double_and_half_precision():
    a, b = shapes("stretched", 6, 6, 24)
    assert_same_answers(
        search_earth_mover(a.double(), b.double(), squared=True), *exhaustive(a.double(), b.double(), squared=True)
    )
    assert search_earth_mover(a.half(), b.half(), squared=False).sr.dtype == torch.float32


def test_bad_clouds_are_refused():
    a, b = shapes("stretched", 3, 3, 16)
    with pytest.raises(DataError, match="generated has 16 points a cloud and reference 15"):
        search_earth_mover(a, b[:, :15], squared=False)
    a[1, 2, 0] = torch.nan
    with pytest.raises(DataError, match="not finite"):
        search_earth_mover(a, b, squared=False)
