"""Sets that stay in shards: the same numbers as in memory, each cloud once, in memory that is bounded."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from pcgen.base import Batch
from pcgen.datamodules import Jitter, PointClouds
from pcgen.datamodules._loading import Loader, TrainSampler
from pcgen.io import prepare

OPTIONS = {"batch_size": 5, "num_points": 24, "up_axis": 2}


@pytest.fixture
def shards(cloud_file, tmp_path):
    """The clouds of `cloud_file` in nine shards."""
    prepare(cloud_file, tmp_path / "set", num_points=50, shard_size=7, progress=False, jobs=1)
    return tmp_path / "set"


def equal(a: Batch, b: Batch) -> bool:
    return all(x is y is None or torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("scope", ["shape", "set"])
@pytest.mark.parametrize("more", [{}, {"resample": True, "augment": [Jitter()]}, {"classes": ["bowl", "cup"]}])
def test_shards_one_file_and_memory_give_the_same(cloud_file, shards, scope, more):
    ways = [(cloud_file, True), (cloud_file, False), (shards, True), (shards, False)]
    made = [PointClouds(str(p), in_memory=m, scope=scope, **OPTIONS, **more) for p, m in ways]
    first = made[0]
    for other in made[1:]:
        for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
            pairs = list(zip(getattr(first, loader)(), getattr(other, loader)(), strict=True))
            assert pairs
            assert all(equal(a, b) for a, b in pairs)
        assert equal(first.take("train", 7), other.take("train", 7))
        assert first.normalization == other.normalization
        assert tuple(first.split("test").name) == tuple(other.split("test").name)


def test_workers_of_all_ranks_see_each_cloud_once_an_epoch(shards):
    data = PointClouds(str(shards), in_memory=False, scope="none", validation=0.0, num_workers=2, batch_size=5)
    every = data.take("train").x[:, 0]  # a point tells the cloud
    epochs = []
    for epoch in (0, 1):
        seen = []
        for rank in (0, 1):
            sampler = TrainSampler(len(every), 5, num_replicas=2, rank=rank, seed=data.seed)
            sampler.set_epoch(epoch)
            loader = data._loader("train", sampler)
            assert isinstance(loader, Loader)
            assert loader.num_workers == 2
            seen.append(torch.cat([batch.x[:, 0] for batch in loader]))
        rows = (torch.cat(seen)[:, None] == every[None]).all(-1).int().argmax(1)
        assert sorted(rows.tolist()) == list(range(48))
        epochs.append(rows.tolist())
    assert epochs[0] != epochs[1]


CODE = """
import resource, sys
from pcgen.datamodules import PointClouds
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def use(path):
    data = PointClouds(path, in_memory=False, scope="set", region="box", batch_size=32)
    return sum(len(batch.x) for batch in data.train_dataloader())
use(sys.argv[1])
before = peak()
count = use(sys.argv[2])
print(count, peak() - before)
"""


def test_memory_is_bounded(tmp_path):
    pytest.importorskip("resource")
    block = np.random.default_rng(0).random((100, 2048, 3), dtype=np.float32)
    for name, count in (("small", 100), ("large", 8500)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            points = file.create_dataset("points", (count, 2048, 3), "f4")
            for start in range(0, count, 100):
                points[start : start + 100] = block
    assert (tmp_path / "large.h5").stat().st_size > 200e6
    paths = [str(tmp_path / f"{name}.h5") for name in ("small", "large")]
    run = subprocess.run([sys.executable, "-c", CODE, *paths], capture_output=True, text=True, check=True, timeout=120)
    count, growth = map(float, run.stdout.split())
    assert count > 6000
    assert growth < 60  # MB


def test_a_million_clouds_are_listed_in_arrays(tmp_path):
    import tracemalloc

    from pcgen.io import catalog

    K = 50_000
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file.create_dataset("points", (K, 1, 3), "f4")[:] = 1
        file["label"], file["split"] = np.arange(K) % 55, (np.arange(K) % 10 == 0).astype("u1")
        file["name"] = np.array([f"chair_{i:08d}".encode() for i in range(K)])
    tracemalloc.start()
    listing = catalog(tmp_path / "many.h5").select("train", None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(listing) == 45_000
    assert listing.name[1] == "chair_00000002"
    assert str(listing.items[1]).endswith("many.h5:points[2]")
    assert peak < 150 * K  # bytes: with an object for each it is above 400
