"""Sharding, shuffling, resuming: what each process sees."""

import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DistributedSampler

from pcgen.datamodules._loading import (
    Batches,
    Draw,
    EvalSampler,
    InMemory,
    Loader,
    TrainSampler,
    fresh_subsets,
    seeded,
)
from pcgen.datamodules.augmentations import Jitter
from pcgen.errors import ConfigurationError


def rows_of(sampler):
    return [draw.rows for draw in sampler]


@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize(("size", "batch_size"), [(20, 4), (21, 4), (23, 4), (7, 3), (9, 64), (33, 8)])
def test_training_ranks_have_as_many_batches_and_no_cloud_twice(size, batch_size, replicas):
    ranks = [TrainSampler(size, batch_size, num_replicas=replicas, rank=r) for r in range(replicas)]
    parts = [rows_of(s) for s in ranks]
    assert {len(p) for p in parts} == {len(ranks[0])}
    seen = np.concatenate([b for p in parts for b in p])
    assert len(np.unique(seen)) == len(seen)
    sizes = [len(b) for p in parts for b in p]
    assert 1 < min(sizes) <= max(sizes) <= batch_size
    share = size // replicas
    lost = size - share * replicas + replicas * (share % batch_size == 1)
    assert len(seen) == size - lost


def test_one_process_keeps_the_smaller_last_batch_unless_told():
    assert [len(b) for b in rows_of(TrainSampler(11, 4))] == [4, 4, 3]
    assert [len(b) for b in rows_of(TrainSampler(11, 4, drop_last=True))] == [4, 4]
    assert [len(b) for b in rows_of(TrainSampler(9, 4))] == [4, 4]
    assert [len(b) for b in rows_of(TrainSampler(3, 1))] == [1, 1, 1]  # asked for


def test_shuffling_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = TrainSampler(50, 8, seed=seed)
        sampler.set_epoch(epoch)
        return np.concatenate(rows_of(sampler)).tolist()

    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(s, e)) for s in (0, 1) for e in (0, 1)}) == 4


def test_too_small_a_split_says_so():
    with pytest.raises(ConfigurationError, match=r"1 cloud.*lower batch_size"):
        TrainSampler(1, 32)
    with pytest.raises(ConfigurationError, match="drop_last: false"):
        TrainSampler(5, 32, drop_last=True)
    with pytest.raises(ConfigurationError, match=r"val split has 3 cloud.*at most 3 processes"):
        EvalSampler(3, 8, num_replicas=4, name="val")


@pytest.mark.parametrize("replicas", [1, 2, 3, 4])
@pytest.mark.parametrize(("size", "batch_size"), [(20, 4), (21, 4), (23, 1), (5, 3), (7, 64), (100, 7)])
def test_evaluation_ranks_in_order_are_the_split(size, batch_size, replicas):
    ranks = [EvalSampler(size, batch_size, num_replicas=replicas, rank=r) for r in range(replicas)]
    parts = [rows_of(s) for s in ranks]
    assert {len(p) for p in parts} == {len(ranks[0])}
    assert np.concatenate([b for p in parts for b in p]).tolist() == list(range(size))
    sizes = [len(b) for p in parts for b in p]
    assert min(sizes) >= 1
    assert max(sizes) <= batch_size + (replicas > 1)


def test_samplers_are_what_lightning_leaves_alone():
    assert isinstance(TrainSampler(4, 2), DistributedSampler)
    assert isinstance(EvalSampler(4, 2), DistributedSampler)


@pytest.fixture
def batches():
    points = torch.randn(40, 64, 3, generator=torch.Generator().manual_seed(0))
    return Batches(
        InMemory(points),
        torch.arange(40),
        torch.arange(80.0).view(40, 2),
        num_points=16,
        fixed=torch.arange(16).expand(40, 16),
        augment=[Jitter(0.01)],
    )


def test_a_batch_is_what_indexing_one_by_one_gives(batches):
    draw = batches[Draw(np.array([5, 3, 39]))]
    for i, k in enumerate((5, 3, 39)):
        assert torch.equal(draw.x[i], batches.points.points[k, :16])
        assert draw.label[i] == k
        assert draw.factors[i].tolist() == [2 * k, 2 * k + 1]
    assert draw.x.dtype == torch.float32
    assert draw.label.dtype == torch.int64


def test_batches_by_number_are_in_order(batches):
    batches.batch_size = 16
    assert len(batches) == 3
    assert torch.cat([batches[i].label for i in range(3)]).tolist() == list(range(40))


def epoch_of(batches, epoch, workers=0, start=None, context=None):
    sampler = TrainSampler(40, 8, seed=7)
    sampler.set_epoch(epoch)
    loader = Loader(batches, sampler=sampler, batch_size=None, num_workers=workers, multiprocessing_context=context)
    if start is not None:
        loader.load_state_dict({"epoch": epoch, "batch": start})
    return [b.x for b in loader]


def test_an_epoch_repeats_exactly_and_differs_from_the_next(batches):
    first, again, later = epoch_of(batches, 2), epoch_of(batches, 2), epoch_of(batches, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], later[0])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="starts workers by forking")
def test_worker_processes_give_the_same(batches):
    alone, workers = epoch_of(batches, 1), epoch_of(batches, 1, workers=2, context="fork")
    assert all(torch.equal(a, b) for a, b in zip(alone, workers, strict=True))


def test_resuming_in_the_middle_gives_the_rest(batches):
    whole, rest = epoch_of(batches, 4), epoch_of(batches, 4, start=3)
    assert len(rest) == len(whole) - 3
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], rest, strict=True))


def test_a_state_of_another_epoch_is_not_used(batches):
    sampler = TrainSampler(40, 8)
    sampler.set_epoch(1)
    loader = Loader(batches, sampler=sampler, batch_size=None)
    loader.load_state_dict({"epoch": 0, "batch": 5})
    assert len(list(loader)) == 5
    assert loader.state_dict() == {"epoch": 1, "batch": 5}


def test_fresh_subsets_are_uniform_without_repeats():
    index = torch.cat([fresh_subsets(50, 40, 10, seeded((0, i))) for i in range(200)])
    assert (index.sort(1).values.diff(dim=1) > 0).all()
    counts = torch.bincount(index.flatten(), minlength=40).double()
    expected = 200 * 50 * 10 / 40
    # a batch's clouds share a permutation, so the spread is that of 200 draws, not of 10 000
    assert ((counts - expected).abs() < 6 * expected / np.sqrt(200)).all()
    pairs = torch.zeros(40, 40)
    pairs[index[:, :1].expand(-1, 9), index[:, 1:]] += 1
    assert (pairs + torch.eye(40) > 0).float().mean() > 0.99  # any two points can stand in one subset


def test_a_fresh_subset_holds_points_of_its_own_cloud(batches):
    batches.augment = []
    draw = batches[Draw(np.array([4, 11]), (0, 0, 0, 0))]
    stored = batches.points.points
    for x, k in zip(draw.x, (4, 11), strict=True):
        same = (x[:, None] == stored[k]).all(-1)  # (16, 64)
        assert (same.sum(1) == 1).all()
        assert same.sum(0).max() == 1


def test_batches_travel_to_other_processes(batches):
    again = pickle.loads(pickle.dumps(batches))
    draw = Draw(np.array([1, 2]), (0, 1, 0, 3))
    assert torch.equal(again[draw].x, batches[draw].x)
