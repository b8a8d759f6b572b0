"""What nearest neighbours under the earth mover's distance need, without all the pairs.

MMD, COV and 1-NNA ask for the nearest reference of each generated cloud, the nearest generated cloud of each
reference, and whether anything of a cloud's own set is nearer than that. For this a pair's distance need only be
known to lie in an interval, and intervals narrow in three steps of rising cost: lower bounds from marginals for all
pairs (`pcgen.ops.pairwise_marginal_bound`), an auction stopped at a gap of a few per cent (`COARSE`) for pairs that
may still be nearest, and the exact solution for the few that are left. Candidates are tried in the order of their
bounds, and a pair whose lower bound is above what its two clouds already have is never looked at.

Every entry of the result is the distance or a lower bound that decides the same, so the scores are those of all pairs,
to the last bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pcgen.errors import DataError
from pcgen.metrics.set_distances import SetDistances, number_of_pairs
from pcgen.ops import pairwise_marginal_bound
from pcgen.ops._checks import check_finite, check_same_size, checked_pair
from pcgen.ops.assignment import PairwiseAssignment

COARSE = 0.05  # relative gap at which the first auction stops: a third of the time of the exact solution
MARGIN = 1e-9  # relative, about the interval of a stopped auction: what the rounding of costs and prices may amount to
SLACK = 1e-12  # likewise, of the extent of all the clouds: prices are as large as the clouds, however near twins are
PICKS = 4  # candidates of each cloud tried at once: more would be solved in vain, fewer would leave threads idle

Count = Callable[[int], None]


@dataclass
class KnownPairs:
    """Intervals of the distances within a reference, narrowed by each search.

    Attributes:
        lower: (R, R), on the CPU, in the precision of the clouds.
        upper: (R, R), infinite where nothing is known; equal to `lower` where the distance is.
    """

    lower: Tensor
    upper: Tensor

    def to_tensors(self) -> dict[str, Tensor]:
        """Give it as tensors, to be kept in a file."""
        return {"lower": self.lower, "upper": self.upper}


def known_pairs(reference: Tensor, saved: Mapping[str, Tensor]) -> KnownPairs:
    """Make what a search adds to.

    Args:
        reference: (R, N, 3).
        saved: `KnownPairs.to_tensors()` of the same reference and distance, or {} for none.

    Returns:
        The intervals.

    Raises:
        DataError: If what was saved is of another reference.
    """
    R = len(reference)
    if not saved:
        unknown = torch.full((R, R), torch.inf, dtype=_dtype(reference))
        return KnownPairs(torch.zeros_like(unknown), unknown)
    lower, upper = saved["lower"], saved["upper"]
    if lower.shape != (R, R) or upper.shape != (R, R) or lower.dtype != _dtype(reference):
        raise DataError(f"saved distances are {tuple(lower.shape)} {lower.dtype}, the reference has {R} clouds")
    return KnownPairs(lower.clone(), upper.clone())


def search_earth_mover(
    generated: Tensor,
    reference: Tensor,
    *,
    squared: bool,
    known: KnownPairs | None = None,
    progress: Count | None = None,
    share: tuple[int, int] = (0, 1),
) -> SetDistances:
    """Find the nearest neighbours between and within two sets under the earth mover's distance.

    Args:
        generated: (S, N, 3), float32 or float64 (half precision is computed in float32), on any device.
        reference: (R, N, 3).
        squared: Assign by and average the squared distances.
        known: Of this reference; used and added to.
        progress: Told how many more of the distinct pairs are done, as far as the time says: a bound discards a
            thousand pairs in the time of one assignment, and how many are left to be assigned shows on the way.
        share: (rank, ranks): decide for each `ranks`-th cloud alone, counting from `rank`.

    Returns:
        Distances, or lower bounds where those decide the same, in the precision of the clouds.

    Raises:
        DataError: If the clouds differ in size, or are not finite.
    """
    told = 0

    def report(share_done: float) -> None:
        nonlocal told
        now = int(share_done * number_of_pairs(len(generated), len(reference)))
        if progress is not None and now > told:
            progress(now - told)
            told = now

    search = _Search(generated, reference, squared, known, share)
    search.run(report)
    return search.result()


class _Search:
    """The intervals of all pairs of the clouds of both sets, generated first."""

    def __init__(
        self, generated: Tensor, reference: Tensor, squared: bool, known: KnownPairs | None, share: tuple[int, int]
    ) -> None:
        generated, reference = checked_pair(generated, reference, ("generated", "reference"), batched=False)
        check_same_size(generated, reference, ("generated", "reference"))
        check_finite(generated, "generated")
        check_finite(reference, "reference")
        clouds = torch.cat([generated, reference]).detach()
        self.S, self.n, self.dtype = len(generated), len(clouds), clouds.dtype
        self.solver = PairwiseAssignment(clouds, None, squared=squared)
        extent = _extent(clouds)
        self.slack = SLACK * (extent**2 if squared else extent)
        self.known, self.solved, self.stopped = known, 0, 0
        self.mine = torch.zeros(self.n, dtype=torch.bool)
        self.mine[share[0] :: share[1]] = True
        self.other = torch.zeros(self.n, self.n, dtype=torch.bool)  # pairs of clouds of different sets
        self.other[: self.S, self.S :] = self.other[self.S :, : self.S] = True
        self.own = ~self.other
        self.own.fill_diagonal_(fill_value=False)
        self.lower = _rounded_down(pairwise_marginal_bound(clouds, clouds, squared=squared).cpu(), self.dtype)
        self.upper = torch.full_like(self.lower, torch.inf)
        self.tried = torch.zeros_like(self.own)
        if known is not None:
            within = (slice(self.S, None), slice(self.S, None))
            self.lower[within] = torch.maximum(self.lower[within], known.lower)
            self.upper[within] = known.upper
            self.tried[within] = known.upper.isfinite()

    def run(self, report: Callable[[float], None]) -> None:
        """Narrow intervals until nothing is open; `report` is told the share of the assignments that are done."""
        while (open_pairs := self._open()).any():
            begun = self.solved + self.stopped
            expected = begun + int(open_pairs.triu(1).sum())  # at most, but for those that are solved twice
            report(begun / expected)
            untried = open_pairs & ~self.tried
            pairs, count, tolerance = (untried, PICKS, COARSE) if untried.any() else (open_pairs, 1, 0.0)
            # The other set first: what is nearest there decides how much of its own a cloud must look at.
            across = pairs & self.other
            picked = self._picked(across if across.any() else pairs, count)
            self._solve(picked, tolerance, _Sum(begun, expected, report))
        report(1.0)

    def _open(self) -> Tensor:
        """Say which pairs may still change an answer (n, n), symmetric."""
        low = self.lower.masked_fill(~self.other, torch.inf)
        high = self.upper.masked_fill(~self.other, torch.inf)
        nearest = high.amin(1)  # (n,) of the other set, at most
        open_pairs = self.other & (self.lower <= nearest[:, None])
        # Of its own set, a cloud wants to know only whether anything is nearer than all of the other set.
        beaten = self.upper.masked_fill(~self.own, torch.inf).amin(1) < low.amin(1)
        open_pairs |= self.own & (self.lower <= nearest[:, None]) & ~beaten[:, None]
        open_pairs |= self.own & (self.lower <= 0)  # twins are told of
        open_pairs &= self.mine[:, None]
        return (open_pairs | open_pairs.T) & (self.lower < self.upper)

    def _picked(self, pairs: Tensor, count: int) -> Tensor:
        """Pick each cloud's pairs of the smallest lower bounds (P, 2)."""
        bound = self.lower.masked_fill(~(pairs & self.mine[:, None]), torch.inf)
        best = bound.topk(min(count, self.n), dim=1, largest=False)
        picked = torch.zeros_like(pairs).scatter_(1, best.indices, best.values.isfinite())
        return (picked | picked.T).triu(1).nonzero()

    def _solve(self, pairs: Tensor, tolerance: float, progress: Count) -> None:
        found = self.solver.solve(pairs, tolerance=tolerance, progress=progress)
        i, j = pairs.T
        low, high = found.lower_bound.cpu(), found.distance.cpu()
        if tolerance == 0:
            low = high = high.to(self.dtype)
            self.solved += len(pairs)
        else:
            low = _rounded_down((low * (1 - MARGIN) - self.slack).clamp(min=0), self.dtype)
            high = _rounded_up(high * (1 + MARGIN), self.dtype)
            self.stopped += len(pairs)
        for a, b in ((i, j), (j, i)):
            self.tried[a, b] = True
            self.lower[a, b] = low if tolerance == 0 else torch.maximum(self.lower[a, b], low)
            self.upper[a, b] = high

    def result(self) -> SetDistances:
        """Give the lower ends, which are the distances where those are wanted."""
        d = self.lower.clone().fill_diagonal_(0)
        ss, sr, rr = d[: self.S, : self.S], d[: self.S, self.S :], d[self.S :, self.S :]
        if self.known is not None:
            self.known.lower[:], self.known.upper[:] = rr, self.upper[self.S :, self.S :]
            self.known.upper.fill_diagonal_(0)
        return SetDistances(ss, sr, rr, self.solved, number_of_pairs(self.S, self.n - self.S), self.stopped)


class _Sum:
    """Reports, as assignments are done, their share of those that are expected."""

    def __init__(self, begun: int, expected: int, report: Callable[[float], None]) -> None:
        self.done, self.expected, self.report = begun, expected, report

    def __call__(self, more: int) -> None:
        self.done += more
        self.report(self.done / self.expected)


def _dtype(clouds: Tensor) -> torch.dtype:
    """Give the precision of distances between clouds."""
    return torch.promote_types(clouds.dtype, torch.float32)


def _extent(clouds: Tensor) -> float:
    """Give the largest side of the box about all clouds (K, N, 3)."""
    points = clouds.flatten(0, 1)
    return float((points.amax(0) - points.amin(0)).max()) if len(points) else 0.0


def _rounded_down(values: Tensor, dtype: torch.dtype) -> Tensor:
    near = values.to(dtype)
    return torch.where(near.double() > values, near.nextafter(torch.zeros_like(near)), near)


def _rounded_up(values: Tensor, dtype: torch.dtype) -> Tensor:
    near = values.to(dtype)
    return torch.where(near.double() < values, near.nextafter(torch.full_like(near, torch.inf)), near)
