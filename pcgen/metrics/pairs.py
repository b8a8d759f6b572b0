"""The distances between clouds that sets can be scored under."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from pcgen.ops import pairwise_chamfer_distance

PairwiseDistance = Callable[[Tensor, Tensor], Tensor]  # (S, N, 3), (R, M, 3) -> (S, R)


class Distance(NamedTuple):
    """A distance between clouds: what it is, and how it is computed for all pairs."""

    definition: str
    pairwise: Callable[..., Tensor]  # a `PairwiseDistance` that also takes `progress`, told of each few pairs done


DISTANCES = {
    "cd": Distance("Chamfer, squared distances, mean over points, both directions added", pairwise_chamfer_distance),
}
