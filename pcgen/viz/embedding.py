"""Codes in the plane: principal components and t-SNE."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcgen.errors import DataError

LEAST_FOR_TSNE = 5  # fewer points have no neighbourhoods worth the name


def principal_components(codes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project codes on the two directions along which they vary most.

    Args:
        codes: (K, Z), finite.

    Returns:
        Coordinates (K, 2), zero where there are fewer than two directions, each with the sign that makes its largest
        coordinate positive; and the share of the variance along each (2,).

    Raises:
        DataError: If there is no code or one is NaN or infinite.
    """
    z = _checked(codes)
    u, s, _ = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    scores = np.zeros((len(z), 2))
    variance = np.zeros(2)
    count = min(2, len(s))
    scores[:, :count] = u[:, :count] * s[:count]
    variance[:count] = s[:count] ** 2 / max((s**2).sum(), 1e-300)
    largest = scores[np.abs(scores).argmax(axis=0), [0, 1]]
    return scores * np.where(largest < 0, -1.0, 1.0), variance


def tsne(codes: ArrayLike, *, perplexity: float = 30.0, seed: int = 0) -> NDArray[np.float64]:
    """Lay codes out in the plane so that neighbours stay neighbours (van der Maaten and Hinton 2008).

    Args:
        codes: (K, Z), finite.
        perplexity: About how many neighbours count; at most a third of the points, and reduced to that.
        seed: Makes the layout repeatable.

    Returns:
        Coordinates (K, 2).

    Raises:
        DataError: If there are fewer than five codes or one is NaN or infinite.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    z = _checked(codes)
    if len(z) < LEAST_FOR_TSNE:
        raise DataError(f"t-SNE of {len(z)} codes; give at least {LEAST_FOR_TSNE}")
    start = principal_components(z)[0]
    start = start * (1e-4 / max(start[:, 0].std(), 1e-300))  # as scikit-learn scales them
    layout: Any = TSNE(perplexity=min(perplexity, (len(z) - 1) / 3), init=start, random_state=seed)
    # Its threads meet thousands of times and wait by spinning: with other work on the cores, a data loader's say, two
    # threads were measured 15 times slower than one (500 points: 30 s against 2 s).
    with threadpool_limits(1):
        return np.asarray(layout.fit_transform(z), dtype=np.float64)


def _checked(codes: ArrayLike) -> NDArray[np.float64]:
    z = np.asarray(codes, dtype=np.float64)
    if z.ndim != 2 or 0 in z.shape:
        raise DataError(f"codes have shape {z.shape}; give (K, Z) with at least one code")
    if not np.isfinite(z).all():
        bad = int((~np.isfinite(z)).any(axis=1).sum())
        raise DataError(f"{bad} of {len(z)} codes hold NaN or infinity; the encoder has diverged, or the data have")
    return z
