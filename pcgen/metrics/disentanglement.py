"""Scores of a latent code by how well known factors are predicted from it: DCI, SAP and linear informativeness.

DCI: Eastwood & Williams, "A Framework for the Quantitative Evaluation of Disentangled Representations", 2018,
https://openreview.net/forum?id=By-7dz-AZ. A regressor predicts each factor from the whole code; how much it leans on
each latent is an importance matrix R (d, k), each column of which is scaled to sum 1.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics.factors import Discrete, Samples, mean_of, samples_of
from pcgen.ops._parallel import run_all

if TYPE_CHECKING:
    import numpy as np

Estimator = Literal["boosting", "lasso"]
FEWEST = 20  # data, a quarter of which are held out


class DCI(NamedTuple):
    """The three scores of Eastwood & Williams, scalars float64 in [0, 1], and what they are made of.

    Attributes:
        disentanglement: Each latent matters for one factor: 1 − H_k of each row of R, weighted by the row's sum.
        completeness: Each factor hangs on one latent: mean of 1 − H_d of each column of R.
        informativeness: Mean of `scores`.
        importance: R (d, k') over the k' factors that vary.
        scores: (k',) on held-out data: R² (not below 0) for a continuous factor, accuracy for a discrete one.
    """

    disentanglement: Tensor
    completeness: Tensor
    informativeness: Tensor
    importance: Tensor
    scores: Tensor


def dci(
    codes: Tensor,
    factors: Tensor,
    *,
    discrete: Discrete = False,
    estimator: Estimator = "boosting",
    seed: int = 0,
) -> DCI:
    """Disentanglement, completeness and informativeness of a code.

    A quarter of the data, drawn by the seed, is held out; the factors are learned side by side, in as many threads as
    torch has. Factors that are constant are left out; a factor of which
    the regressor uses nothing has completeness 0; dead latents have no weight. With a single latent (factor)
    completeness (disentanglement) is 1 where anything is used at all, and with nothing used the score is 0.

    Args:
        codes: (n, d), n ≥ 20.
        factors: (n, k).
        discrete: Whether the factors' values are classes; one for all, or one for each.
        estimator: "boosting": scikit-learn's gradient boosting, its impurity importances (any relation). "lasso":
            the absolute weights of a cross-validated lasso, or of an L1 support vector classifier with C 0.1 for a
            discrete factor, on standardised latents (linear relations; fast).
        seed: Of the held-out data and of the estimator.

    Returns:
        Scores and importances; the order of the data does not show.

    Raises:
        DataError: If shapes do not fit, a value is not finite, there are fewer than 20 data, or every factor is
            constant.
        ConfigurationError: If the estimator is none of the above or `discrete` does not fit.

    >>> factors = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    >>> found = dci(factors, factors, estimator="lasso")
    >>> [round(score.item(), 2) for score in found[:3]]
    [1.0, 1.0, 1.0]
    """
    if estimator not in ("boosting", "lasso"):
        raise ConfigurationError(f'estimator is {estimator!r}; choose "boosting" or "lasso"')
    return _dci(samples_of(codes, factors, discrete, at_least=FEWEST), estimator, seed)


def compactness(
    codes: Tensor, factors: Tensor, *, discrete: Discrete = False, estimator: Estimator = "boosting", seed: int = 0
) -> Tensor:
    """Compactness: each factor is encoded by one latent. Higher is better.

    The literature's *completeness* of DCI; see `dci` for arguments, cases and errors.

    Returns:
        Scalar float64 in [0, 1].

    >>> factors = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    >>> turned = factors @ torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    >>> [round(compactness(c, factors, estimator="lasso").item(), 1) for c in (factors, turned)]
    [1.0, 0.0]
    """
    return dci(codes, factors, discrete=discrete, estimator=estimator, seed=seed).completeness


def informativeness(
    codes: Tensor, factors: Tensor, *, discrete: Discrete = False, estimator: Estimator = "boosting", seed: int = 0
) -> Tensor:
    """Informativeness: the factors are decodable from the code. Higher is better.

    DCI's, as the held-out score of its regressor: R² for continuous factors, accuracy for discrete ones, averaged;
    see `dci` for arguments, cases and errors.

    Returns:
        Scalar float64 in [0, 1].

    >>> factors = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    >>> informativeness(torch.zeros(200, 3), factors, estimator="lasso").item()  # dead latents say nothing
    0.0
    """
    return dci(codes, factors, discrete=discrete, estimator=estimator, seed=seed).informativeness


def linear_informativeness(codes: Tensor, factors: Tensor) -> Tensor:
    """Linear informativeness: R² of the least-squares fit z_true = A z + b, averaged over the factors.

    On all the data, without holding any out; latents may repeat or be constant. Constant factors are left out.

    Args:
        codes: (n, d), n > d + 1: fewer data are fitted by any code.
        factors: (n, k), taken as numbers.

    Returns:
        Scalar float64 in [0, 1]; 1 for every invertible linear code.

    Raises:
        DataError: If shapes do not fit, a value is not finite, there are too few data, or every factor is constant.

    >>> factors = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    >>> round(linear_informativeness(factors @ torch.tensor([[1.0, 2.0], [3.0, 4.0]]), factors).item(), 6)
    1.0
    """
    import numpy as np

    if codes.ndim == 2 and len(codes) <= codes.shape[1] + 1:
        raise DataError(
            f"{len(codes)} data are fitted exactly by any code of {codes.shape[1]} latents; give more than "
            f"{codes.shape[1] + 1}"
        )
    samples = samples_of(codes, factors, discrete=False)
    z, y = _standardized(samples.codes, samples.codes), _standardized(samples.factors, samples.factors)
    rest = y - z @ np.linalg.lstsq(z, y, rcond=None)[0]
    return mean_of(1 - (rest**2).mean(0))


def separated_attribute_predictability(
    codes: Tensor, factors: Tensor, *, discrete: Discrete = False, seed: int = 0
) -> Tensor:
    """SAP: how much better the best single latent predicts a factor than the second best. Higher is better.

    Kumar et al., "Variational Inference of Disentangled Latent Concepts from Unlabeled Observations", 2018,
    https://arxiv.org/abs/1711.00848: a continuous factor's score under a latent is their squared correlation, a
    discrete one's the held-out accuracy of a linear support vector classifier on that latent alone. A dead latent
    predicts the commonest class. The second best of a single latent is 0. Constant factors are left out.

    Args:
        codes: (n, d), n ≥ 20.
        factors: (n, k).
        discrete: Whether the factors' values are classes; one for all, or one for each.
        seed: Of the held-out quarter.

    Returns:
        Scalar float64 in [0, 1].

    Raises:
        DataError: If shapes do not fit, a value is not finite, there are fewer than 20 data, or every factor is
            constant.
        ConfigurationError: If `discrete` does not fit.

    >>> factors = torch.cartesian_prod(torch.arange(10.0), torch.arange(10.0))
    >>> round(separated_attribute_predictability(factors, factors).item(), 6)
    1.0
    """
    return _sap(samples_of(codes, factors, discrete, at_least=FEWEST), seed)


def _dci(samples: Samples, estimator: Estimator, seed: int) -> DCI:
    import numpy as np

    d, k = samples.codes.shape[1], samples.factors.shape[1]
    importance, scores = np.zeros((d, k)), np.zeros(k)
    fit, held = _split(len(samples.codes), seed)
    z = _standardized(samples.codes, samples.codes[fit])

    def learn(i: int) -> None:
        classes = samples.discrete[i]
        model = _estimator(estimator, classes, seed)
        importance[:, i], scores[i] = _predicted(z, samples.factors[:, i], fit, held, model, classes=classes)

    run_all((1, partial(learn, i)) for i in range(k))
    used = importance.sum(0)
    return DCI(
        disentanglement=mean_of(_certainty(importance), importance.sum(1)),
        completeness=mean_of(_certainty(importance.T) * (used > 0)),
        informativeness=mean_of(scores),
        importance=torch.from_numpy(importance),
        scores=torch.from_numpy(scores),
    )


def _certainty(rows: "np.ndarray") -> "np.ndarray":
    """Give 1 − the entropy of each row, taken as a distribution, with logarithms to the base of its length."""
    import numpy as np

    total = rows.sum(1, keepdims=True)
    p = np.divide(rows, total, out=np.zeros_like(rows), where=total > 0)
    entropy = -(p * np.log(p, out=np.zeros_like(p), where=p > 0)).sum(1)
    return np.asarray(1 - entropy / np.log(max(rows.shape[1], 2)))  # of a single entry the entropy is 0


def _predicted(
    z: "np.ndarray", y: "np.ndarray", fit: "np.ndarray", held: "np.ndarray", model: Any, *, classes: bool
) -> "tuple[np.ndarray, float]":
    """Fit a model and give its importances (d,), of sum 1 or 0, and its score on the held-out data."""
    import numpy as np

    if y[fit].min() == y[fit].max():  # nothing to learn: it can only say this value
        return np.zeros(z.shape[1]), float((y[held] == y[fit][0]).mean()) if classes else 0.0
    target = y if classes else _standardized(y[:, None], y[fit][:, None])[:, 0]
    model.fit(z[fit], target[fit])
    weights = model.feature_importances_ if hasattr(model, "feature_importances_") else np.abs(model.coef_)
    weights = weights.reshape(-1, z.shape[1]).sum(0)
    said = model.predict(z[held])
    if classes:
        return _scaled(weights), float((said == target[held]).mean())
    spread = ((target[held] - target[held].mean()) ** 2).sum()
    return _scaled(weights), max(0.0, 1 - ((said - target[held]) ** 2).sum() / spread) if spread > 0 else 0.0


def _scaled(weights: "np.ndarray") -> "np.ndarray":
    total = weights.sum()
    return weights / total if total > 0 else weights


def _estimator(kind: Estimator, classes: bool, seed: int) -> Any:
    if kind == "boosting":
        from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

        return (GradientBoostingClassifier if classes else GradientBoostingRegressor)(random_state=seed)
    if classes:
        from sklearn.svm import LinearSVC

        return LinearSVC(penalty="l1", dual=False, C=0.1, random_state=seed)
    from sklearn.linear_model import LassoCV

    return LassoCV(cv=3, max_iter=10_000, random_state=seed)


def _sap(samples: Samples, seed: int) -> Tensor:
    import numpy as np
    from sklearn.svm import LinearSVC

    fit, held = _split(len(samples.codes), seed)
    z = _standardized(samples.codes, samples.codes)
    score = np.zeros((z.shape[1] + 1, samples.factors.shape[1]))  # the last row is the second best of a single latent
    for i, (y, classes) in enumerate(zip(samples.factors.T, samples.discrete, strict=True)):
        if not classes:
            score[:-1, i] = (z * _standardized(y[:, None], y[:, None])).mean(0) ** 2
            continue
        for j in range(z.shape[1]):
            model = LinearSVC(dual=False, random_state=seed)
            score[j, i] = _predicted(z[:, [j]], y, fit, held, model, classes=True)[1]
    ranked = np.sort(score, axis=0)
    return mean_of(ranked[-1] - ranked[-2])


def _split(n: int, seed: int) -> "tuple[np.ndarray, np.ndarray]":
    """Draw a quarter to hold out."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
    return order[n // 4 :], order[: n // 4]


def _standardized(x: "np.ndarray", by: "np.ndarray") -> "np.ndarray":
    """Scale columns to mean 0 and variance 1 over some rows; a column that is constant there becomes 0."""
    import numpy as np

    spread = by.std(0)
    dead = (by.min(0) == by.max(0)) | ~(spread > 0)
    return np.where(dead, 0.0, (x - by.mean(0)) / np.where(dead, 1.0, spread))
