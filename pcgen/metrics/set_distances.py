"""The distances that scores of two sets are made of."""

from typing import NamedTuple

from torch import Tensor


class SetDistances(NamedTuple):
    """Distances within the generated set, between the sets, and within the reference.

    Entries that no nearest neighbour needs may be lower bounds: every function of the minima of rows and columns
    (diagonals left out) and of the entries equal to them is that of the distances themselves.

    Attributes:
        ss: (S, S).
        sr: (S, R).
        rr: (R, R).
        solved: Pairs of clouds computed to the end.
        pairs: Distinct pairs that there are: S (S − 1) / 2 + S R + R (R − 1) / 2.
        stopped: Pairs that were begun and stopped early; counted again if solved later.
    """

    ss: Tensor
    sr: Tensor
    rr: Tensor
    solved: int
    pairs: int
    stopped: int = 0


def number_of_pairs(S: int, R: int) -> int:
    """Count the distinct pairs of S generated and R reference clouds."""
    return S * (S - 1) // 2 + S * R + R * (R - 1) // 2
