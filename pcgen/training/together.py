"""The processes of a training, with a connection of their own that gives up on those who do not take part."""

import datetime as dt
import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from pcgen.errors import ConfigurationError

PATIENCE = 120.0  # seconds that a process waits for the others when it saves


class Together:
    """What the processes tell each other about a checkpoint. Who is left alone once stays alone."""

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None

    def connect(self, trainer: Trainer) -> None:
        """Make the connection, anew in every training; all processes call this together."""
        if trainer.world_size > 1 and dist.is_initialized() and dist.is_gloo_available():
            self._group = dist.new_group(backend="gloo", timeout=dt.timedelta(seconds=PATIENCE))

    def gather(self, trainer: Trainer, own: Any) -> list[Any]:
        """Give what all processes have, in the first one; None in the place of those that do not save too."""
        if trainer.world_size == 1:
            return [own]
        states: list[Any] = [None] * trainer.world_size
        states[trainer.global_rank] = own
        if self._group is not None:
            try:
                dist.gather_object(own, states if trainer.global_rank == 0 else None, group=self._group)
            except RuntimeError:
                self._group = None
        if self._group is None:
            warnings.warn(
                "the other processes did not save a checkpoint at the same time, now or before, so that of step "
                f"{trainer.global_step} holds the state of this process alone and is not resumed exactly: call "
                "trainer.save_checkpoint on all of them",
                stacklevel=2,
            )
        return states

    def highest(self, number: int) -> int:
        """Give the highest of all processes' numbers; the own one if the others do not answer."""
        if self._group is None:
            return number
        answer = torch.tensor(number)
        try:
            dist.all_reduce(answer, dist.ReduceOp.MAX, group=self._group)
        except RuntimeError:
            self._group = None
            return number
        return int(answer)


def check_together(trainer: Trainer, step: int) -> None:
    """Refuse processes that do not go on from the same step, as where a node does not see the others' files.

    Raises:
        ConfigurationError: On all of them.
    """
    if trainer.world_size == 1:
        return
    ends = torch.tensor([-step, step], device=trainer.strategy.root_device)
    low, high = trainer.strategy.reduce(ends, reduce_op="max").tolist()
    if -low != high:
        raise ConfigurationError(
            f"the processes go on from different steps, {-low} to {high} (this one, rank {trainer.global_rank}, from "
            f"{step}): the run's folder must be on a file system that all nodes share"
        )


def log_equal(model: LightningModule, values: Mapping[str, float | Tensor]) -> None:
    """Log numbers that all processes have alike. Their largest is each of them; a mean of three would be rounded."""
    model.log_dict(dict(values), sync_dist=True, reduce_fx="max")
