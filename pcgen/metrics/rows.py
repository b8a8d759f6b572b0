"""Rows of numbers that a metric gathers over batches and processes."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class RowSets(Metric):
    """Keeps sets of rows (n, width) in float32.

    They are held flat: a process that has seen nothing then gives an empty list of the same rank as the others',
    which the exchange between processes wants.
    """

    full_state_update = False

    def add_rows(self, name: str) -> None:
        """Make an empty set."""
        self.add_state(name, default=[], dist_reduce_fx="cat")

    def append_rows(self, name: str, rows: Tensor) -> None:
        """Add rows (B, width)."""
        getattr(self, name).append(rows.detach().to(self.device, torch.float32).flatten())

    def rows(self, name: str, width: int) -> Tensor:
        """Give the set (n, width)."""
        state = getattr(self, name)  # a list, or one tensor after the exchange
        flat = dim_zero_cat(state) if len(state) else torch.empty(0, device=self.device)
        return flat.view(-1, width)
