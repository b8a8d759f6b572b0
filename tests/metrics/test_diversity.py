"""The gauge of collapse, against loops in float64, samples of known variety, and over two real processes."""

import json

import numpy as np
import pytest
import torch

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import Diversity
from pcgen.metrics.functional import coverage, diversity, mean_pairwise_distance
from pcgen.ops import pairwise_chamfer_distance

RNG = np.random.default_rng(0)
CLOUDS = torch.from_numpy(RNG.normal(size=(9, 20, 3)).astype(np.float32))
OTHER_CLOUDS = torch.from_numpy(RNG.normal(size=(7, 15, 3)).astype(np.float32)) * 0.6
IMAGES = torch.from_numpy(RNG.uniform(size=(9, 2, 6, 5)).astype(np.float32))
OTHER_IMAGES = torch.from_numpy(RNG.uniform(size=(7, 2, 6, 5)).astype(np.float32)) * 0.6


def chamfer(a, b):
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    return squared.min(0).mean() + squared.min(1).mean()


def pixels(a, b):
    return ((a - b) ** 2).mean()


def by_loops(generated, data, distance):
    generated, data = generated.double().numpy(), data.double().numpy()

    def spread(x):
        return np.mean([distance(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j])

    covered = {min(range(len(data)), key=lambda r, s=s: distance(s, data[r])) for s in generated}
    return {"diversity": spread(generated) / spread(data), "coverage": len(covered) / len(data)}


def scores(generated, data, num=64, parts=1):
    metric = Diversity(num)
    for part in generated.chunk(parts):
        metric.update(part)
    for part in data.chunk(parts):
        metric.update(data=part)
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize(
    ("generated", "data", "distance"),
    [(OTHER_CLOUDS, CLOUDS[:7], chamfer), (OTHER_IMAGES, IMAGES[:7], pixels)],
    ids=["clouds", "images"],
)
def test_it_is_what_loops_give(generated, data, distance):
    found = scores(generated, data)
    assert found == pytest.approx(by_loops(generated, data, distance), rel=1e-5)
    assert 0 < found["coverage"] < 1  # so that a swap of the two sides would show
    assert found["diversity"] < 0.9


def test_coverage_counts_data_and_not_samples():
    data = 10.0 * torch.arange(4).view(4, 1, 1, 1).expand(4, 1, 2, 2) ** 2  # 0, 10, 40, 90
    generated = data[[0, 0, 1, 1]] + torch.arange(4.0).view(4, 1, 1, 1) / 10  # near two of the data
    assert scores(generated, data)["coverage"] == 0.5  # the other way about, each datum is nearest to some sample
    swapped = pixel_matrix(data, generated)
    assert coverage(swapped).item() == 0.75


def pixel_matrix(a, b):
    return ((a.flatten(1)[:, None] - b.flatten(1)[None]) ** 2).mean(-1)


def test_variety_has_the_numbers_that_it_should():
    generator = torch.Generator().manual_seed(0)
    data, alike = torch.randn(40, 1, 8, 8, generator=generator), torch.randn(1, 1, 8, 8, generator=generator)
    assert scores(alike.expand(30, -1, -1, -1), data) == {"diversity": 0.0, "coverage": 1 / 30}
    assert scores(CLOUDS[:1].expand(8, -1, -1), CLOUDS)["diversity"] == 0
    more = torch.randn(40, 1, 8, 8, generator=generator)
    assert scores(more, data)["diversity"] == pytest.approx(1, abs=0.05)
    assert scores(data, data) == {"diversity": 1.0, "coverage": 1.0}
    assert scores(3 * more, 3 * data)["diversity"] == pytest.approx(scores(more, data)["diversity"], rel=1e-6)
    assert scores(3 * more, data)["diversity"] == pytest.approx(9, rel=0.05)  # squared distances


def test_modes_far_apart_show_in_the_coverage_alone():
    data = torch.linspace(0, 1, 40).view(40, 1, 1, 1).expand(40, 1, 4, 4)
    found = scores(data[[0, 39] * 20] + 1e-3 * torch.rand(40, 1, 4, 4), data)
    assert found["diversity"] > 1
    assert found["coverage"] < 0.15


def test_what_a_mean_distance_cannot_be_of():
    d = pairwise_chamfer_distance(CLOUDS, CLOUDS)
    with_diagonal = d.clone().fill_diagonal_(torch.nan)
    expected = np.mean([d[i, j].item() for i in range(9) for j in range(9) if i != j])
    assert mean_pairwise_distance(with_diagonal).item() == pytest.approx(expected, rel=1e-12)
    for wrong in (d[:8], d[:1, :1], d[0], torch.empty(0, 0)):
        with pytest.raises(DataError, match="at least two"):
            mean_pairwise_distance(wrong)
    with pytest.raises(DataError, match="NaN"):
        mean_pairwise_distance(torch.full((2, 2), torch.nan))
    with pytest.raises(DataError, match="the 3 data are all alike"):
        diversity(d, torch.zeros(3, 3))


@pytest.mark.parametrize(("generated", "data"), [(OTHER_CLOUDS, CLOUDS), (OTHER_IMAGES, IMAGES)])
def test_order_and_batches_do_not_show(generated, data):
    whole = scores(generated, data, num=5)
    assert whole == scores(generated.flip(0), data[torch.randperm(9)], num=5, parts=4)
    assert whole != scores(generated, data)  # five are not all


def test_data_sorted_by_class_are_not_one_class():
    data = torch.arange(400.0).view(400, 1, 1, 1).expand(400, 1, 2, 2)
    metric = Diversity(50)
    for part in data.split(32):
        metric.update(part + 0.5, part)
    assert sum(len(state) for state in metric.data) == 50 * 6  # what is held is bounded
    kept = metric._kept("data")[:, 0, 0, 0]
    assert kept.mean().item() == pytest.approx(200, abs=50)  # three standard errors
    assert len(kept.unique()) == 50


def test_nothing_seen_is_no_number_and_diverged_samples_do_not_stop_a_training():
    metric = Diversity()
    metric.update(None, CLOUDS)
    metric.update(torch.empty(0, 20, 3))
    metric.update(CLOUDS[:1])
    assert all(value.isnan() for value in metric.compute().values())
    metric.update(CLOUDS * torch.inf)
    with pytest.warns(UserWarning, match="are NaN"):
        assert all(value.isnan() for value in metric.compute().values())
    metric.reset()
    metric.update(IMAGES, IMAGES[:1].expand(4, -1, -1, -1))
    with pytest.warns(UserWarning, match="all alike"):
        assert all(value.isnan() for value in metric.compute().values())


@pytest.mark.parametrize(
    ("first", "then", "says"),
    [
        ((torch.zeros(2, 3), None), None, r"generated has shape \(2, 3\)"),
        ((CLOUDS, IMAGES), None, r"samples are like clouds \(20, 3\) and data like images \(2, 6, 5\)"),
        ((IMAGES, None), (None, IMAGES[:, :1]), "there is no distance"),
        ((IMAGES, None), (IMAGES[:, :1], None), "use a metric for each"),
        ((CLOUDS, None), (OTHER_CLOUDS, None), "use a metric for each"),
    ],
)
def test_what_does_not_fit_is_refused(first, then, says):
    metric = Diversity()
    if then is None:
        with pytest.raises(DataError, match=says):
            metric.update(*first)
    else:
        metric.update(*first)
        with pytest.raises(DataError, match=says):
            metric.update(*then)
    with pytest.raises(ConfigurationError, match="num is 1"):
        Diversity(1)


def test_it_leaves_no_trace_in_a_checkpoint_and_forward_counts_all():
    metric = Diversity(6)
    for part in range(3):
        rows = slice(3 * part, 3 * part + 3)
        metric(CLOUDS[rows] * 0.5, CLOUDS[rows])
    assert not metric.state_dict()
    assert {k: v.item() for k, v in metric.compute().items()} == scores(CLOUDS * 0.5, CLOUDS, num=6)


PROGRAM = """
import json, sys
import torch, torch.distributed as dist
from pcgen.metrics import Diversity
dist.init_process_group("gloo")
rank = dist.get_rank()
found = []
for generated, data in torch.load(sys.argv[1]):
    for mine in (slice(rank, None, 2), [slice(0, 3), slice(3, None)][rank], [slice(0, None), slice(0, 0)][rank]):
        for num in (5, 64):
            metric = Diversity(num)
            metric.update(generated[mine])
            if len(data[mine]):
                metric.update(data=data[mine])
            found.append({name: score.item() for name, score in metric.compute().items()})
print(json.dumps(found))
"""


def test_two_processes_give_what_one_gives(tmp_path, together):
    sets = [(OTHER_CLOUDS, CLOUDS), (OTHER_IMAGES, IMAGES)]
    torch.save(sets, tmp_path / "sets.pt")
    said = [json.loads(text.splitlines()[-1]) for text in together(PROGRAM, [tmp_path / "sets.pt"], tmp_path)]
    alone = [scores(*pair, num=num) for pair in sets for _ in range(3) for num in (5, 64)]
    assert said == [alone, alone]  # to the last bit
