"""One evaluation for all processes: each does its share of samples and pairs, and every rank hears the result."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from torch import Tensor

from pcgen.base import DataModule, GenerativeModel
from pcgen.io.progress import Report, progress
from pcgen.metrics.ranks import ALONE, Ranks

T = TypeVar("T")


def scorable(trainer: Trainer, pl_module: LightningModule, verb: str) -> tuple[GenerativeModel, DataModule] | str:
    """Give the model and the data whose clouds can be scored, or say why there are none."""
    name = type(pl_module).__name__
    if not isinstance(pl_module, GenerativeModel) or not pl_module.can(verb):
        return f"{name} cannot {verb}"
    if not _is_cloud(pl_module.sample_shape):
        return f"{name} makes {tuple(pl_module.sample_shape)}, not clouds (N, 3)"
    datamodule = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, DataModule) or not _is_cloud(datamodule.sample_shape):
        return "the trainer has no pcgen datamodule with clouds to compare with"
    return pl_module, datamodule


def _is_cloud(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and shape[-1] == 3


def my_part(trainer: Trainer, n: int) -> slice:
    """Give this process's share of n things; the shares of all ranks, one after the other, are the whole."""
    rank, world = trainer.global_rank, trainer.world_size
    return slice(n * rank // world, n * (rank + 1) // world)


def sharing_ranks(trainer: Trainer) -> Ranks:
    """Give the trainer's processes as those that share a computation; alone if `torch.distributed` knows others."""
    ranks = Ranks.current()
    return ranks if ranks.size == trainer.world_size else ALONE


def gather_in_order(trainer: Trainer, mine: Tensor) -> Tensor:
    """Put the ranks' shares (b, …), of any b, one after the other: the whole (B, …), on every rank."""
    if trainer.world_size == 1:
        return mine
    from torchmetrics.utilities.distributed import gather_all_tensors

    return torch.cat([part.to(mine.device) for part in gather_all_tensors(mine)])


def on_rank_zero(trainer: Trainer, compute: Callable[[], T]) -> T:
    """Compute on rank zero alone and tell every rank, an error too: none is left waiting for one that failed."""
    result: T | None = None
    error: Exception | None = None
    if trainer.is_global_zero:
        try:
            result = compute()
        except Exception as caught:  # noqa: BLE001 -- raised below, on every rank
            error = caught
    result, error = trainer.strategy.broadcast((result, error))
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # no error, so rank zero computed one


def progress_bar(trainer: Trainer, description: str) -> AbstractContextManager[Report]:
    """Show a passing bar on rank zero's terminal if the trainer shows one; gives what reports (done, total)."""
    wanted = trainer.is_global_zero and isinstance(trainer.progress_bar_callback, ProgressBar)
    return progress(description, shown=None if wanted else False)
