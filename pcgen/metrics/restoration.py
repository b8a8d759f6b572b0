"""What a model that repairs data wins: the error before and after."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from pcgen.errors import DataError
from pcgen.metrics.set_scores import exact_mean
from pcgen.ops import chamfer_distance

_WHEN = ("before", "after")


class RestorationScores(Metric):
    """Mean error of corrupted and of restored data against the clean ones.

    `compute` gives `chamfer_before` and `chamfer_after` for clouds (squared distances, mean over points, both
    directions added), `mse_before` and `mse_after` for images (mean squared error of a pixel). Each is averaged with
    one rounding, so processes and their order do not show.

    Args:
        kwargs: Of every `torchmetrics.Metric`.
    """

    full_state_update = False
    DISTANCES: ClassVar[dict[int, str]] = {3: "chamfer", 4: "mse"}  # by the number of a batch's axes
    axes: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for when in _WHEN:
            self.add_state(when, default=[], dist_reduce_fx="cat")
        self.add_state("axes", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="max")

    def update(self, clean: Tensor, corrupted: Tensor, restored: Tensor) -> None:
        """Add clean data with what became of them.

        Args:
            clean: Clouds (B, N, 3) or images (B, C, H, W).
            corrupted: (B, M, 3), M may differ, or (B, C, H, W).
            restored: As corrupted.

        Raises:
            DataError: If they are not of one kind and number, or not of the kind seen before.
        """
        self._check(clean, corrupted, restored)
        clean, *others = (x.detach().to(self.device, torch.float32) for x in (clean, corrupted, restored))
        found = [_errors(x, clean) for x in others]  # both, before either is added
        self.axes = torch.full_like(self.axes, clean.ndim)
        for when, errors in zip(_WHEN, found, strict=True):
            getattr(self, when).append(errors)

    def compute(self) -> dict[str, Tensor]:
        """Give the mean errors by name, scalars in float64.

        Raises:
            DataError: If nothing was seen: there is no distance to name then.
        """
        states = {when: getattr(self, when) for when in _WHEN}  # lists, or one tensor after the exchange
        if not int(self.axes) or not len(states["before"]):
            raise DataError("the error of no restored data was asked for; update with clean, corrupted and restored")
        name = self.DISTANCES[int(self.axes)]
        return {f"{name}_{when}": exact_mean(dim_zero_cat(state)) for when, state in states.items()}

    def _check(self, clean: Tensor, *others: Tensor) -> None:
        shapes = [tuple(x.shape) for x in (clean, *others)]
        if clean.ndim not in self.DISTANCES:
            raise DataError(f"data have shape {shapes[0]}; give clouds (B, N, 3) or images (B, C, H, W)")
        if not len(clean) or any(not _fits(x, clean) for x in others):
            raise DataError(
                f"clean, corrupted and restored have shapes {shapes[0]}, {shapes[1]} and {shapes[2]}; give at least "
                "one datum, and one of each for every datum"
            )
        if int(self.axes) not in {0, clean.ndim}:
            seen = self.DISTANCES[int(self.axes)]
            raise DataError(f"data of shape {shapes[0]} after others whose error is {seen}; use a metric for each kind")


def _fits(x: Tensor, clean: Tensor) -> bool:
    if clean.ndim == 3:  # the number of points may change
        return x.ndim == 3 and (len(x), x.shape[2]) == (len(clean), clean.shape[2])
    return x.shape == clean.shape


def _errors(x: Tensor, clean: Tensor) -> Tensor:
    """Give the error (B,) of each datum."""
    return chamfer_distance(x, clean) if x.ndim == 3 else (x - clean).square().flatten(1).mean(1)
