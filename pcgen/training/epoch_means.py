"""The means of an epoch's training metrics over its batches, which Lightning forgets with the process.

What `self.log(…, on_epoch=True)` has summed so far goes into the checkpoint, and is added to what the rest of the epoch
logs. So a schedule or callback that monitors a training metric decides as it would have.
"""
# ruff: noqa: SLF001 -- Lightning's sums have no public name

from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.trainer.connectors.logger_connector.result import _Metadata, _ResultMetric, _Sync

_PLAIN = ("fx", "name", "prog_bar", "logger", "on_step", "add_dataloader_idx")


class EpochMeans:
    """Sums that a resumed epoch still has to be given."""

    def __init__(self) -> None:
        self.waiting: dict[str, dict[str, Any]] = {}
        self._made: list[str] = []

    @staticmethod
    def state_dict(trainer: Trainer) -> dict[str, dict[str, Any]]:
        """Give the sums of this process, by Lightning's keys."""
        return {
            key: _described(metric)
            for key, metric in trainer.fit_loop.epoch_loop._results.items()
            if metric.is_tensor and metric.meta.on_epoch and not metric.has_reset
        }

    def add(self, trainer: Trainer) -> None:
        """Add them to the metrics that were logged since."""
        results = trainer.fit_loop.epoch_loop._results
        for key in self.waiting.keys() & results.keys():
            metric, state = results[key], self.waiting.pop(key)
            value = state["value"].to(metric.value.device)
            if metric.meta.is_max_reduction or metric.meta.is_min_reduction:
                metric.value = metric.meta.reduce_fx(metric.value, value)
            else:
                metric.value = value + metric.value
            if metric.meta.is_mean_reduction:
                metric.cumulated_batch_size = metric.cumulated_batch_size + state["weight"].to(value.device)
            metric._computed = None

    def finish(self, trainer: Trainer) -> None:
        """Stand in for the metrics that no batch was left to log."""
        self.add(trainer)
        for key, state in self.waiting.items():
            metric = _ResultMetric(_meta(trainer, state), is_tensor=True).to(trainer.strategy.root_device)
            metric.value = state["value"].to(trainer.strategy.root_device)
            if metric.meta.is_mean_reduction:
                metric.cumulated_batch_size = state["weight"].to(trainer.strategy.root_device)
            metric._update_count = 1
            trainer.fit_loop.epoch_loop._results[key] = metric
            self._made.append(key)
        self.waiting = {}

    def begin(self, trainer: Trainer) -> None:
        """Leave the next epoch to what it logs itself."""
        for key in self._made:
            trainer.fit_loop.epoch_loop._results.pop(key, None)
        self._made = []


def _described(metric: Any) -> dict[str, Any]:
    meta = metric.meta
    return {name: getattr(meta, name) for name in _PLAIN} | {
        "reduce": meta.reduce_fx.__name__,
        "sync": [meta.sync._should, meta.sync.rank_zero_only],
        "value": metric.value,
        "weight": metric.cumulated_batch_size if meta.is_mean_reduction else None,
    }


def _meta(trainer: Trainer, state: dict[str, Any]) -> Any:
    plain = {name: state[name] for name in _PLAIN}
    meta = _Metadata(**plain, on_epoch=True, reduce_fx=getattr(torch, state["reduce"]))
    should, rank_zero_only = state["sync"]
    meta.sync = _Sync(_should=should, fn=trainer.strategy.reduce, rank_zero_only=rank_zero_only)
    return meta
