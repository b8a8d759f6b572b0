"""Error before and after a restoration, against loops in float64 and over two real processes."""

import json

import numpy as np
import pytest
import torch

from pcgen.errors import DataError
from pcgen.metrics import RestorationScores

RNG = np.random.default_rng(0)
CLOUDS = [torch.from_numpy(RNG.normal(size=(7, n, 3)).astype(np.float32)) for n in (20, 15, 20)]
IMAGES = [torch.from_numpy(RNG.uniform(size=(7, 1, 6, 5)).astype(np.float32)) for _ in range(3)]


def chamfer(a, b):
    squared = ((a[:, None].astype(float) - b[None]) ** 2).sum(-1)
    return squared.min(0).mean() + squared.min(1).mean()


def by_hand(clean, corrupted, restored):
    if clean.ndim == 3:
        pairs = {"chamfer_before": corrupted, "chamfer_after": restored}
        return {
            n: np.mean([chamfer(a.numpy(), b.numpy()) for a, b in zip(x, clean, strict=True)]) for n, x in pairs.items()
        }
    pairs = {"mse_before": corrupted, "mse_after": restored}
    return {n: float(((x.double() - clean.double()) ** 2).mean()) for n, x in pairs.items()}


@pytest.mark.parametrize("data", [CLOUDS, IMAGES], ids=["clouds", "images"])
def test_it_is_the_mean_over_the_data_whatever_the_batches(data):
    whole, parts = RestorationScores(), RestorationScores()
    whole.update(*data)
    for rows in (slice(5, 7), slice(0, 5)):
        parts.update(*(x[rows] for x in data))
    found = {name: score.item() for name, score in whole.compute().items()}
    assert found == {name: score.item() for name, score in parts.compute().items()}  # to the last bit
    assert found == pytest.approx(by_hand(*data), rel=1e-5)


def test_what_is_restored_perfectly_has_no_error():
    metric = RestorationScores()
    metric.update(IMAGES[0], IMAGES[1], IMAGES[0])
    scores = metric.compute()
    assert scores["mse_after"] == 0 < scores["mse_before"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([torch.zeros(2, 3)] * 3, r"data have shape \(2, 3\)"),
        ([CLOUDS[0], CLOUDS[1], CLOUDS[2][:3]], r"\(3, 20, 3\); give at least one datum, and one of each"),
        ([CLOUDS[0], CLOUDS[1][..., :2], CLOUDS[2]], "have shapes"),
        ([CLOUDS[0], IMAGES[1], CLOUDS[2]], "have shapes"),
        ([IMAGES[0], IMAGES[1][..., :4], IMAGES[2]], "have shapes"),
        ([x[:0] for x in CLOUDS], "at least one datum"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_trace(given, says):
    metric = RestorationScores()
    with pytest.raises(DataError, match=says):
        metric.update(*given)
    with pytest.raises(DataError, match="error of no restored data"):
        metric.compute()


def test_one_metric_is_for_one_kind():
    metric = RestorationScores()
    metric.update(*CLOUDS)
    with pytest.raises(DataError, match="after others whose error is chamfer"):
        metric.update(*IMAGES)


PROGRAM = """
import json, sys
import torch, torch.distributed as dist
from pcgen.metrics import RestorationScores
dist.init_process_group("gloo")
rank = dist.get_rank()
data = torch.load(sys.argv[1])
for first in (3, 7):  # the second process saw nothing
    metric = RestorationScores()
    mine = [slice(0, first), slice(first, None)][rank]
    if len(data[0][mine]):
        metric.update(*(x[mine] for x in data))
    print(json.dumps({name: score.item() for name, score in metric.compute().items()}))
"""


def test_two_processes_give_what_one_gives(tmp_path, together):
    torch.save(IMAGES, tmp_path / "data.pt")
    told = together(PROGRAM, [tmp_path / "data.pt"], tmp_path)
    said = [json.loads(line) for text in told for line in text.splitlines() if line.startswith("{")]
    alone = RestorationScores()
    alone.update(*IMAGES)
    assert said == [{name: score.item() for name, score in alone.compute().items()}] * 4
