"""Small data that the tests make, and the real data where they are."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data; the test is skipped on a machine without it."""
    path = Path(os.environ.get("PCGEN_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))
    if not path.is_dir():
        pytest.skip("no real data on this machine")
    return path


@pytest.fixture
def cloud_file(tmp_path):
    """An HDF5 file of 60 clouds of 50 points in three classes, 48 for training and 12 for testing."""
    rng = np.random.default_rng(0)
    path = tmp_path / "clouds.h5"
    points = rng.normal(size=(60, 50, 3)) * rng.uniform(0.1, 10, (60, 1, 1)) + rng.uniform(-5, 5, (60, 1, 3))
    label = np.arange(60) % 3
    with h5py.File(path, "w") as file:
        file["points"] = points.astype(np.float32)
        file["label"] = label
        file["split"] = np.where(np.arange(60) < 48, 0, 1)
        file["class_names"] = ["cup", "vase", "bowl"]
        file["name"] = [f"{['cup', 'vase', 'bowl'][k]}_{i}" for i, k in enumerate(label)]
    return path
