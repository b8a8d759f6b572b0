"""The Chamfer distance between all pairs of two sets of clouds."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pcgen.ops import _triton
from pcgen.ops._checks import check_finite, checked_pair, largest_coordinate, refuse
from pcgen.ops._parallel import Progress, Task, batch_ranges, run_all
from pcgen.ops.chamfer import Reduction, chamfer_distance, check_options

PAIRS_AT_ONCE = 32  # of one task: some milliseconds, so that progress is seen and no thread waits long at the end
CLOUDS_AT_ONCE = 64  # of b, where pairs are made by expanding a cloud of a


def pairwise_chamfer_distance(
    a: Tensor,
    b: Tensor,
    *,
    norm: int = 2,
    reduction: Reduction = "mean",
    progress: Progress | None = None,
) -> Tensor:
    """Compute the Chamfer distance of every cloud of one set to every cloud of another.

    On the CPU each cloud is prepared once and few pairs of points are looked at; on a GPU with Triton a kernel
    streams the pairs and holds the results and at most 256 MiB besides. Both give the result of `chamfer_distance`
    to rounding. On another device, and where a gradient is wanted, the pairs are computed one row after the other by
    `chamfer_distance`, which for a gradient keeps O(S R (N + M)) indices. If b is a (the same tensor), half the pairs
    are computed in every case.

    Args:
        a: (S, N, 3), float32 or float64; half precision is computed in float32.
        b: (R, M, 3).
        norm: 2 takes squared distances, 1 takes distances.
        reduction: `"mean"` or `"sum"` over points, as in `chamfer_distance`.
        progress: Called now and then, on the calling thread, with the number of entries finished since the last
            call, S · R in all (`tqdm.update` fits).

    Returns:
        (S, R), in squared units of the coordinates for norm 2, in their units for norm 1.

    Raises:
        DataError: If shapes, dtypes or devices do not fit, a cloud is empty, or a coordinate is not finite.
        ConfigurationError: If norm or reduction is none of the above.

    >>> a = torch.tensor([[[0.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]]])  # two clouds of one point
    >>> pairwise_chamfer_distance(a, a[:1])
    tensor([[0.],
            [2.]])
    """
    check_options(norm, reduction)
    same = a is b
    a, b = checked_pair(a, b, ("a", "b"), batched=False)
    wants_gradient = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    by_triton = _triton.available(a.device)
    if wants_gradient or not (by_triton or a.device.type == "cpu"):
        return _by_rows(a, None if same else b, norm, reduction, progress)
    compute = _streamed if by_triton else _pruned
    return compute(a.contiguous(), None if same else b.contiguous(), norm, reduction, progress)


def _by_rows(a: Tensor, b: Tensor | None, norm: int, reduction: Reduction, progress: Progress | None) -> Tensor:
    """Compute the matrix a row and some columns at a time, on any device and with gradients; b None stands for a."""
    check_finite(a, "a")
    columns = a if b is None else b
    if b is not None:
        check_finite(b, "b")
    stretches = list(_stretches(len(a), len(columns), CLOUDS_AT_ONCE, triangle=b is None))
    parts = []
    for s, begin, end in stretches:
        cloud = a[s].expand(end - begin, -1, -1)
        parts.append(chamfer_distance(cloud, columns[begin:end], norm=norm, reduction=reduction))
        if progress is not None:
            progress(_weight(s, begin, end, triangle=b is None))
    out = a.new_zeros(len(a), len(columns))
    if parts:
        row = torch.cat([torch.full((end - begin,), s) for s, begin, end in stretches])
        column = torch.cat([torch.arange(begin, end) for _, begin, end in stretches])
        out = out.index_put((row.to(a.device), column.to(a.device)), torch.cat(parts))
    return out if b is not None else _mirrored(out)


def _streamed(a: Tensor, b: Tensor | None, norm: int, reduction: Reduction, progress: Progress | None) -> Tensor:
    """Compute the matrix on a GPU; b None stands for a."""
    from pcgen.ops._triton_pairs import pairwise_chamfer

    check_finite(a, "a")
    if b is not None:
        check_finite(b, "b")
    return pairwise_chamfer(a.detach(), None if b is None else b.detach(), norm, reduction, progress)


def _pruned(a: Tensor, b: Tensor | None, norm: int, reduction: str, progress: Progress | None) -> Tensor:
    """Compute the matrix on the CPU; b None stands for a."""
    from pcgen.ops._pruned import chamfer_row

    prepared_a = _prepare(a, "a")
    prepared_b = prepared_a if b is None else _prepare(b, "b")
    columns = a if b is None else b
    out = torch.zeros(len(a), len(columns), dtype=a.dtype)
    fixed = (prepared_a, a.shape[1], prepared_b, columns.shape[1], norm == 1, reduction == "mean", out.numpy())
    tasks: list[Task] = []
    for s, begin, end in _stretches(len(a), len(columns), PAIRS_AT_ONCE, triangle=b is None):
        weight = _weight(s, begin, end, triangle=b is None)
        tasks.append((weight, partial(chamfer_row, *fixed, s, begin, end)))
    run_all(tasks, progress)
    return out if b is not None else _mirrored(out)


def _stretches(rows: int, columns: int, length: int, *, triangle: bool) -> Iterator[tuple[int, int, int]]:
    """Cut the matrix, or its upper triangle, into stretches (row, begin, end) of at most a length."""
    for s in range(rows):
        for begin in range(s if triangle else 0, columns, length):
            yield s, begin, min(begin + length, columns)


def _weight(s: int, begin: int, end: int, *, triangle: bool) -> int:
    """Count the entries of the matrix that a stretch fills; those of the triangle are mirrored, the diagonal is not."""
    return 2 * (end - begin) - (begin == s) if triangle else end - begin


def _mirrored(upper: Tensor) -> Tensor:
    """Fill the lower triangle of (S, S) from the upper one."""
    return upper.triu() + upper.triu(1).T


def _prepare(x: Tensor, name: str) -> tuple[Any, Any, Any]:
    """Order each cloud in space."""
    from pcgen.ops._pruned import empty_prepared, prepare

    array = x.detach().numpy()
    prepared = empty_prepared(len(x), x.shape[1], array.dtype)
    good = torch.ones(len(x), dtype=torch.bool)
    fixed = (array, *prepared, good.numpy(), largest_coordinate(x.dtype))
    run_all([(1, partial(prepare, *fixed, *r)) for r in batch_ranges(len(x))])
    if not good.all():
        refuse(x, name, int((~good).nonzero()[0]))
    return prepared
