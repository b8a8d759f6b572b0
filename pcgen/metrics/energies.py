"""The energy as a score of anomaly: how the energies of several sets of data compare.

S. Zhai, Y. Cheng, W. Lu, Z. Zhang: Deep Structured Energy Based Models for Anomaly Detection, ICML 2016,
https://arxiv.org/abs/1605.07717.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcgen.errors import DataError

OWN_SETS = ("train", "samples", "noise")  # names of sets that are no classes
CAUGHT = 0.95  # share of a foreign set that must be found, for the false alarms
Floats = NDArray[np.float64]


class HasEnergy(Protocol):
    """Anything that gives energies (B,) of data (B, …), so many at once."""

    chunk_size: int

    def energy(self, x: Tensor) -> Tensor:
        """Give the energies."""
        ...


class EnergySummary(NamedTuple):
    """The energies of one set, and how well they tell it from the data.

    Attributes:
        n: How many.
        mean: Of the energies.
        standard_deviation: Of these n, not of what they were drawn from.
        lower_quartile: A quarter of the energies lies below.
        median: Half of them.
        upper_quartile: Three quarters of them.
        auroc: Area under the receiver operating characteristic: the chance that one of this set has a higher energy
            than one of the data, ties counted half. 1: all lie above all data; 0.5: no telling; None for the data.
        average_precision: Of taking the highest energies for this set's; a set of chance has n / (n + data's n).
        fpr_at_95_tpr: Share of the data above the threshold that catches 95 % of this set: the false alarms.
    """

    n: int
    mean: float
    standard_deviation: float
    lower_quartile: float
    median: float
    upper_quartile: float
    auroc: float | None = None
    average_precision: float | None = None
    fpr_at_95_tpr: float | None = None


def energies_of(
    model: HasEnergy, x: Tensor, *, progress: Callable[[float, float | None], None] | None = None
) -> Tensor:
    """Give the energies of any number of data, in chunks of the model's `chunk_size`.

    Args:
        model: Has `energy`.
        x: (n, …).
        progress: Called with the number of data done so far and n.

    Returns:
        (n,) float64 on the CPU.
    """
    parts, done = [torch.empty(0, dtype=torch.float64)], 0
    for part in x.split(model.chunk_size):
        parts.append(model.energy(part).detach().cpu().double())
        done += len(part)
        if progress is not None:
            progress(done, len(x))
    return torch.cat(parts)


def margin_of(model: Any) -> float | None:
    """Give the energy up to which a model pushes what is not data (its `margin`), or None if it has none yet."""
    margin = getattr(model, "margin", None)
    return None if margin is None or not np.isfinite(float(margin)) else float(margin)


def summarize_energies(sets: Mapping[str, ArrayLike]) -> dict[str, EnergySummary]:
    """Compare the energies of several sets with those of the data.

    Every other set is the positive class, and a high energy speaks for it, as in D. Hendrycks, M. Mazeika, T.
    Dietterich: Deep Anomaly Detection with Outlier Exposure, ICLR 2019, https://arxiv.org/abs/1812.04606, which reports
    the same three numbers. (S. Liang, Y. Li, R. Srikant, ICLR 2018, call a false positive what is foreign and taken for
    data; their "FPR at 95 % TPR" is another number.)

    Args:
        sets: Energies (n,) by name, n at least 1; the first are the data's.

    Returns:
        A summary for each set, in the same order.

    Raises:
        DataError: If there is no set, one is empty, or an energy is NaN or infinite.

    >>> found = summarize_energies({"data": [1.0, 2.0, 3.0, 4.0], "foreign": [3.5, 5.0]})
    >>> found["foreign"].auroc, found["foreign"].fpr_at_95_tpr
    (0.875, 0.25)
    """
    if not sets:
        raise DataError("there are no energies to compare; give at least those of the data")
    energies = {name: _checked(given, name) for name, given in sets.items()}
    (first, data), *others = energies.items()
    return {first: _summary(data)} | {name: _summary(found, *_telling(data, found)) for name, found in others}


def summary_rows(found: Mapping[str, EnergySummary]) -> tuple[list[str], list[list[Any]]]:
    """Give summaries as a table: its heads, and a row for each set; None where there is nothing to say."""
    return ["set", *EnergySummary._fields], [[name, *summary] for name, summary in found.items()]


def auroc_notes(found: Mapping[str, EnergySummary]) -> dict[str, str]:
    """Say in words how well each set is told from the data, for a picture."""
    return {name: f"AUROC {summary.auroc:.3f}" for name, summary in found.items() if summary.auroc is not None}


def _summary(energies: Floats, *told: float) -> EnergySummary:
    low, median, high = np.quantile(energies, (0.25, 0.5, 0.75)).tolist()
    return EnergySummary(len(energies), float(energies.mean()), float(energies.std()), low, median, high, *told)


def _telling(data: Floats, foreign: Floats) -> tuple[float, float, float]:
    # scikit-learn, not torchmetrics: that one squeezes scores through a sigmoid, where high energies become equal
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    score, is_foreign = np.concatenate([data, foreign]), np.repeat([0, 1], [len(data), len(foreign)])
    alarms, caught, _ = roc_curve(is_foreign, score, drop_intermediate=False)
    return (
        float(roc_auc_score(is_foreign, score)),
        float(average_precision_score(is_foreign, score)),
        float(alarms[np.argmax(caught >= CAUGHT)]),
    )


def _checked(given: ArrayLike, name: str) -> Floats:
    energies = np.asarray(given, dtype=np.float64)
    if energies.ndim != 1 or not len(energies):
        raise DataError(f"energies of {name} have shape {energies.shape}; give (n,) with at least one")
    bad = int((~np.isfinite(energies)).sum())
    if bad:
        raise DataError(f"{bad} of {len(energies)} energies of {name} are NaN or infinite: the model has diverged")
    return energies
