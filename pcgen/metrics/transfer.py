"""How well labels of points were transferred, and what can be had without a model."""

from typing import NamedTuple

import torch
from torch import Tensor

from pcgen.errors import DataError
from pcgen.ops import nearest_neighbors, pairwise_chamfer_distance
from pcgen.ops._parallel import Progress


class LabelScores(NamedTuple):
    """Shares of points that have their true label.

    Attributes:
        accuracy: Of all points.
        each: Of the points of each true label (P,), float64; NaN where there is no such point.
    """

    accuracy: float
    each: Tensor

    @property
    def mean(self) -> float:
        """Mean over the labels that there are: small parts count as much as large ones."""
        return self.each.nanmean().item()


def label_scores(found: Tensor, true: Tensor, num_labels: int) -> LabelScores:
    """Compare labels of points with the true ones.

    Args:
        found: Integers of any shape.
        true: Of the same shape, from 0 to num_labels − 1, at least one.
        num_labels: P.

    Raises:
        DataError: If the shapes do not fit.

    >>> label_scores(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2).each
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    if found.shape != true.shape or not true.numel():
        raise DataError(f"labels have shapes {tuple(found.shape)} and {tuple(true.shape)}; give one for each point")
    right, label = (found == true).flatten().double().cpu(), true.flatten().cpu()
    hits = torch.bincount(label, right, num_labels)
    return LabelScores(right.mean().item(), hits / torch.bincount(label, minlength=num_labels))


def labels_of_nearest_clouds(
    x: Tensor, references: Tensor, labels: Tensor, *, progress: Progress | None = None
) -> Tensor:
    """Copy the labels of the most similar labelled cloud: the control of a transfer, for which no model is needed.

    For each cloud the reference of the smallest Chamfer distance is found; each point then takes the label of the
    reference's nearest point.

    Args:
        x: Clouds (B, N, 3).
        references: Labelled clouds (K, M, 3), at least one.
        labels: (K, M).
        progress: Called with the number of pairs of clouds finished since the last call, B · K in all.

    Returns:
        (B, N).

    Raises:
        DataError: If the shapes do not fit.
    """
    if labels.shape != references.shape[:2] or not len(references):
        raise DataError(f"labels have shape {tuple(labels.shape)} for clouds {tuple(references.shape)}; give (K, M)")
    closest = pairwise_chamfer_distance(x, references, progress=progress).argmin(1)  # (B,)
    nearest = nearest_neighbors(x, references[closest])[1]  # (B, N)
    return labels[closest].gather(1, nearest)
