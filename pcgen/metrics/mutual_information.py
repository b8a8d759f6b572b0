"""Scores of a latent code by the mutual information of its dimensions with known factors.

The information of two variables is that of their joint histogram, in nats. Latents and continuous factors are cut
into bins of equal width over their range (20, as disentanglement_lib and most published numbers); a discrete factor
has a bin for each value. The histogram's estimate is too high by about (r − 1)(c − 1) / 2n for r × c bins, so give
many more data than bins².
"""

from typing import TYPE_CHECKING

from torch import Tensor

from pcgen.errors import ConfigurationError
from pcgen.metrics.factors import Discrete, Samples, mean_of, samples_of

if TYPE_CHECKING:
    import numpy as np

SHUFFLES = 20  # of a latent, which show what information chance gives it
STANDARD_DEVIATIONS = 5.0  # above chance, from which a latent is alive


def modularity(codes: Tensor, factors: Tensor, *, discrete: Discrete = False, bins: int = 20) -> Tensor:
    """Modularity: each latent encodes at most one factor. Higher is better.

    That of Ridgeway & Mozer ("Learning Deep Disentangled Embeddings with the F-Statistic Loss", 2018,
    https://arxiv.org/abs/1802.05312): the mean over latents j of 1 − Σ_{i ≠ best} I_ji² / (I_j,best² (k − 1)).
    (`disentanglement` of `dci` is the same idea from a regressor's importances.)

    The mean is over live latents: those that share more information with some factor than chance gives (by 5 standard
    deviations over 20 shuffles). A dead latent encodes no factor, and is no fault here. With no live latent the score
    is 0; a single factor scores 1. Constant factors are left out.

    Args:
        codes: (n, d).
        factors: (n, k).
        discrete: Whether the factors' values are classes; one for all, or one for each.
        bins: For each latent and continuous factor.

    Returns:
        Scalar float64 in [0, 1]; the order of the data does not show.

    Raises:
        DataError: If shapes do not fit, a value is not finite, there are fewer than two data, or every factor is
            constant.
        ConfigurationError: If bins is below 2 or `discrete` does not fit.

    >>> import torch
    >>> factors = torch.cartesian_prod(torch.arange(10.0), torch.arange(10.0))
    >>> modularity(factors.flip(1), factors, bins=10).item()
    1.0
    """
    import numpy as np

    information, alive, _ = _measured(samples_of(codes, factors, discrete), bins)
    information = information[alive]
    k = information.shape[1]
    if k <= 1 or not len(information):
        return mean_of(np.ones(len(information)))
    squares = (information / information.max(1, keepdims=True)) ** 2
    return mean_of(1 - (squares.sum(1) - 1) / (k - 1))


def mutual_information_gap(codes: Tensor, factors: Tensor, *, discrete: Discrete = False, bins: int = 20) -> Tensor:
    """MIG: how much more the best latent knows of a factor than the second best. Higher is better.

    Chen et al., "Isolating Sources of Disentanglement in VAEs", 2018, https://arxiv.org/abs/1802.04942: the mean over
    factors of (I_best − I_second) / H(factor). It asks for modular and compact at once. The second best of a single
    latent is 0. Constant factors are left out.

    Args:
        codes: (n, d).
        factors: (n, k).
        discrete: Whether the factors' values are classes; one for all, or one for each.
        bins: For each latent and continuous factor.

    Returns:
        Scalar float64 in [0, 1]; the order of the data does not show.

    Raises:
        DataError: If shapes do not fit, a value is not finite, there are fewer than two data, or every factor is
            constant.
        ConfigurationError: If bins is below 2 or `discrete` does not fit.

    >>> import torch
    >>> factors = torch.cartesian_prod(torch.arange(10.0), torch.arange(10.0))
    >>> round(mutual_information_gap(factors, factors, bins=10).item(), 6)
    1.0
    >>> mutual_information_gap(factors.repeat(1, 2), factors, bins=10).item()  # every factor twice
    0.0
    """
    import numpy as np

    information, _, entropies = _measured(samples_of(codes, factors, discrete), bins)
    ranked = np.sort(np.vstack([information, np.zeros_like(information[:1])]), axis=0)
    return mean_of((ranked[-1] - ranked[-2]) / entropies)


def _measured(samples: Samples, bins: int) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
    """Give the information (d, k), which latents are alive (d,), and the factors' entropies (k,)."""
    import numpy as np

    if bins < 2:
        raise ConfigurationError(f"bins is {bins}; information needs at least 2")
    latents = [_binned(x, bins) for x in samples.codes.T]
    factors = [_classes(x) if d else _binned(x, bins) for x, d in zip(samples.factors.T, samples.discrete, strict=True)]
    random = np.random.default_rng(0)
    information, alive = np.zeros((len(latents), len(factors))), np.zeros(len(latents), dtype=bool)
    for j, a in enumerate(latents):
        shuffled = [random.permutation(a) for _ in range(SHUFFLES)]
        for i, b in enumerate(factors):
            information[j, i] = _information(a, b)
            chance = np.array([_information(s, b) for s in shuffled])
            alive[j] |= information[j, i] > chance.mean() + STANDARD_DEVIATIONS * chance.std() + 1e-12
    return information, alive, np.array([_information(b, b) for b in factors])


def _information(a: "np.ndarray", b: "np.ndarray") -> float:
    """Mutual information of two lists of bins, in nats; of one with itself its entropy."""
    import numpy as np

    shape = (int(a.max()) + 1, int(b.max()) + 1)
    joint = np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape) / len(a)
    chance = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    return max(0.0, float((joint[seen] * np.log(joint[seen] / chance[seen])).sum()))


def _binned(x: "np.ndarray", bins: int) -> "np.ndarray":
    low, high = x.min(), x.max()
    if not high > low:
        return _classes(x)
    cut: np.ndarray = ((x / 2 - low / 2) / (high / 2 - low / 2) * bins).astype(int)  # halves cannot overflow
    return cut.clip(max=bins - 1)


def _classes(x: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.unique(x, return_inverse=True)[1].reshape(-1)
