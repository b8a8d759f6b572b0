"""The torchmetrics: batch by batch and over two real processes, to the last bit what one process gives."""

import json
import subprocess
import sys
import textwrap

import pytest
import torch

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import GenerationScores, ReconstructionScores, evaluate_sets
from pcgen.metrics import functional as F
from pcgen.ops import chamfer_distance


def clouds(n, seed, points=24):
    return torch.rand(n, points, 3, generator=torch.Generator().manual_seed(seed)) - 0.5


def plain(metric):
    return {name: value.item() for name, value in metric.compute().items()}


def test_reconstruction_scores_are_the_functions():
    x = clouds(13, 0)
    y = x + 0.05 * clouds(13, 1)
    metric = ReconstructionScores()
    for part in (slice(0, 5), slice(5, 6), slice(6, 13)):
        metric.update(x[part], y[part])
    values = plain(metric)
    assert values["chamfer"] == pytest.approx(chamfer_distance(x, y).double().mean().item(), rel=1e-12)
    assert values["reconstruction_coverage"] == F.reconstruction_coverage(x, y).item()
    assert values["own_reconstruction_coverage"] == F.own_reconstruction_coverage(x, y).item()
    assert list(values) == metric.names
    only = ReconstructionScores(coverage=False)
    only.update(x.flip(0), y.flip(0))
    assert plain(only) == {"chamfer": values["chamfer"]}  # the order does not show


def test_generation_scores_are_those_of_the_evaluation():
    s, r = clouds(10, 0), clouds(10, 1, points=30)
    metric = GenerationScores()
    metric.update(generated=s[:4], reference=r[:9])
    metric.update(reference=r[9:])
    metric.update(generated=s[4:])
    assert plain(metric) == evaluate_sets(s, r, draws=0).values


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_reset_and_nothing_seen():
    metric = ReconstructionScores()
    assert all(value.isnan() for value in metric.compute().values())
    metric.update(clouds(3, 0), clouds(3, 1))
    metric.reset()
    assert all(value.isnan() for value in metric.compute().values())
    with pytest.raises(DataError, match="reference"):
        GenerationScores().compute()


def test_states_stay_out_of_checkpoints():
    metric = GenerationScores()
    metric.update(generated=clouds(3, 0))
    assert not metric.state_dict()


def test_refusals():
    with pytest.raises(DataError, match="2 reconstructions of 3 data"):
        ReconstructionScores().update(clouds(3, 0), clouds(2, 0))
    metric = GenerationScores()
    metric.update(generated=clouds(3, 0), reference=clouds(4, 1))
    with pytest.raises(ConfigurationError, match="3 generated"):
        metric.compute()
    with pytest.raises(DataError, match="30 points after clouds of 24"):
        metric.update(generated=clouds(1, 0, points=30))
    with pytest.raises(DataError, match=r"\(3, 24\)"):
        metric.update(generated=clouds(3, 0)[..., 0])


PROCESS = """
import json, sys
import torch
import torch.distributed as dist
from pcgen.metrics import GenerationScores, ReconstructionScores

rank, rendezvous = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + rendezvous, rank=rank, world_size=2)

def clouds(n, seed, points=24):
    return torch.rand(n, points, 3, generator=torch.Generator().manual_seed(seed)) - 0.5

results = {}
for name, mine in {
    "blocks": (slice(0, 7), slice(7, 11))[rank],  # in order, unequal
    "interleaved": (slice(0, 11, 2), slice(1, 11, 2))[rank],  # as a distributed sampler deals them
    "idle": (slice(0, 11), slice(0, 0))[rank],  # one process has nothing
}.items():
    x, y, r = clouds(11, 0), clouds(11, 0) + 0.05 * clouds(11, 1), clouds(11, 2, points=30)
    pairs, sets = ReconstructionScores(), GenerationScores()
    if len(x[mine]):
        pairs.update(x[mine], y[mine])
        for row in y[mine].split(2):
            sets.update(generated=row)
        sets.update(reference=r[mine])
    results[name] = {k: v.item() for k, v in {**pairs.compute(), **sets.compute()}.items()}
print(json.dumps(results))
dist.destroy_process_group()
"""


def test_two_processes_give_what_one_gives(tmp_path):
    x, r = clouds(11, 0), clouds(11, 2, points=30)
    y = x + 0.05 * clouds(11, 1)
    pairs, sets = ReconstructionScores(), GenerationScores()
    pairs.update(x, y)
    sets.update(generated=y, reference=r)
    expected = {**plain(pairs), **plain(sets)}
    command = [sys.executable, "-c", textwrap.dedent(PROCESS)]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "rendezvous")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in ranks:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            results = json.loads(out.splitlines()[-1])
            assert set(results) == {"blocks", "interleaved", "idle"}
            for way, values in results.items():
                assert values == expected, way  # bit for bit
    finally:
        for process in ranks:
            process.kill()
