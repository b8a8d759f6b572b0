"""Terms of an objective that are no means over data, when several processes share a batch."""

from torch import Tensor

from pcgen.base import GenerativeModel
from pcgen.ops.processes import all_rows, mean_over_processes


def batch_rows(model: GenerativeModel, x: Tensor) -> Tensor:
    """Give the rows of the whole batch of a training step, of this process's x (B, …); elsewhere x."""
    return all_rows(x) if _shares(model) else x


def batch_mean(model: GenerativeModel, x: Tensor) -> Tensor:
    """Give the mean over the whole batch of a training step, of the mean over this process's share; elsewhere x."""
    return mean_over_processes(x) if _shares(model) else x


def _shares(model: GenerativeModel) -> bool:
    # An evaluation's shares may differ in size, and rank zero may look at a model alone. A trainer of one process may
    # be one of several that torch knows, each with a model of its own.
    trainer = model._trainer  # noqa: SLF001 -- `trainer` refuses to say that there is none
    return model.training and (trainer is None or trainer.world_size > 1)
