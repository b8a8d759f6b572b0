"""The earth mover's distance between clouds of equal size: the optimal one-to-one assignment.

Two different numbers are called so in the literature: with φ the bijection that makes it smallest, the mean of
‖x − φ(x)‖ (Fan et al., "A Point Set Generation Network", 2017, https://arxiv.org/abs/1612.00603; PointFlow) and the
mean of ‖x − φ(x)‖² (PVD, LION). Here they are `squared=False` and `squared=True`.

Exact on the CPU: an auction (`pcgen.ops._auction`) finished by shortest paths (`pcgen.ops._shortest_paths`), one pair
of clouds a thread, in O(N) memory. The sum of the dual values equals the cost to rounding, which proves it optimal.
"""

from typing import Literal

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError
from pcgen.ops._checks import check_finite, check_same_size, checked_pair
from pcgen.ops._parallel import Progress
from pcgen.ops.assignment import Assigned, PairwiseAssignment
from pcgen.ops.chamfer import safe_sqrt
from pcgen.ops.gaussian import gather_points

Solver = Literal["exact", "auction"]


def earth_mover_distance(
    x: Tensor, y: Tensor, *, squared: bool = False, solver: Solver = "exact", tolerance: float = 1e-5
) -> Tensor:
    """Compute the earth mover's distance of each pair of clouds (x[i], y[i]).

    The gradient goes through the assignment, which is constant almost everywhere; that of a distance of zero is zero.

    Args:
        x: (B, N, 3), float32 or float64; half precision is computed in float32.
        y: (B, N, 3).
        squared: Assign by and average the squared distances instead of the distances.
        solver: `"exact"`, computed on the CPU wherever the clouds are, or `"auction"`, computed where they are, whose
            assignment is proven to cost at most `tolerance` more than the best. `earth_mover_bounds` gives the proof.
        tolerance: Of the auction, relative.

    Returns:
        (B,): mean over points of the distance, in units of the coordinates, or of its square, in squared units.

    Raises:
        DataError: If shapes, dtypes or devices do not fit, the clouds differ in size, or a coordinate is not finite.
        ConfigurationError: If solver or tolerance is none of the above.

    Example:
        >>> x = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
        >>> y = torch.tensor([[[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]])
        >>> earth_mover_distance(x, y), earth_mover_distance(x, y, squared=True)
        (tensor([1.5000]), tensor([2.5000]))
    """
    _check(solver, tolerance)
    x, y = _checked(x, y, ("x", "y"), batched=True)
    found = _solve_batch(x, y, squared, 0.0 if solver == "exact" else tolerance)
    return _mean_cost(x, y, found.assignment.to(x.device), squared)


def earth_mover_bounds(x: Tensor, y: Tensor, *, squared: bool = False, tolerance: float = 1e-5) -> Assigned:
    """Compute an assignment of each pair of clouds (x[i], y[i]) and a bound below all assignments.

    Args:
        x: (B, N, 3), float32 or float64; half precision is computed in float32.
        y: (B, N, 3).
        squared: Assign by and average the squared distances instead of the distances.
        tolerance: Largest gap between the two, relative to the distance. 0 finds the optimum; the gap that is left
            is the rounding of float64, below 1e-9 unless the clouds are apart by less than that share of their size.

    Returns:
        Distance, lower bound and assignment, without gradient, on the CPU where the device has no float64 (mps).

    Raises:
        DataError: If shapes, dtypes or devices do not fit, the clouds differ in size, or a coordinate is not finite.
        ConfigurationError: If the tolerance is negative or 1 or more.

    Example:
        >>> x = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
        >>> y = torch.tensor([[[3.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
        >>> distance, lower_bound, assignment = earth_mover_bounds(x, y, squared=True)
        >>> distance, bool(distance - lower_bound <= 1e-5 * distance), assignment
        (tensor([2.5000], dtype=torch.float64), True, tensor([[1, 0]]))
    """
    _check("exact", tolerance)
    x, y = _checked(x, y, ("x", "y"), batched=True)
    return _solve_batch(x, y, squared, tolerance)


def optimal_assignment(x: Tensor, y: Tensor, *, squared: bool = False) -> Tensor:
    """Find the bijection between each pair of clouds (x[i], y[i]) of the smallest sum of distances.

    Args:
        x: (B, N, 3), float32 or float64; half precision is computed in float32.
        y: (B, N, 3).
        squared: The sum of squared distances instead. The best bijections differ.

    Returns:
        The index into y for each point of x (B, N), int64. Where several bijections are best, one of them, always
        the same.

    Raises:
        DataError: As `earth_mover_distance`.

    Example:
        >>> x = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
        >>> y = torch.tensor([[[1.5, 0.0, 0.0], [0.5, 0.0, 0.0]]])
        >>> optimal_assignment(x, y, squared=True)
        tensor([[1, 0]])
    """
    return earth_mover_bounds(x, y, squared=squared, tolerance=0.0).assignment.to(x.device)


def pairwise_earth_mover_distance(
    a: Tensor,
    b: Tensor,
    *,
    squared: bool = False,
    solver: Solver = "exact",
    tolerance: float = 1e-5,
    progress: Progress | None = None,
) -> Tensor:
    """Compute the earth mover's distance of every cloud of one set to every cloud of another.

    Each cloud is prepared once, and if b is a (the same tensor) half the pairs are computed. Where only nearest
    neighbours are wanted, `pcgen.metrics.neighbor_search` finds the same ones from few pairs.

    Args:
        a: (S, N, 3), float32 or float64; half precision is computed in float32.
        b: (R, N, 3).
        squared: Assign by and average the squared distances instead of the distances.
        solver: `"exact"` or `"auction"`, as in `earth_mover_distance`.
        tolerance: Of the auction, relative.
        progress: Called now and then, on the calling thread, with the number of entries finished since the last
            call, S · R in all (`tqdm.update` fits).

    Returns:
        (S, R), in units of the coordinates, or in squared units. Differentiable; a gradient keeps O(S R N).

    Raises:
        DataError: If shapes, dtypes or devices do not fit, the clouds differ in size, or a coordinate is not finite.
        ConfigurationError: If solver or tolerance is none of the above.

    Example:
        >>> a = torch.tensor([[[0.0, 0.0, 0.0]], [[2.0, 0.0, 0.0]]])
        >>> b = torch.tensor([[[0.0, 1.0, 0.0]], [[5.0, 0.0, 0.0]]])
        >>> pairwise_earth_mover_distance(a, b, squared=True)
        tensor([[ 1., 25.],
                [ 5.,  9.]])
    """
    _check(solver, tolerance)
    same = a is b
    a, b = _checked(a, b, ("a", "b"), batched=False)
    pairs = _all_pairs(len(a), len(b), triangle=same, device=a.device)
    wants_gradient = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    found = PairwiseAssignment(a, None if same else b, squared=squared).solve(
        pairs,
        tolerance=0.0 if solver == "exact" else tolerance,
        assignments=wants_gradient,
        progress=None if progress is None else (lambda done: progress(2 * done if same else done)),
    )
    if same and progress is not None:
        progress(len(a))  # the diagonal
    values = found.distance.to(a.dtype).to(a.device)
    if wants_gradient:
        values = _mean_cost(a[pairs[:, 0]], b[pairs[:, 1]], found.assignment.to(a.device), squared)
    out = a.new_zeros(len(a), len(b)).index_put((pairs[:, 0], pairs[:, 1]), values)
    return out + out.T if same else out


def _check(solver: str, tolerance: float) -> None:
    if solver not in {"exact", "auction"}:
        raise ConfigurationError(f'solver is {solver!r}; choose "exact" or "auction"')
    if not 0 <= tolerance < 1:
        raise ConfigurationError(f"tolerance is {tolerance}; it is a relative gap from 0 to below 1, such as 1e-5")


def _checked(x: Tensor, y: Tensor, names: tuple[str, str], *, batched: bool) -> tuple[Tensor, Tensor]:
    """Check two batches or sets of clouds, which must have the same number of points."""
    x, y = checked_pair(x, y, names, batched=batched)
    check_same_size(x, y, names)
    check_finite(x, names[0])
    check_finite(y, names[1])
    return x, y


def _solve_batch(x: Tensor, y: Tensor, squared: bool, tolerance: float) -> Assigned:
    """Assign cloud i of x to cloud i of y."""
    pairs = torch.arange(len(x), device=x.device)[:, None].expand(-1, 2)
    return PairwiseAssignment(x, y, squared=squared).solve(pairs, tolerance=tolerance, assignments=True)


def _mean_cost(x: Tensor, y: Tensor, assignment: Tensor, squared: bool) -> Tensor:
    """Average the costs of assignments (B, N), added in float64 where the device has it; differentiable."""
    wide = torch.float32 if x.device.type == "mps" else torch.float64
    square = (x.to(wide) - gather_points(y.to(wide), assignment)).square().sum(2)  # (B, N)
    return (square if squared else safe_sqrt(square)).mean(1).to(x.dtype)


def _all_pairs(rows: int, columns: int, *, triangle: bool, device: torch.device) -> Tensor:
    """List all pairs, or those above the diagonal, (P, 2); a cloud's distance to itself is zero."""
    if triangle:
        return torch.triu_indices(rows, columns, 1, device=device).T
    return torch.cartesian_prod(torch.arange(rows, device=device), torch.arange(columns, device=device)).view(-1, 2)
