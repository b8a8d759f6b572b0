"""Optimal assignments between many pairs of clouds of two sets, each cloud prepared once."""

import functools
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

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
        self.a, self.b = a.detach(), a.detach() if b is None else b.detach()
        self._ready: dict[torch.dtype, tuple[Any, Any]] = {}

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
            On the device of the clouds, in pair order.
        """
        if self.a.device.type != "cpu" and tolerance > 0:
            return self._on_device(pairs, tolerance, assignments, progress)
        found = self._on_cpu(pairs.cpu().contiguous(), tolerance, assignments, progress)
        return found if self.a.device.type == "cpu" else Assigned(*(t.to(self.a.device) for t in found))

    def _on_device(self, pairs: Tensor, tolerance: float, assignments: bool, progress: Progress | None) -> Assigned:
        from pcgen.ops._gpu_auction import auction_on_device

        parts = []
        for some in pairs.to(self.a.device).split(CLOUDS_AT_ONCE):
            x, y = self.a[some[:, 0]], self.b[some[:, 1]]
            distance, bound, assignment = auction_on_device(x, y, squared=self.squared, tolerance=tolerance)
            parts.append((distance, bound, assignment if assignments else assignment[:, :0]))
            if progress is not None:
                progress(len(some))
        return Assigned(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _on_cpu(self, pairs: Tensor, tolerance: float, assignments: bool, progress: Progress | None) -> Assigned:
        found = self._assign(pairs, torch.float32, tolerance, assignments, progress)
        close = found.distance.isnan()  # points too close together, in some cloud, for single precision
        if close.any():
            again = self._assign(pairs[close].contiguous(), torch.float64, tolerance, assignments, None)
            for old, new in zip(found, again, strict=True):
                old[close] = new
        bound = torch.minimum(found.lower_bound, found.distance)  # an optimum's differ by rounding
        return Assigned(self._undone(found.distance, pairs), self._undone(bound, pairs), found.assignment)

    def _assign(
        self, pairs: Tensor, precision: torch.dtype, tolerance: float, assignments: bool, progress: Progress | None
    ) -> Assigned:
        """Assign the arranged clouds; costs are their sums, NaN where the precision does not do."""
        from pcgen.ops._assignment import assign_pairs

        n, count = self.a.shape[1], len(pairs)
        cost, bound = torch.empty(count, dtype=torch.float64), torch.empty(count, dtype=torch.float64)
        assignment = torch.empty(count, n if assignments else 0, dtype=torch.int64)
        arrays = (pairs.numpy(), not self.squared, tolerance, assignment.numpy(), cost.numpy(), bound.numpy())
        step = max(1, POINTS_AT_ONCE // n)
        tasks: list[Task] = []
        for begin in range(0, count, step):
            end = min(begin + step, count)
            tasks.append((end - begin, partial(assign_pairs, *self._arranged(precision), *arrays, begin, end)))
        run_all(tasks, progress)
        return Assigned(cost, bound, assignment)

    def _arranged(self, precision: torch.dtype) -> tuple[Any, Any]:
        """Give both sets ordered in space, for searches in a precision."""
        if precision not in self._ready:
            a = _arranged(self._frame[0], precision)
            self._ready[precision] = (
                a,
                a if self._frame[1] is self._frame[0] else _arranged(self._frame[1], precision),
            )
        return self._ready[precision]

    @functools.cached_property
    def _frame(self) -> tuple[Tensor, Tensor]:
        """Both sets moved and scaled into ±½, float64 on the CPU."""
        a = self.a.double().cpu()
        b = a if self.b is self.a else self.b.double().cpu()
        if self.squared:  # moving a cloud adds the same to every assignment, so each stands on its own mean
            self._mean_a, self._mean_b = a.mean(1), b.mean(1)
            centred_a, centred_b = a - self._mean_a[:, None], b - self._mean_b[:, None]
        else:
            low = torch.minimum(a.flatten(0, 1).amin(0), b.flatten(0, 1).amin(0))
            high = torch.maximum(a.flatten(0, 1).amax(0), b.flatten(0, 1).amax(0))
            centred_a, centred_b = a - (low + high) / 2, b - (low + high) / 2
        self._scale = 2 * max(float(centred_a.abs().max()), float(centred_b.abs().max())) or 1.0
        scaled_a = centred_a / self._scale
        return scaled_a, scaled_a if b is a else centred_b / self._scale

    def _undone(self, total: Tensor, pairs: Tensor) -> Tensor:
        """Bring sums over points of arranged clouds back to means in the clouds' own units."""
        mean = total / self.a.shape[1]
        if not self.squared:
            return mean * self._scale
        return mean * self._scale**2 + (self._mean_a[pairs[:, 0]] - self._mean_b[pairs[:, 1]]).square().sum(1)


def _arranged(clouds: Tensor, precision: torch.dtype) -> Any:
    from pcgen.ops._assignment import arrange, empty_arranged

    arranged = empty_arranged(*clouds.shape[:2], torch.empty(0, dtype=precision).numpy().dtype)
    array = clouds.contiguous().numpy()
    run_all([(1, partial(arrange, array, *arranged, *r)) for r in batch_ranges(len(clouds))])
    return arranged
