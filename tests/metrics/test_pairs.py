"""Matrices of distances: divided among ranks, and found without all pairs."""

import dataclasses

import pytest
import torch

from pcgen.errors import ConfigurationError
from pcgen.metrics import SetEvaluator, evaluate_sets, pairs
from pcgen.metrics.pairs import Distance, distance_matrix
from pcgen.metrics.ranks import ALONE, Ranks
from pcgen.metrics.set_distances import SetDistances, number_of_pairs
from pcgen.ops import pairwise_chamfer_distance

# ── a search that knows everything and tells only what its contract asks for ──────────────────────────────────────────


class Known:
    """Remembers how often it was asked; a real one would remember bounds."""

    def __init__(self, reference, tensors):
        self.calls = int(tensors.get("calls", torch.tensor(0)))
        self.earlier = self.calls

    def to_tensors(self):
        return {"calls": torch.tensor(self.calls)}


def _told(D, S, rank, ranks):
    """Distances where a query of this rank needs them, lower bounds that hide the rest elsewhere."""
    n = len(D)
    needs = torch.full((n,), torch.inf)  # the largest of the minima that a query looks for
    needed = torch.zeros_like(D, dtype=torch.bool)
    for i in range(rank, n, ranks):
        least = []
        for block in (slice(0, S), slice(S, n)):
            others = D[i, block]
            if torch.isfinite(others).any():
                least.append(others.min())
                needed[i, block] |= others == others.min()
        needs[i] = max(least)
    needed |= needed.T.clone()
    floor = torch.maximum(needs[:, None].where(needs[:, None].isfinite(), torch.zeros(())), torch.zeros_like(D))
    floor = torch.maximum(floor, floor.T)
    # above every minimum that this rank answers for, if the distance itself is, and never above the distance
    bound = torch.minimum(D, torch.where(floor < D, (D + floor) / 2, D * 0.999))
    told = torch.where(needed, D, bound)
    return told, int(needed.triu(1).sum())


def search(generated, reference, *, known=None, progress=None, share=(0, 1)):
    S, (a, b) = len(generated), (generated, reference)
    ss, sr, rr = (pairwise_chamfer_distance(*pair) for pair in ((a, a), (a, b), (b, b)))
    D = torch.cat([torch.cat([ss, sr], dim=1), torch.cat([sr.T, rr], dim=1)])
    D.fill_diagonal_(torch.inf)
    told, solved = _told(D, S, *share)
    told.fill_diagonal_(0)
    if known is not None:
        known.calls += 1
    pairs = number_of_pairs(S, len(reference))
    if progress is not None:
        progress(pairs)
    return SetDistances(told[:S, :S], told[:S, S:], told[S:, S:], solved, pairs)


SEARCHED = Distance("Chamfer, searched", pairwise_chamfer_distance, search, Known, cost=3.0)


# ── tests ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def clouds(n, seed, points=24):
    return torch.rand(n, points, 3, generator=torch.Generator().manual_seed(seed)) - 0.5


@dataclasses.dataclass(frozen=True)
class Apart(Ranks):
    """A rank that hears nothing of the others."""

    def _reduce(self, mine, how):
        return mine


@pytest.mark.parametrize("triangle", [False, True])
@pytest.mark.parametrize(("n", "size"), [(0, 2), (1, 1), (1, 3), (2, 3), (7, 2), (100, 3), (405, 8)])
def test_shares_of_rows_are_the_whole_and_balanced(n, size, triangle):
    shares = [Ranks(rank, size).rows(n, triangle=triangle) for rank in range(size)]
    assert [i for share in shares for i in range(n)[share]] == list(range(n))
    work = [sum(n - i if triangle else 1 for i in range(n)[share]) for share in shares]
    assert max(work) - min(work) <= (2 * n if triangle else 1)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
@pytest.mark.parametrize(("S", "R"), [(7, 7), (1, 5), (5, 2), (1, 1)])
def test_parts_of_a_matrix_add_up_to_it_bit_for_bit(S, R, size):
    a, b = clouds(S, 0), clouds(R, 1, points=30)
    for other in (a, b):
        expected = pairwise_chamfer_distance(a, other)
        told = [[] for _ in range(size)]
        parts = [
            distance_matrix(pairwise_chamfer_distance, a, other, ranks=Apart(rank, size), progress=told[rank].append)
            for rank in range(size)
        ]
        assert torch.equal(sum(parts), expected)
        assert [sum(each) for each in told] == [expected.numel()] * size  # every rank's bar ends at its end


def test_no_pair_is_computed_twice():
    computed = []

    def counting(a, b, progress=None):
        computed.append(len(a) * (len(a) + 1) // 2 if a is b else len(a) * len(b))
        return pairwise_chamfer_distance(a, b)

    a = clouds(11, 0)
    for rank in range(3):
        distance_matrix(counting, a, a, ranks=Apart(rank, 3))
    assert sum(computed) == 11 * 12 // 2


def test_an_error_of_one_rank_is_everyones():
    def broken():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        Apart(0, 2).together(broken, torch.device("cpu"))

    class Elsewhere(Apart):
        def _reduce(self, mine, how):
            return mine.fill_(2)  # rank 1 says that it failed

    with pytest.raises(RuntimeError, match="rank 1 failed"):
        Elsewhere(0, 2).together(lambda: 0, torch.device("cpu"))


@pytest.fixture
def searched(monkeypatch):
    monkeypatch.setitem(pairs.DISTANCES, "searched", SEARCHED)


def named(values, name):
    return {key.replace("searched", name): value for key, value in values.items()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("S", "R"), [(12, 12), (5, 9), (9, 5), (1, 3), (1, 1)])
def test_lower_bounds_in_place_of_distances_change_no_score(searched, S, R, seed):
    s, r = clouds(S, seed), clouds(R, 10 + seed, points=30)
    how = {"allow_unequal": True, "both_orientations": True, "draws": 20}
    found = evaluate_sets(s, r, distances=["searched"], **how)
    every = evaluate_sets(s, r, distances=["cd"], **how)
    assert named(found.values, "cd") == every.values
    assert named(found.intervals, "cd") == every.intervals
    assert found.pairs["searched"][1] == every.pairs["cd"][0] == every.pairs["cd"][1] == number_of_pairs(S, R)
    assert found.pairs["searched"][0] <= number_of_pairs(S, R)
    if S == R == 12:
        assert found.pairs["searched"][0] < number_of_pairs(S, R) / 2


def test_twins_tie_under_bounds_too(searched):
    s, r = clouds(8, 0), clouds(8, 1)
    s[3], s[4], r[2], r[5] = s[0], r[1], r[1], r[0]
    found, every = (evaluate_sets(s, r, distances=[d], draws=0) for d in ("searched", "cd"))
    assert named(found.values, "cd") == every.values
    assert [line.replace("searched", "cd") for line in found.remarks] == list(every.remarks)


@pytest.mark.parametrize("size", [2, 3, 20])
def test_shares_of_a_search_merge_by_their_largest(size):
    s, r = clouds(7, 0), clouds(6, 1)
    whole, shares = search(s, r), [search(s, r, share=(rank, size)) for rank in range(size)]
    merged = [torch.stack(each).amax(0) for each in list(zip(*shares, strict=True))[:3]]
    evaluator = SetEvaluator(r, allow_unequal=True, both_orientations=True)
    of_one = evaluator.measure(s, distances={"cd": whole})
    of_all = evaluator.measure(s, distances={"cd": whole._replace(ss=merged[0], sr=merged[1], rr=merged[2])})
    assert of_all == of_one
    assert of_one.values == evaluator.measure(s).values


def test_what_is_known_of_the_reference_is_handed_on(searched):
    evaluator = SetEvaluator(clouds(5, 0), distances=["searched"])
    for seed in (1, 2, 3):
        evaluator.measure(clouds(5, seed))
    assert evaluator.matrices._known["searched"].calls == 3


def test_progress_weighs_distances_by_their_cost(searched):
    seen = []
    evaluator = SetEvaluator(clouds(4, 0), distances=["cd", "searched"])
    evaluator.measure(clouds(4, 1), progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (3 * 16 + 3 * number_of_pairs(4, 4),) * 2


def test_distances_that_want_as_many_points(monkeypatch):
    equal = Distance("of pairs of points", pairwise_chamfer_distance, equal_points=True)
    monkeypatch.setitem(pairs.DISTANCES, "equal", equal)
    with pytest.raises(ConfigurationError, match=r"equal compares clouds of as many points.* 24 and the references 30"):
        evaluate_sets(clouds(3, 0), clouds(3, 1, points=30), distances=["cd", "equal"])


def test_alone_never_communicates():
    assert not torch.distributed.is_initialized()
    assert Ranks.current() == ALONE
    assert ALONE.total(torch.ones(2)).tolist() == [1, 1]
