"""Clouds for the tests of point-set operations."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor


def _surfaces(clouds: int, points: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Points on boxes and spheres of different sizes, in no order: (clouds, points, 3)."""
    rng = np.random.default_rng(seed)
    out = np.empty((clouds, points, 3))
    for cloud in out:
        box = rng.uniform(-1, 1, (points, 3))
        box[np.arange(points), rng.integers(0, 3, points)] = rng.choice([-1, 1], points)
        ball = rng.normal(size=(points, 3))
        ball /= np.linalg.norm(ball, axis=1, keepdims=True)
        cloud[:] = np.where(rng.random((points, 1)) < 0.6, box * rng.uniform(0.1, 0.9, 3), 0.5 * ball + 0.3)
    return torch.from_numpy(out).to(dtype)


@pytest.fixture(scope="session")
def surfaces() -> Callable[..., Tensor]:
    return _surfaces


@pytest.fixture(scope="session")
def chairs() -> Tensor:
    """Real test chairs (12, 2048, 3) in the unit ball."""
    h5py = pytest.importorskip("h5py")
    folder = Path(os.environ.get("PCGEN_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))
    if not (folder / "modelnet10.h5").exists():
        pytest.skip(f"no real data in {folder}")
    with h5py.File(folder / "modelnet10.h5") as f:
        rows = np.flatnonzero((f["labels"][:] == 2) & (f["split"][:] == 1) & (f["source"][:] == 0))[:12]
        points = f["points"][rows].astype(np.float64)
    points -= points.mean(1, keepdims=True)
    points /= np.linalg.norm(points, axis=2).max(1)[:, None, None]
    return torch.from_numpy(points.astype(np.float32))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set torch's number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def narrow_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the chunked path cut small inputs into many chunks."""
    from pcgen.ops import _chunked

    monkeypatch.setattr(_chunked, "ELEMENTS", 500)
