"""Ridge regression in closed form, its penalty chosen on held-out data: what codes tell linearly to one who is told."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pcgen.errors import DataError

PENALTIES = tuple(10.0**k for k in range(-8, 3))


class Ridge(NamedTuple):
    """A linear map from codes to targets.

    Attributes:
        mean: Of the codes it was fitted to (Z,), float64.
        weight: (Z, D).
        offset: Mean of the targets (D,).
        penalty: That was chosen.
    """

    mean: Tensor
    weight: Tensor
    offset: Tensor
    penalty: float

    def predict(self, codes: Tensor) -> Tensor:
        """Give targets (B, D) of codes (B, Z), in float64."""
        return (codes.double() - self.mean) @ self.weight + self.offset


def fit_ridge(codes: Tensor, targets: Tensor, penalties: Sequence[float] = PENALTIES) -> Ridge:
    """Minimise mean ‖y − W z − b‖² + penalty ‖W‖², the coordinates of the codes scaled to a deviation of 1.

    The penalty is the one whose map of the first half of the data errs least on the second; the map that is given is
    fitted to both.

    Args:
        codes: (n, Z), n at least 4.
        targets: (n, D).
        penalties: To choose from.

    Returns:
        The map, for codes that are not scaled.

    Raises:
        DataError: If there are too few codes, or not a target for each, or one is not finite.
    """
    if codes.ndim != 2 or targets.ndim != 2 or len(codes) != len(targets) or len(codes) < 4:
        raise DataError(
            f"codes of shape {tuple(codes.shape)} and targets of {tuple(targets.shape)}; give (n, Z) and (n, D), n at "
            "least 4"
        )
    z, y = codes.detach().cpu().double(), targets.detach().cpu().double()
    if not (z.isfinite().all() and y.isfinite().all()):
        raise DataError("codes or targets hold NaN or infinity: the model has diverged")
    half = len(z) // 2
    trials = _path(z[:half], y[:half], penalties)
    errors = [(trial.predict(z[half:]) - y[half:]).square().mean().item() for trial in trials]
    best = penalties[min(range(len(penalties)), key=errors.__getitem__)]
    return _path(z, y, [best])[0]


def _path(z: Tensor, y: Tensor, penalties: Sequence[float]) -> list[Ridge]:
    """Fit the map of each penalty; all share one decomposition."""
    mean, offset, n = z.mean(0), y.mean(0), len(z)
    deviation = z.std(0, correction=0)
    scale = torch.where(deviation > 1e-7 * z.abs().amax(0), deviation, torch.inf)  # one that is constant says nothing
    left, s, right = torch.linalg.svd((z - mean) / scale, full_matrices=False)
    seen = left.T @ (y - offset)  # (k, D)
    fitted = []
    for penalty in penalties:
        weight = right.T @ ((s / (s.square() + n * penalty))[:, None] * seen)
        fitted.append(Ridge(mean, weight / scale[:, None], offset, penalty))
    return fitted
