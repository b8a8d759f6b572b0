"""Epochs of loading, ours beside the usual ways: what the benchmarks of clouds and of images share."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Way = Callable[[], Any]


class Items(Dataset[tuple[Tensor, Tensor]]):
    """Data one by one."""

    def __init__(self, x: Tensor, label: Tensor) -> None:
        self.x, self.label = x, label

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.label[index]


def bare(x: Tensor, label: Tensor, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Index by slices of a permutation."""
    for rows in torch.randperm(len(x)).split(batch):
        yield x[rows], label[rows]


def usual_ways(x: Tensor, label: Tensor, batch: int) -> dict[str, Way]:
    """Give the bare loop and a Dataset of single data with torch's own sampler and collation."""
    items = Items(x, label)
    return {
        "bare loop": lambda: bare(x, label, batch),
        "per item, 0 workers": lambda: DataLoader(items, batch, shuffle=True),
        "per item, 2 workers": lambda: DataLoader(items, batch, shuffle=True, num_workers=2),
    }


def epoch(make: Way) -> float:
    """Time one epoch in seconds; every batch is touched."""
    began = time.perf_counter()
    for x, *_ in make():
        x.view(-1)[0].item()
    return time.perf_counter() - began


def print_epochs(ways: Mapping[str, Way], *, epochs: int, batches: int) -> None:
    """Measure and print a table, one way of which is the "bare loop".

    All take turns; the fastest of the epochs counts (other processes on the machine only add to it), the first is left
    out.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(epochs + 1):
        for name, make in ways.items():
            seconds = epoch(make)
            if turn:
                times[name].append(seconds)
    best = {name: min(t) for name, t in times.items()}
    print(f"{'':34}{'s an epoch':>12}{'ms a batch':>12}{'/ bare':>9}")
    for name, seconds in best.items():
        print(f"{name:34}{seconds:12.3f}{1e3 * seconds / batches:12.3f}{seconds / best['bare loop']:9.2f}")
