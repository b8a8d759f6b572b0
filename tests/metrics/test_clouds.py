"""The torchmetrics: batch by batch and over two real processes, to the last bit what one process gives."""

import json
from pathlib import Path

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pcgen.errors import ConfigurationError, DataError
from pcgen.losses.sinkhorn import sinkhorn_divergence
from pcgen.metrics import GenerationScores, ReconstructionScores, evaluate_sets
from pcgen.metrics import functional as F
from pcgen.ops import chamfer_distance, pairwise_earth_mover_distance


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


def test_distances_of_reconstructions():
    x = clouds(5, 0)
    y = x.flip(1) + 0.3 * clouds(5, 1)
    metric = ReconstructionScores(distances=["emd", "emd_squared", "cd"], sinkhorn_blur=0.1, coverage=False)
    metric.update(x[:2], y[:2])
    metric.update(x[2:], y[2:])
    values = plain(metric)
    assert list(values) == metric.names == ["emd", "emd_squared", "chamfer", "sinkhorn_0.1"]
    cost = torch.cdist(x.double(), y.double())
    for name, matrices in {"emd": cost, "emd_squared": cost**2}.items():
        best = [c[linear_sum_assignment(c.numpy())].mean().item() for c in matrices]
        assert values[name] == pytest.approx(sum(best) / 5, rel=1e-6)
    alone = [sinkhorn_divergence(x[i : i + 1], y[i : i + 1], blur=0.1).item() for i in range(5)]
    assert values["sinkhorn_0.1"] == pytest.approx(sum(alone) / 5, rel=1e-12)
    with pytest.raises(DataError, match="24 points a cloud and y 23"):
        metric.update(x, y[:, 1:])
    assert plain(metric) == values  # a refused batch leaves nothing behind


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"distances": ["emc"]}, "no distance emc of data to reconstructions; there is cd, emd, emd_squared"),
        ({"distances": []}, "distances is empty"),
        ({"sinkhorn_blur": 0.0}, "blur is 0"),
    ],
)
def test_distances_of_reconstructions_that_are_none(arguments, said):
    with pytest.raises(ConfigurationError, match=said):
        ReconstructionScores(**arguments)


def test_generation_scores_are_those_of_the_evaluation():
    s, r = clouds(10, 0), clouds(10, 1, points=30)
    metric = GenerationScores()
    metric.update(generated=s[:4], reference=r[:9])
    metric.update(reference=r[9:])
    metric.update(generated=s[4:])
    assert plain(metric) == evaluate_sets(s, r, draws=0).values
    swapped = GenerationScores(both_orientations=True, distances=["emd"], radius=None)
    swapped.update(generated=s, reference=r[:, :24])
    assert plain(swapped)["mmd_emd_swapped"] == F.minimum_matching_distance(pairwise_earth_mover_distance(r[:, :24], s))


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
import importlib.util, json, sys
import torch
import torch.distributed as dist
from pcgen.metrics import GenerationScores, ReconstructionScores, pairs

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
spec = importlib.util.spec_from_file_location("pairs_under_test", sys.argv[1])
searching = importlib.util.module_from_spec(spec)
spec.loader.exec_module(searching)
pairs.DISTANCES["searched"] = searching.SEARCHED
computed, pairwise = [], pairs.DISTANCES["cd"].pairwise

def counting(a, b, progress=None):
    computed.append(len(a) * (len(a) + 1) // 2 if a is b else len(a) * len(b))
    return pairwise(a, b, progress=progress)

pairs.DISTANCES["cd"] = pairs.DISTANCES["cd"]._replace(pairwise=counting)

def clouds(n, seed, points=24):
    return torch.rand(n, points, 3, generator=torch.Generator().manual_seed(seed)) - 0.5

def results(n, mine):
    x, y, r = clouds(n, 0), clouds(n, 0) + 0.05 * clouds(n, 1), clouds(n, 2, points=30)
    pairs = ReconstructionScores(distances=["cd", "emd"])
    sets, equal = GenerationScores(distances=["cd", "searched"]), GenerationScores(distances=["emd"], radius=None)
    if len(x[mine]):
        pairs.update(x[mine], y[mine])
        for row in y[mine].split(2):
            sets.update(generated=row)
        sets.update(reference=r[mine])
        equal.update(generated=y[mine], reference=r[mine, :24])
    return {k: v.item() for k, v in {**pairs.compute(), **sets.compute(), **equal.compute()}.items()}

cuts = [0, 7, 9, 11][:size] + [11]
print(json.dumps({
    "blocks": results(11, slice(cuts[rank], cuts[rank + 1])),  # in order, unequal
    "interleaved": results(11, slice(rank, 11, size)),  # as a distributed sampler deals them
    "idle": results(11, slice(0, 11) if rank == 0 else slice(0, 0)),  # one process has everything
    "two": results(2, slice(rank, 2, size)),
    "one": results(1, slice(rank, 1, size)),
}))
print(json.dumps(computed))

# states exchanged by hand and computed by one rank alone: nobody is waited for
alone = GenerationScores(sync_on_compute=False)
alone.update(generated=clouds(3, 0), reference=clouds(3, 1))
alone.sync()
if rank == 0:
    alone.compute()
dist.destroy_process_group()
"""


def expected(n):
    x, r = clouds(n, 0), clouds(n, 2, points=30)
    y = x + 0.05 * clouds(n, 1)
    values = ReconstructionScores(distances=["cd", "emd"]), GenerationScores()
    values[0].update(x, y)
    values[1].update(generated=y, reference=r)
    equal = evaluate_sets(y, r[:, :24], distances=["emd"], radius=None, draws=0).values
    both = {**plain(values[0]), **plain(values[1]), **equal}
    return both | {k.replace("_cd", "_searched"): v for k, v in both.items() if k.endswith("_cd")}


@pytest.mark.parametrize("size", [2, 3])
def test_processes_give_what_one_gives_and_divide_the_pairs(tmp_path, together, size):
    ways = {"blocks": expected(11), "interleaved": expected(11), "idle": expected(11), "two": expected(2)}
    ways["one"] = expected(1)
    done = []
    for text in together(PROCESS, [Path(__file__).with_name("test_pairs.py")], tmp_path, size):
        results, computed = map(json.loads, text.splitlines()[-2:])
        assert results.keys() == ways.keys()
        for way, values in results.items():
            assert values == ways[way], way  # bit for bit
        done.append(sum(computed))
    whole = 3 * (2 * 66 + 121) + (2 * 3 + 4) + (2 * 1 + 1)  # triangles with their diagonals, and rectangles
    assert sum(done) == whole  # no pair twice
    assert max(done) < 1.35 * whole / size
