"""What loading costs: an epoch of 4899 clouds of 2048 points in batches of 32, ours beside the usual ways.

    python benchmarks/loading.py [--clouds 4899] [--points 2048] [--batch 32] [--epochs 5]

"bare loop" is indexing one tensor by slices of a permutation. "per item" is a Dataset of single clouds with torch's own
sampler and collation.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from _epochs import print_epochs, usual_ways

from pcgen.datamodules import Jitter, PointClouds, RotateUp


def write(path: Path, clouds: int, points: int) -> None:
    """Write random clouds, a chunk each, all for training."""
    import h5py

    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("points", (clouds, points, 3), "f4", chunks=(1, points, 3))
        for i in range(clouds):
            data[i] = rng.standard_normal((points, 3), dtype=np.float32)
        file["label"] = np.arange(clouds) % 10


def ours(path: Path, batch: int, **arguments: object) -> PointClouds:
    """Make the datamodule."""
    data = PointClouds(str(path), batch_size=batch, validation=0.0, test=0.0, scope="none", up_axis=2, **arguments)  # type: ignore[arg-type]  # keywords as they come
    data.setup()
    return data


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
        ways = {
            "pcgen, in memory": memory.train_dataloader,
            "pcgen, fresh half of the points": half.train_dataloader,
            "pcgen, rotation and jitter": augmented.train_dataloader,
            "pcgen, from HDF5": lazy.train_dataloader,
        } | usual_ways(points, label, B)
        print(f"{options.clouds} clouds of {N} points, batches of {B}, torch {torch.__version__}")
        print_epochs(ways, epochs=options.epochs, batches=-(-options.clouds // B))


if __name__ == "__main__":
    main()
