import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def chairs():
    """Train (889, 512, 3) and test (100, 512, 3) chairs of ModelNet10, each in the unit ball."""
    default = Path(__file__).parents[2] / ".." / "shared" / "data"
    path = Path(os.environ.get("PCGEN_TEST_DATA", default)) / "modelnet10.h5"
    if not path.exists():
        pytest.skip("real data are not here")
    with h5py.File(path) as file:
        rows = np.flatnonzero(file["labels"][:] == 2)
        points, split = file["points"][rows[0] : rows[-1] + 1], file["split"][:]
        test = file["points"][np.flatnonzero((file["labels"][:] == 2) & (split == 1))]
    train = points[: int((split[rows] == 0).sum())]
    return _unit_ball(train), _unit_ball(test)


def _unit_ball(points):
    x = torch.from_numpy(points).double()[:, torch.randperm(2048, generator=torch.Generator().manual_seed(0))[:512]]
    x = x - x.mean(1, keepdim=True)
    return (x / x.norm(dim=-1).amax(1)[:, None, None]).float()
