"""A training that was stopped before its last epoch stays stopped when it is resumed.

Lightning forgets that it was, and trains another epoch. Whether it still is, is asked of the callbacks as they are
configured now:

- EarlyStopping had stopped it: it stays stopped if one would stop it by what was measured then, with the present
  patience and thresholds. With more patience, another threshold or no such callback it goes on.
- Something else had: it stays stopped while the training has the same callbacks.
- A Timer decides for itself, by the present limit.

That the last epoch is over (`max_epochs`) is no stop: with more epochs a training goes on.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

STOPPED_KEY = "pcgen_stopped"


def stop_of(trainer: Trainer) -> dict[str, Any]:
    """Say whether the training is being stopped, and by what, as plain values."""
    early = any(_stops(callback, trainer.callback_metrics) for callback in _early(trainer))
    return {"stopped": bool(trainer.should_stop), "early": early, "callbacks": _names(trainer)}


def stays_stopped(trainer: Trainer, saved: dict[str, Any] | None) -> bool:
    """Say whether a training is still stopped, by what `stop_of` said of it; None of an older checkpoint.

    Its callbacks have been loaded, and `trainer.callback_metrics`.
    """
    if saved is not None and not saved["stopped"]:
        return False
    if saved is None or saved["early"]:
        stopped = any(_stops(callback, trainer.callback_metrics) for callback in _early(trainer))
    else:
        timed = any(isinstance(callback, Timer) for callback in _callbacks(trainer))
        stopped = not timed and saved["callbacks"] == _names(trainer)
    if stopped:
        rank_zero_info("the training had been stopped early, and stays so: change what stopped it to go on")
    return stopped


def _stops(callback: EarlyStopping, metrics: Mapping[str, Tensor]) -> bool:
    """Say whether a callback would stop the training by the metrics that it judged last."""
    if callback.wait_count >= max(callback.patience, 1):
        return True
    value = metrics.get(callback.monitor)
    if value is None:
        return False
    if callback.check_finite and not bool(torch.isfinite(value).all()):
        return True
    goal, limit = callback.stopping_threshold, callback.divergence_threshold
    reached = goal is not None and bool(callback.monitor_op(value, goal))
    return reached or (limit is not None and bool(callback.monitor_op(-value, -limit)))


def _callbacks(trainer: Trainer) -> list[Any]:
    return trainer.callbacks  # type: ignore[attr-defined, no-any-return]  # a connector sets it


def _early(trainer: Trainer) -> list[EarlyStopping]:
    return [callback for callback in _callbacks(trainer) if isinstance(callback, EarlyStopping)]


def _names(trainer: Trainer) -> list[str]:
    return sorted(type(callback).__qualname__ for callback in _callbacks(trainer))
