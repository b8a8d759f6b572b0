"""Optimal assignments between many pairs of clouds of two sets, each cloud prepared once."""

from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError
from pcgen.ops._parallel import Progress, Task, batch_ranges, run_all

POINTS_AT_ONCE = 4096  # of one task's pairs: some dozens of milliseconds
CLOUDS_AT_ONCE = 256  # pairs that are put together as a batch on a device other than the CPU


class Assigned(NamedTuple):
    """Assignments of some pairs, with the proof of their quality.

    Attributes:
        distance: Mean cost of each assignment (P,), float64; never below the optimum.
        lower_bound: From the dual values (P,), float64; never above the optimum.
        assignment: The index into the second cloud for each point of the first (P, N), int64, or (P, 0).
    """

    distance: Tensor
    lower_bound: Tensor
    assignment: Tensor


class PairwiseAssignment:
    """Assigns the points of clouds of one set to those of clouds of another, for the pairs that are asked for.

    On the CPU one pair a thread, in about 1.5 kB a point and thread. On another device the auction runs there, and
    what is to be exact is solved on the CPU.

    Args:
        a: (S, N, 3), float32 or float64 and finite.
        b: (R, N, 3), or None for a itself.
        squared: The cost is the squared distance, not the distance.
    """

    def __init__(self, a: Tensor, b: Tensor | None, *, squared: bool) -> None:
        self.squared = squared
        self.a = a.detach()
        self.b = self.a if b is None else b.detach()

    def solve(
        self, pairs: Tensor, *, tolerance: float = 0.0, assignments: bool = False, progress: Progress | None = None
    ) -> Assigned:
        """Assign some pairs.

        Args:
            pairs: (P, 2) int64, indices into a and b.
            tolerance: Largest gap between distance and lower bound, relative to the distance; 0 finds the optimum.
            assignments: Return them.
            progress: Told of each few pairs done.

        Returns:
            In pair order, on the device of the clouds, or on the CPU where that has no float64 (mps). Of a pair, the
            same whatever else there is in the sets or among the pairs.
        """
        device = self.a.device
        if device.type != "cpu" and tolerance > 0:
            return self._on_device(pairs.to(device), tolerance, assignments, progress)
        return self._to_device(self._on_cpu(pairs, tolerance, assignments, progress))

    def _to_device(self, found: Assigned) -> Assigned:
        home = "cpu" if self.a.device.type == "mps" else self.a.device
        return Assigned(*(t.to(home) for t in found))

    def _on_device(self, pairs: Tensor, tolerance: float, assignments: bool, progress: Progress | None) -> Assigned:
        """Hold auctions; the pairs that single precision does not bring to the tolerance are assigned on the CPU."""
        from pcgen.ops._gpu_auction import auction_on_device

        parts = []
        for some in pairs.split(CLOUDS_AT_ONCE):
            x, y = self.a[some[:, 0]], self.b[some[:, 1]]
            try:
                distance, bound, assignment = auction_on_device(x, y, squared=self.squared, tolerance=tolerance)
            except ConfigurationError:  # an auction that does not end
                parts.append(self._to_device(self._on_cpu(some, tolerance, assignments, None)))
            else:
                found = Assigned(distance, bound, assignment if assignments else assignment[:, :0])
                wide = (distance - bound > tolerance * distance).cpu()
                if wide.any():
                    _replace(found, wide, self._on_cpu(some.cpu()[wide], tolerance, assignments, None))
                parts.append(self._to_device(found))
            if progress is not None:
                progress(len(some))
        return Assigned(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _on_cpu(self, pairs: Tensor, tolerance: float, assignments: bool, progress: Progress | None) -> Assigned:
        """Assign in single precision, and again in double where points lie too close together for that."""
        pairs = pairs.cpu()
        found = self._assign(pairs, torch.float32, tolerance, assignments, progress)
        close = found.distance.isnan()
        if close.any():
            _replace(found, close, self._assign(pairs[close], torch.float64, tolerance, assignments, None))
        return found

    def _assign(
        self, pairs: Tensor, precision: torch.dtype, tolerance: float, assignments: bool, progress: Progress | None
    ) -> Assigned:
        """Assign in a precision; costs are NaN where it does not do."""
        from pcgen.ops._assignment import assign_pairs

        n, count = self.a.shape[1], len(pairs)
        cost, bound = torch.empty(count, dtype=torch.float64), torch.empty(count, dtype=torch.float64)
        assignment = torch.empty(count, n if assignments else 0, dtype=torch.int64)
        given = (*self._arranged, pairs.contiguous().numpy(), torch.empty(0, dtype=precision).numpy())
        how = (not self.squared, float(tolerance))  # an int 0 would be compiled anew
        filled = (assignment.numpy(), cost.numpy(), bound.numpy())
        step = max(1, POINTS_AT_ONCE // n)
        tasks: list[Task] = []
        for begin in range(0, count, step):
            end = min(begin + step, count)
            tasks.append((end - begin, partial(assign_pairs, *given, *how, *filled, begin, end)))
        run_all(tasks, progress)
        return Assigned(cost, bound, assignment)

    @cached_property
    def _arranged(self) -> tuple[Any, Any]:
        """Give both sets ordered in space."""
        a = _arrange(self.a)
        return a, a if self.b is self.a else _arrange(self.b)


def _arrange(clouds: Tensor) -> Any:
    from pcgen.ops._frames import arrange, empty_arranged

    arranged = empty_arranged(*clouds.shape[:2])
    array = clouds.cpu().double().contiguous().numpy()
    run_all([(1, partial(arrange, array, *arranged, *r)) for r in batch_ranges(len(clouds))])
    return arranged


def _replace(found: Assigned, which: Tensor, others: Assigned) -> None:
    """Replace the results of some pairs."""
    for old, new in zip(found, others, strict=True):
        old[which.to(old.device)] = new.to(old.device)
