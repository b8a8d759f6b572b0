"""The distances between clouds that sets can be scored under, and their matrices."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pcgen.metrics.neighbor_search import known_pairs, search_earth_mover
from pcgen.metrics.ranks import ALONE, Ranks
from pcgen.metrics.set_distances import SetDistances
from pcgen.ops import (
    chamfer_distance,
    earth_mover_distance,
    pairwise_chamfer_distance,
    pairwise_earth_mover_distance,
)

PairwiseDistance = Callable[[Tensor, Tensor], Tensor]  # (S, N, 3), (R, M, 3) -> (S, R)
PairedDistance = Callable[[Tensor, Tensor], Tensor]  # (B, N, 3), (B, M, 3) -> (B,)
Count = Callable[[int], None]  # told how many more pairs are done


class Known(Protocol):
    """What a search has found out about the pairs within a reference. It grows from search to search."""

    def to_tensors(self) -> dict[str, Tensor]:
        """Give it as tensors, to be kept in a file."""
        ...


class Distance(NamedTuple):
    """A distance between clouds: what it is, and how the matrices are computed.

    Attributes:
        definition: What it is, for the protocol.
        pairwise: A `PairwiseDistance` that also takes `progress`, told of each few entries done.
        search: Finds what nearest neighbours need without all pairs: `search(generated, reference, *, known=None,
            progress=None, share=(0, 1)) -> SetDistances`. `known` is used and added to, `progress` told of distinct
            pairs decided. A share (rank, ranks) asks for the nearest neighbours of that rank's clouds alone; the
            largest of all ranks' entries is then a result for all clouds, since each is the distance or a lower
            bound. None: all pairs are computed.
        known: Makes what `search` takes as `known`, from a reference and the tensors of an earlier one, or {}.
        version: Of the code behind the definition, raised when its results change: results are kept under it.
        equal_points: It compares clouds of as many points only.
        cost: Of a pair, about, with Chamfer's as 1: for the time that remains.
        paired: A `PairedDistance`, of cloud i to cloud i: of data to their reconstructions; None where there is none.
    """

    definition: str
    pairwise: Callable[..., Tensor]
    search: Callable[..., SetDistances] | None = None
    known: Callable[[Tensor, Mapping[str, Tensor]], Known] | None = None
    version: int = 1
    equal_points: bool = False
    cost: float = 1.0
    paired: PairedDistance | None = None


def _earth_mover(definition: str, *, squared: bool) -> Distance:
    return Distance(
        definition,
        partial(pairwise_earth_mover_distance, squared=squared),
        search=partial(search_earth_mover, squared=squared),
        known=known_pairs,
        version=2,
        equal_points=True,
        cost=250,
        paired=partial(earth_mover_distance, squared=squared),
    )


DISTANCES = {
    "cd": Distance(
        "Chamfer, squared distances, mean over points, both directions added",
        pairwise_chamfer_distance,
        paired=chamfer_distance,
    ),
    "emd": _earth_mover("EMD, mean distance under the optimal one-to-one assignment, exact", squared=False),
    "emd_squared": _earth_mover("EMD², mean squared distance under the assignment optimal for it, exact", squared=True),
}


def distance_matrix(
    pairwise: Callable[..., Tensor], a: Tensor, b: Tensor, *, ranks: Ranks = ALONE, progress: Count | None = None
) -> Tensor:
    """Compute a matrix of distances, its rows or columns divided among ranks.

    The entries are those that one process computes, to the last bit where `pairwise` computes each pair by itself.

    Args:
        pairwise: As in `Distance`.
        a: (S, N, 3), the same on every rank.
        b: (R, M, 3); the same tensor as a for the distances within a set, half of which are computed.
        ranks: Who shares the work.
        progress: Told how many more entries are done, S R in all, estimated from this rank's share.

    Returns:
        (S, R), whole on every rank.
    """
    if ranks.size == 1:
        return pairwise(a, b, progress=progress)
    blocks = _triangle(a, ranks) if a is b else _rectangle(a, b, ranks)
    mine = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in blocks)
    count = None if progress is None else _Scaled(progress, mine, len(a) * len(b))
    done = ranks.together(lambda: _compute(pairwise, a, b, blocks, count), a.device)
    if count is not None:
        count.finish()
    return ranks.total(done)


def search_distances(
    distance: Distance,
    generated: Tensor,
    reference: Tensor,
    *,
    known: Known | None = None,
    ranks: Ranks = ALONE,
    progress: Count | None = None,
) -> SetDistances:
    """Find what nearest neighbours need without all pairs, the clouds divided among ranks.

    Args:
        distance: Has a `search`.
        generated: (S, N, 3), the same on every rank.
        reference: (R, M, 3).
        known: Of the reference, used and added to.
        ranks: Who shares the work.
        progress: Told how many more distinct pairs are decided.

    Returns:
        The matrices, whole on every rank; `solved` counts a pair once for each rank that solved it.
    """
    assert distance.search is not None
    search = distance.search
    if ranks.size == 1:
        return search(generated, reference, known=known, progress=progress)
    share = (ranks.rank, ranks.size)
    device = generated.device
    mine = ranks.together(lambda: search(generated, reference, known=known, progress=progress, share=share), device)
    ss, sr, rr = (ranks.largest(matrix.to(device).contiguous()) for matrix in mine[:3])
    solved, stopped = ranks.total(torch.tensor([mine.solved, mine.stopped], device=device)).int().tolist()
    return SetDistances(ss, sr, rr, solved, mine.pairs, stopped)


Block = tuple[slice, slice]


def _triangle(a: Tensor, ranks: Ranks) -> list[Block]:
    """Give this rank's rows from the diagonal on: a square on the diagonal, which is symmetric too, and the rest."""
    rows = ranks.rows(len(a), triangle=True)
    return [(rows, rows), (rows, slice(rows.stop, len(a)))]


def _rectangle(a: Tensor, b: Tensor, ranks: Ranks) -> list[Block]:
    """Give this rank's rows, or its columns where there are more of them."""
    if len(a) >= len(b):
        return [(ranks.rows(len(a)), slice(0, len(b)))]
    return [(slice(0, len(a)), ranks.rows(len(b)))]


def _compute(
    pairwise: Callable[..., Tensor], a: Tensor, b: Tensor, blocks: list[Block], progress: Count | None
) -> Tensor:
    out = a.new_zeros(len(a), len(b), dtype=torch.promote_types(a.dtype, torch.float32))
    for rows, columns in blocks:
        if rows.stop == rows.start or columns.stop == columns.start:
            continue
        part = a[rows]
        block = pairwise(part, part if a is b and rows == columns else b[columns], progress=progress)
        out[rows, columns] = block
        if a is b:
            out[columns, rows] = block.T
    return out


class _Scaled:
    """Reports one rank's share as if all ranks were as far."""

    def __init__(self, progress: Count, mine: int, whole: int) -> None:
        self.progress, self.mine, self.whole = progress, mine, whole
        self.done = self.told = 0

    def __call__(self, pairs: int) -> None:
        self.done += pairs
        self._tell(self.whole * min(self.done, self.mine) // self.mine)

    def finish(self) -> None:
        self._tell(self.whole)

    def _tell(self, whole: int) -> None:
        self.progress(whole - self.told)
        self.told = whole
