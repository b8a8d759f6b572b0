"""What loading costs: an epoch of 4899 clouds of 2048 points in batches of 32, ours beside the usual ways.

    python benchmarks/loading.py [--clouds 4899] [--points 2048] [--batch 32] [--epochs 5]

All in one run, taking turns; the fastest of the epochs counts (other processes on the machine only add to it), the
first is left out. "bare loop" is indexing one tensor by slices of a permutation. "per item" is a Dataset of single
clouds with torch's own sampler and collation.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pcgen.datamodules import Jitter, PointClouds, RotateUp


class Items(Dataset[tuple[Tensor, Tensor]]):
    """Clouds one by one."""

    def __init__(self, points: Tensor, label: Tensor) -> None:
        self.points, self.label = points, label

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.points[index], self.label[index]


def write(path: Path, clouds: int, points: int) -> None:
    """Write random clouds, a chunk each, all for training."""
    import h5py

    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("points", (clouds, points, 3), "f4", chunks=(1, points, 3))
        for i in range(clouds):
            data[i] = rng.standard_normal((points, 3), dtype=np.float32)
        file["label"] = np.arange(clouds) % 10


def bare(points: Tensor, label: Tensor, batch: int) -> Iterator[Tensor]:
    """Index by slices of a permutation."""
    for rows in torch.randperm(len(points)).split(batch):
        label[rows]
        yield points[rows]


def ours(path: Path, batch: int, **arguments: object) -> PointClouds:
    """Make the datamodule."""
    data = PointClouds(str(path), batch_size=batch, validation=0.0, test=0.0, scope="none", up_axis=2, **arguments)  # type: ignore[arg-type]  # keywords as they come
    data.setup()
    return data


def epoch(make: Callable[[], object]) -> float:
    """Time one epoch in seconds; every batch is touched."""
    began = time.perf_counter()
    for batch in make():  # type: ignore[attr-defined]  # a loader or a generator
        x = batch if isinstance(batch, Tensor) else batch[0]
        x[0, 0, 0].item()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("clouds", 4899), ("points", 2048), ("batch", 32), ("epochs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clouds.h5")
        write(path, options.clouds, options.points)
        B, N = options.batch, options.points
        memory, lazy = ours(path, B), ours(path, B, in_memory=False)
        half = ours(path, B, num_points=N // 2, resample=True)
        augmented = ours(path, B, augment=[RotateUp(), Jitter()])
        split = memory.split("train")
        points, label = split.points.gather(np.arange(len(split))), split.label
        assert label is not None
        items = Items(points, label)
        ways: dict[str, Callable[[], object]] = {
            "bare loop": lambda: bare(points, label, B),
            "pcgen, in memory": memory.train_dataloader,
            "pcgen, fresh half of the points": half.train_dataloader,
            "pcgen, rotation and jitter": augmented.train_dataloader,
            "pcgen, from HDF5": lazy.train_dataloader,
            "per item, 0 workers": lambda: DataLoader(items, B, shuffle=True),
            "per item, 2 workers": lambda: DataLoader(items, B, shuffle=True, num_workers=2),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(options.epochs + 1):
            for name, make in ways.items():
                seconds = epoch(make)
                if turn:
                    times[name].append(seconds)
    best = {name: min(t) for name, t in times.items()}
    print(f"{options.clouds} clouds of {N} points, batches of {B}, torch {torch.__version__}")
    print(f"{'':34}{'s an epoch':>12}{'ms a batch':>12}{'/ bare':>9}")
    for name, seconds in best.items():
        batches = -(-options.clouds // B)
        print(f"{name:34}{seconds:12.3f}{1e3 * seconds / batches:12.2f}{seconds / best['bare loop']:9.2f}")


if __name__ == "__main__":
    main()
