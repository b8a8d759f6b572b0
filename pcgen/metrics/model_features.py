"""What any model recognises data by, as rows of numbers."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcgen.base import GenerativeModel


def feature_verb(model: GenerativeModel) -> Literal["features", "encode"]:
    """Say what gives a model's features: `features` where it has them, else `encode`.

    Raises:
        UnsupportedOperationError: If it has neither, naming the models that have features.
    """
    for verb in ("features", "encode"):
        if model.can(verb):
            return verb
    raise model.unsupported("features")


def features_of(
    model: GenerativeModel, x: Tensor, *, progress: Callable[[float, float | None], None] | None = None
) -> NDArray[np.float32]:
    """Give the features (n, F) of data (n, …), in chunks of the model's `chunk_size`.

    Args:
        model: Has `features` or `encode`.
        x: Clouds (n, N, 3) or images (n, C, H, W), n at least 1.
        progress: Called with the number of data done so far and n.

    Raises:
        UnsupportedOperationError: As `feature_verb`.
    """
    return _in_chunks(getattr(model, feature_verb(model)), model, x, progress)


def classes_of(
    model: GenerativeModel, x: Tensor, *, progress: Callable[[float, float | None], None] | None = None
) -> NDArray[np.int64]:
    """Give the classes (n,) that a classifier takes data (n, …) for, by its own numbers."""
    classes: NDArray[np.int64] = _in_chunks(model.classify, model, x, progress).argmax(axis=1)
    return classes


def takes_any_number(model: GenerativeModel, x: Tensor) -> bool:
    """Say whether a model takes clouds of other numbers of points than those it was trained on, by trying.

    Args:
        model: Has `features` or `encode`.
        x: Clouds (n, N, 3) of the number of its training, n at least 1, N at least 2.
    """
    few, many = x[:1, : max(1, x.shape[1] // 2)], torch.cat([x[:1], x[:1, :1]], dim=1)
    try:
        for part in (few, many):
            features_of(model, part)
    except Exception:  # noqa: BLE001 -- each network has its own words for a wrong shape
        return False
    return True


def _in_chunks(verb: Any, model: GenerativeModel, x: Tensor, progress: Any) -> NDArray[np.float32]:
    parts, done = [], 0
    for part in x.split(model.chunk_size):
        parts.append(verb(part).detach().float().cpu().flatten(1).numpy())
        done += len(part)
        if progress is not None:
            progress(done, len(x))
    rows: NDArray[np.float32] = np.concatenate(parts)
    return rows
