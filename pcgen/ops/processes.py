"""What the processes of a distributed training have to tell each other, so that they learn as one process would.

Each of W processes computes the loss of its share of a batch, and its gradients are averaged over the processes before
the step (`DistributedDataParallel` does so, and `pcgen.models` for models of two optimizers). With equal shares the
gradient of a mean over data is right by that alone. A term that is no mean over data is not: a discrepancy of the
batch's codes, the length of a batch's mean. Such a term ℓ has to be computed of the whole batch, by every process
alike:

    ℓ(c₁, …, c_W), c_r = c_r(θ) what process r contributes;  dℓ/dθ = Σ_r ∂ℓ/∂c_r · dc_r/dθ

The average over the processes divides by W. So a process has to come by W ∂ℓ/∂c_r · dc_r/dθ, which it knows alone: all
have the same ℓ. That is what the backward passes here give, without any communication; with a mean m = Σ c_r / W it is
∂ℓ/∂m, since ∂ℓ/∂c_r = ∂ℓ/∂m / W.

Without a process group, and in one of a single process, everything is given back as it is.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pcgen.errors import DataError


def all_rows(x: Tensor) -> Tensor:
    """Give the rows (W B, …) of all W processes, in their order, of this one's x (B, …).

    For a term that every process computes alike of the result, and whose gradients are averaged over the processes.

    Args:
        x: As many rows on every process.

    Raises:
        DataError: On every process, if they have different numbers of rows: then the average of their gradients is
            that of no batch.

    >>> all_rows(torch.tensor([1.0, 2.0]))  # no process group
    tensor([1., 2.])
    """
    if _world_size() == 1:
        return x
    found = _gathered(torch.tensor([len(x)], device=x.device)).tolist()
    if len(set(found)) > 1:
        raise DataError(
            f"the processes have {found} data in this step, whose gradients' average is that of no batch: take a "
            "sampler that gives every process as many, as pcgen's datamodules do"
        )
    rows: Tensor = _AllRows.apply(x)  # type: ignore[no-untyped-call]
    return rows


def mean_over_processes(x: Tensor) -> Tensor:
    """Give the mean over all processes of a tensor of one shape: of the processes' batch means, that of the batch.

    For a term that every process computes alike of the result, and whose gradients are averaged over the processes.

    Args:
        x: A mean over this process's share of the batch; the shares are of one size.

    >>> mean_over_processes(torch.tensor(3.0))  # no process group
    tensor(3.)
    """
    if _world_size() == 1:
        return x
    mean: Tensor = _Mean.apply(x)  # type: ignore[no-untyped-call]
    return mean


def take_from_first(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with those of the first process, the same ones in the same order on every process."""
    if _world_size() > 1:
        for tensor in tensors:
            torch.distributed.broadcast(tensor, 0)


class _AllRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Gather the rows."""
        ctx.own, ctx.world_size = slice(_rank() * len(x), (_rank() + 1) * len(x)), _world_size()
        return _gathered(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Give W ∂ℓ/∂c_r."""
        scaled: Tensor = ctx.world_size * gradient[ctx.own]
        return scaled


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 -- torch's signature
        """Average."""
        total = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total / _world_size()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004 -- torch's signature
        """Give ∂ℓ/∂m."""
        return gradient


def _gathered(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(_world_size())]
    torch.distributed.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def _world_size() -> int:
    dist = torch.distributed
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return torch.distributed.get_rank()
