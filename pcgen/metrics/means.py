"""Means over the data of an evaluation."""

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanOverData(Metric):
    """Means of several quantities over data, exact for any number of processes and any sizes of batches.

    Lightning's `self.log(…, sync_dist=True)` averages the processes' numbers of data as integers: with 9 and 8 data
    on two processes its mean is off by 1/16.

    Args:
        size: Number of quantities, K.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(size), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, means: Tensor, weight: int) -> None:
        """Add the means (K,) over so many data."""
        self.total += means.detach().float() * weight  # not every device has float64
        self.count += weight

    def compute(self) -> Tensor:
        """Give the means (K,)."""
        return self.total / self.count.clamp(min=1)
