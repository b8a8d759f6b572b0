"""Linear support vector machines of several classes, each against the rest, for a whole path of costs.

For class k, with labels y = ±1 and each row x followed by a 1 for the intercept, the weights minimise

    ½ ‖w‖² + C Σ_i max(0, 1 − y_i w·x_i)²

which is what liblinear solves as "L2-regularised L2-loss support vector classification" and scikit-learn as its default
`LinearSVC`: R.-E. Fan, K.-W. Chang, C.-J. Hsieh, X.-R. Wang, C.-J. Lin: LIBLINEAR, JMLR 9, 2008,
https://www.jmlr.org/papers/v9/fan08a.html. The minimum is unique, so how it is found does not show. Liblinear takes one
class at a time over sparse rows; features of networks are dense and strongly correlated, and there it needs hundreds
of passes. Here the features are first turned into their principal axes, which changes no ‖w‖, then scaled by the
curvature along each, and all classes descend together by L-BFGS, from the weights of the cost before.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RANK = 1e-14  # of the largest eigenvalue: an axis with less holds nothing but rounding
GRADIENT = 1e-5  # largest scaled gradient at the end, as a share of that at w = 0
MOST_STEPS = 1000
MEMORY = 30  # pairs that L-BFGS keeps: more than usual, since a pass over the rows costs more than they do


class LinearSVM(NamedTuple):
    """Weights of K classes at one cost.

    Attributes:
        cost: C.
        weight: (F, K).
        intercept: (K,).
        converged: Whether the minimum was reached.
    """

    cost: float
    weight: Floats
    intercept: Floats
    converged: bool


def fit_path(x: Floats, labels: NDArray[np.int64], num_classes: int, costs: Sequence[float]) -> Iterator[LinearSVM]:
    """Fit the machines of each cost, one after the other.

    Args:
        x: Features (n, F), of like scales.
        labels: (n,) from 0 to K − 1.
        num_classes: K.
        costs: C in ascending order, so that each start is near its end.

    Yields:
        The machine of each cost.
    """
    rows = np.column_stack([x, np.ones(len(x))])  # (n, F + 1)
    axes = _principal_axes(rows)
    turned = rows @ axes  # (n, R)
    y = np.where(labels[:, None] == np.arange(num_classes), 1.0, -1.0)  # (n, K)
    w = np.zeros((axes.shape[1], num_classes))
    for cost in costs:
        w, converged = _minimize(turned, y, cost, w)
        weights = axes @ w
        yield LinearSVM(cost, weights[:-1], weights[-1], converged)


def _principal_axes(rows: Floats) -> Floats:
    """Give orthonormal axes (F, R) that the rows (n, F) lie in."""
    from scipy.linalg import eigh

    n, F = rows.shape
    if n >= F:
        size, axes = eigh(rows.T @ rows)
    else:  # of more features than rows the rows' own products say the same
        size, shares = eigh(rows @ rows.T)
        kept = size > RANK * size[-1]
        size, axes = size[kept], np.linalg.qr(rows.T @ shares[:, kept])[0]
    principal: Floats = axes[:, size > RANK * size[-1]]
    return principal


def _minimize(x: Floats, y: Floats, cost: float, start: Floats) -> tuple[Floats, bool]:
    """Give the weights (R, K) of least objective, and whether it was reached."""
    from scipy.optimize import minimize

    shape = start.shape
    # Along each axis the curvature is 1 + 2 C Σ x², the sum over the rows within the margin, here that of the start.
    within = (y * (x @ start) < 1).astype(np.float64)  # (n, K)
    scale = 1 / np.sqrt(1 + 2 * cost * (np.square(x).T @ within))  # (R, K)

    def objective(flat: Floats) -> tuple[float, Floats]:
        w = scale * flat.reshape(shape)
        slack = np.maximum(1 - y * (x @ w), 0)  # (n, K)
        gradient = w - 2 * cost * (x.T @ (y * slack))
        return 0.5 * float((w * w).sum()) + cost * float((slack * slack).sum()), (scale * gradient).ravel()

    least = GRADIENT * float(np.abs(objective(np.zeros(start.size))[1]).max())
    options = {"maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS, "maxcor": MEMORY, "gtol": least, "ftol": 0.0}
    found = minimize(objective, (start / scale).ravel(), jac=True, method="L-BFGS-B", options=options)
    stalled = float(np.abs(found.jac).max()) > 100 * least  # rounding may end it just before the goal
    return scale * found.x.reshape(shape), not stalled
