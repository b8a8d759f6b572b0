"""The earth mover's distance on a GPU, or any device of torch: ε-scaled auctions with certified bounds.

The auction (Bertsekas, "The auction algorithm: a distributed relaxation method for the assignment problem", 1988):
a row without a column bids for the column of least cost and price, and raises its price by what the second best is
worse, and ε. When every row has a column, the mean cost is within about ε of the optimum. Prices are kept from a
large ε to a smaller one.

Prices and costs are float32, which decides how small ε can be: about 4e-7 of the prices, below which a price no
longer rises. The two values that are returned do not trust that arithmetic. They are computed in float64 from the
assignment and from the prices: any prices p give a lower bound, mean_i min_j (c_ij + p_j) − mean_j p_j.

How it is spread over a GPU: some 50 bids a point are needed, each a scan of N columns. Bidding for all rows at once
(Jacobi) needs thousands of rounds, in most of which a handful of rows bids and the machine waits for the launch of a
dozen kernels. One bid after the other (Gauss-Seidel) needs the fewest bids, and pairs of clouds are plenty. So a
Triton program has a pair to itself and its columns in registers (`pcgen.ops._triton_auction`), without memory traffic.
For 2048 columns the compiler makes 27 instructions a column and bid (compute capability 9.0): 5.5e9 a pair of 1e5
bids, so an H200 (33e12 a second) can do no more than 6000 such pairs a second; measured they are not. Were the columns
read from the cache for every bid, 32 KB each, that would be 20 TB/s. Without Triton the rounds of Jacobi are done by
torch, for all pairs together.

Where many points of x coincide, they want the same columns and raise the prices by ε in turn: such pairs are correct
but slow, about N bids a point.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError
from pcgen.ops import _chunked, _triton
from pcgen.ops._checks import check_finite, checked_pair

START = 0.05  # first ε, of the largest cost
SHRINK = 0.2  # from one ε to the next
FLOOR = 4e-7  # last ε, of the largest price: float32 has 24 bits
LEAST_RISE = 1 + 2.0**-22  # a price that rose by less might not rise
POINTS_AT_ONCE = 2**22  # of the pairs in flight, which take about 250 bytes a point: 1 GiB
BIDS_AT_ONCE = 2**16  # of one launch: about a tenth of a second, so that a break is heard
BIDS_PER_POINT = 20_000  # of one phase; a hard pair needs some hundred

Values = tuple[Tensor, Tensor, Tensor]


def auction_on_device(x: Tensor, y: Tensor, *, squared: bool, tolerance: float) -> Values:
    """Bound the earth mover's distance of each pair of clouds (x[i], y[i]) from both sides.

    Deterministic. Pairs are worked on in parts, in at most about 1 GiB; no N × N matrix is held.

    Args:
        x: (B, N, 3), float32 or float64; half precision is computed in float32.
        y: (B, N, 3).
        squared: Take the squares of the distances.
        tolerance: The gap aimed at, (primal − dual) / primal. What is reached, the two values say: ε cannot fall
            below about 4e-7 of the prices.

    Returns:
        The mean cost over points of the assignment found (B,) float64, never below the optimum; a lower bound of the
        optimum (B,) float64; and the assignment (B, N) int64: point i of x goes to point assignment[i] of y. The
        values are on the device of x, or on the CPU if it has no float64 (mps).

    Raises:
        DataError: If shapes, dtypes, devices or sizes do not fit, or a coordinate is not finite.
        ConfigurationError: If tolerance is not a number ≥ 0, or an auction does not end.
    """
    x, y = (t.detach() for t in checked_pair(x, y))
    if x.shape[1] != y.shape[1]:
        raise DataError(f"x has {x.shape[1]} points and y has {y.shape[1]}; an assignment needs as many of both")
    if not 0 <= tolerance < float("inf"):
        raise ConfigurationError(f"tolerance is {tolerance!r}; it is a relative gap, e.g. 1e-4")
    check_finite(x, "x")
    check_finite(y, "y")
    at_once = max(1, POINTS_AT_ONCE // x.shape[1])
    parts = [_solve(a, b, squared, tolerance) for a, b in zip(x.split(at_once), y.split(at_once), strict=True)]
    primal, dual, assignment = (torch.cat(part) for part in zip(*parts, strict=True))
    return primal, dual, assignment.to(x.device)


@dataclass
class _Pairs:
    """Pairs of clouds as they are, and as the auction sees them: centred and scaled to ±1, in float32."""

    x: Tensor  # (B, N, 3) float64
    y: Tensor
    small_x: Tensor  # (B, N, 3) float32
    small_y: Tensor
    unit: Tensor  # (B,) float64: the cost that the auction takes for 1
    largest: Tensor  # (B,) float32: no cost of the auction is larger

    @classmethod
    def prepare(cls, x: Tensor, y: Tensor, *, squared: bool) -> "_Pairs":
        home = torch.device("cpu") if x.device.type == "mps" else x.device
        wide_x, wide_y = x.to(home).double().contiguous(), y.to(home).double().contiguous()
        low_x, low_y = wide_x.amin(1), wide_y.amin(1)  # (B, 3)
        high_x, high_y = wide_x.amax(1), wide_y.amax(1)
        low, high = torch.minimum(low_x, low_y), torch.maximum(high_x, high_y)
        extent = (high - low).amax(1) / 2
        extent = torch.where(extent > 0, extent, 1)  # (B,)
        centre = (low + high)[:, None] / 2
        small_x, small_y = (((t - centre) / extent[:, None, None]).float().to(x.device) for t in (wide_x, wide_y))
        farthest = torch.maximum(high_x - low_y, high_y - low_x).norm(dim=1) / extent  # between the two boxes
        farthest = torch.where(farthest > 0, farthest, 1).float().to(x.device)
        power = 2 if squared else 1
        return cls(wide_x, wide_y, small_x, small_y, extent**power, farthest**power)

    def pick(self, index: Tensor) -> "_Pairs":
        return _Pairs(*(t[index.to(t.device)] for t in (getattr(self, field.name) for field in fields(self))))


def _solve(x: Tensor, y: Tensor, squared: bool, tolerance: float) -> Values:
    """Lower ε until the gap is small enough or float32 is at its end; pairs that are done drop out."""
    every = _Pairs.prepare(x, y, squared=squared)
    primal, dual = torch.full_like(every.unit, torch.inf), torch.zeros_like(every.unit)  # costs are never negative
    assignment = torch.zeros(x.shape[:2], dtype=torch.int64, device=every.x.device)
    active = torch.arange(len(x), device=every.x.device)
    price, step = torch.zeros_like(every.small_x[..., 0]), START * every.largest
    while len(active):
        pairs = every.pick(active)
        price -= price.amin(1, keepdim=True)  # only differences count, and small numbers are finer
        owner = _assign(pairs, price, step, squared=squared)  # (A, N)
        found = owner.argsort(1)  # (A, N): a permutation's inverse
        value, bound = _bounds(pairs, found, price, squared=squared)
        better = value < primal[active]
        assignment[active[better]] = found[better].to(assignment.device)
        primal[active] = torch.minimum(value, primal[active])
        dual[active] = torch.maximum(bound, dual[active]).minimum(primal[active])
        floor = FLOOR * torch.maximum(price.amax(1), 1e-3 * pairs.largest)
        open_ = ((primal - dual)[active] > tolerance * primal[active]) & (step > 1.5 * floor).to(primal.device)
        step = _next_step(step, floor, 0.9 * tolerance * (dual[active] / pairs.unit).to(step))
        keep = open_.nonzero()[:, 0]
        active, price, step = active[keep], price[keep.to(price.device)], step[keep.to(step.device)]
    return primal, dual, assignment


def _next_step(step: Tensor, floor: Tensor, enough: Tensor) -> Tensor:
    """Shrink ε, but not below what is enough for the gap, nor below the floor; always by a tenth at least."""
    enough = torch.where(enough < 0.9 * step, enough, 0)
    return torch.maximum(torch.maximum(SHRINK * step, enough), floor)


def _bounds(pairs: _Pairs, assignment: Tensor, price: Tensor, *, squared: bool) -> tuple[Tensor, Tensor]:
    """Compute the assignment's mean cost and the prices' lower bound, (A,) each, in float64."""
    price = price.to(pairs.x) * pairs.unit[:, None]
    matched = _chunked.take(pairs.y, assignment.to(pairs.y.device))
    cost = (pairs.x - matched).square().sum(2)
    lowest = _lowest_values(pairs.x, pairs.y, price, squared=squared)
    return (cost if squared else cost.sqrt()).mean(1), (lowest.sum(1) - price.sum(1)) / price.shape[1]


def _lowest_values(x: Tensor, y: Tensor, price: Tensor, *, squared: bool) -> Tensor:
    """Give for each row (A, N) the least of cost and price over the columns."""
    if _triton.available(x.device):
        from pcgen.ops._triton_auction import lowest_values

        return lowest_values(x, y, price, squared=squared)
    lowest = torch.empty_like(price)
    for clouds, rows in _chunked.chunks(x, y):
        cost = _costs(x[clouds, rows, None], y[clouds, None], squared=squared)  # (a, n, N)
        lowest[clouds, rows] = cost.add_(price[clouds, None]).amin(2)
    return lowest


def _costs(x: Tensor, y: Tensor, *, squared: bool) -> Tensor:
    """Give the costs (…) between points that broadcast, (…, 3) each."""
    total = (x[..., 0] - y[..., 0]).square_()
    for k in (1, 2):
        difference = x[..., k] - y[..., k]
        total.addcmul_(difference, difference)
    return total if squared else total.sqrt_()


def _assign(pairs: _Pairs, price: Tensor, step: Tensor, *, squared: bool) -> Tensor:
    """Hold one phase of each auction: raise the prices in place, and give the row that has each column (A, N)."""
    hold: Callable[..., Tensor] = _assign_by_triton if _triton.available(price.device) else _assign_by_torch
    return hold(pairs.small_x, pairs.small_y, price, step, squared)


def _assign_by_triton(x: Tensor, y: Tensor, price: Tensor, step: Tensor, squared: bool) -> Tensor:
    from pcgen.ops._triton_auction import make_bids

    count, n = price.shape
    owner = torch.full((count, n), -1, dtype=torch.int32, device=x.device)
    queue = torch.arange(n, dtype=torch.int32, device=x.device).repeat(count, 1)
    state = torch.tensor([0, n], dtype=torch.int32, device=x.device).repeat(count, 1)
    for _ in range(1 + BIDS_PER_POINT * n // BIDS_AT_ONCE):
        make_bids(x, y, price, owner, queue, state, step, limit=BIDS_AT_ONCE, least_rise=LEAST_RISE, squared=squared)
        if not state[:, 1].any():
            return owner.long()
    raise _endless(n, squared)


def _endless(points: int, squared: bool) -> ConfigurationError:
    return ConfigurationError(
        f"an auction of {points} points (squared={squared}) did not end within {BIDS_PER_POINT} bids a point; ask "
        "for a larger tolerance"
    )


def _assign_by_torch(x: Tensor, y: Tensor, price: Tensor, step: Tensor, squared: bool) -> Tensor:
    """Let all rows without a column bid at once, round after round; the highest bid wins, of equals the lowest row."""
    count, n = price.shape
    flat = price.view(-1)  # a view: prices change in place
    owner, column_of = (torch.full((count * n,), -1, device=x.device) for _ in range(2))
    nobody = count * n
    for _ in range(BIDS_PER_POINT * n):
        waiting = (column_of < 0).nonzero()[:, 0]
        if not len(waiting):
            return owner.view(count, n) % n
        target, raised = _bids(waiting, x, y, price, step, squared=squared)
        highest = torch.zeros_like(flat).scatter_reduce_(0, target, raised, "amax")
        equal = raised == highest[target]
        winner = torch.full_like(owner, nobody).scatter_reduce_(0, target[equal], waiting[equal], "amin")
        won = winner[target] == waiting
        target, waiting = target[won], waiting[won]
        loser = owner[target]
        column_of[loser[loser >= 0]] = -1
        owner[target], column_of[waiting], flat[target] = waiting, target, raised[won]
    raise _endless(n, squared)


def _bids(
    waiting: Tensor, x: Tensor, y: Tensor, price: Tensor, step: Tensor, *, squared: bool
) -> tuple[Tensor, Tensor]:
    """Give for each waiting row, numbered through all pairs, the column that it wants and the price that it bids."""
    n = price.shape[1]
    targets, bids = [], []
    for rows in waiting.split(max(1, _chunked.ELEMENTS // (4 * n))):  # y is gathered too
        pair = rows // n
        value = _costs(x.view(-1, 3)[rows, None], y[pair], squared=squared).add_(price[pair])  # (w, N)
        chosen = value.argmin(1, keepdim=True)
        best = value.gather(1, chosen)
        second = value.scatter_(1, chosen, torch.inf).amin(1, keepdim=True)
        second = torch.where(second.isinf(), best, second)  # the only column has no rival
        before = price[pair].gather(1, chosen)
        raised = torch.maximum(before + (second - best + step[pair, None]), before * LEAST_RISE)
        targets.append(pair * n + chosen[:, 0])
        bids.append(raised[:, 0])
    return torch.cat(targets), torch.cat(bids)
