"""Work that the processes of a distributed run share."""

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes that compute one thing together: each calls with the same input and hears the whole result.

    Attributes:
        rank: This process.
        size: Number of processes; 1 computes alone and never communicates.
        group: Of `torch.distributed`, None for its default.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    @classmethod
    def current(cls, group: Any = None) -> Self:
        """Give the processes of `torch.distributed`; this one alone where that is not running."""
        dist = torch.distributed
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(group), dist.get_world_size(group), group)

    def total(self, mine: Tensor) -> Tensor:
        """Add the ranks' tensors (of one shape), in place. Exact where each entry is zero on all ranks but one."""
        return self._reduce(mine, "SUM")

    def largest(self, mine: Tensor) -> Tensor:
        """Take the largest of the ranks' tensors (of one shape) entry by entry, in place."""
        return self._reduce(mine, "MAX")

    def together(self, compute: Callable[[], T], device: torch.device) -> T:
        """Compute on every rank; where one fails all raise, so that none is left waiting for its result.

        Args:
            compute: This rank's share, without communication.
            device: Where the processes exchange tensors.

        Raises:
            Exception: What `compute` raised here.
            RuntimeError: If it raised elsewhere.
        """
        result: T | None = None
        error: Exception | None = None
        try:
            result = compute()
        except Exception as caught:  # raised below, when every rank knows
            error = caught
            if self.size == 1:
                raise
        failed = self.largest(torch.tensor([0 if error is None else 1 + self.rank], device=device))
        if error is not None:
            raise error
        if failed.item():
            raise RuntimeError(f"rank {int(failed.item()) - 1} failed in its share of the work; its message says why")
        return result  # type: ignore[return-value]  # no error, so it was computed

    def rows(self, n: int, *, triangle: bool = False) -> slice:
        """Give this rank's share of the rows of a matrix; the shares of all ranks, in order, are the whole.

        Args:
            n: Rows.
            triangle: The matrix is square and only its upper triangle, with the diagonal, is computed: the first rows
                are longer, so the first ranks have fewer.

        >>> [Ranks(rank, 3).rows(100, triangle=True) for rank in range(3)]
        [slice(0, 19, None), slice(19, 43, None), slice(43, 100, None)]
        """
        if not triangle:
            return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)
        before = list(accumulate(range(n, 0, -1), initial=0))  # entries above each row
        begin, end = (bisect.bisect_left(before, before[-1] * k // self.size) for k in (self.rank, self.rank + 1))
        return slice(begin, end)

    def _reduce(self, mine: Tensor, how: str) -> Tensor:
        if self.size > 1:
            dist = torch.distributed
            dist.all_reduce(mine, getattr(dist.ReduceOp, how), group=self.group)
        return mine


ALONE = Ranks()
