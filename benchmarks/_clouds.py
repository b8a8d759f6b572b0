"""Clouds for the benchmarks: real chairs where the data are there, surfaces made here where not."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def load_clouds(path: Path, count: int, points: int) -> tuple[Tensor, str]:
    """Give clouds (count, points, 3) in the unit ball and what they are.

    Args:
        path: modelnet10.h5, which may be absent.
        count: Number of clouds.
        points: Points of each. Where the file has fewer, they are drawn again and moved by a hundredth.
    """
    rng = np.random.default_rng(0)
    if path.exists():
        x, what = _chairs(path, count), "real chairs"
    else:
        x, what = _boxes_and_balls(rng, count, points), "boxes and balls"
    if x.shape[1] < points:
        x = np.concatenate([x, x[:, rng.integers(0, x.shape[1], points - x.shape[1])]], 1)
        x[:, 2048:] += 0.01 * rng.normal(size=x[:, 2048:].shape)
    x = x - x.mean(1, keepdims=True)
    x /= np.linalg.norm(x, axis=2).max(1)[:, None, None]
    return torch.from_numpy(x.astype(np.float32)), what


def _chairs(path: Path, count: int) -> np.ndarray:
    import h5py

    with h5py.File(path) as f:
        rows = np.flatnonzero((f["labels"][:] == 2) & (f["source"][:] == 0))[-count:]
        return np.asarray(f["points"][rows], dtype=np.float64)


def _boxes_and_balls(rng: np.random.Generator, count: int, points: int) -> np.ndarray:
    box = rng.uniform(-1, 1, (count, points, 3))
    side = rng.integers(0, 3, (count, points, 1))
    np.put_along_axis(box, side, rng.choice([-1.0, 1.0], (count, points, 1)), 2)
    ball = rng.normal(size=(count, points, 3))
    ball /= np.linalg.norm(ball, axis=2, keepdims=True)
    return np.where(rng.random((count, points, 1)) < 0.6, box * rng.uniform(0.1, 0.9, (count, 1, 3)), 0.5 * ball + 0.3)
