"""Dots, against discs counted point by point; loaders, seeds and resuming."""

import multiprocessing

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from scipy.stats import kstest

from pcgen.base import Batch
from pcgen.datamodules import Dots
from pcgen.datamodules.dots import draw_dots
from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import build


def small(**arguments):
    return Dots(**{"train_size": 45, "val_size": 13, "test_size": 11, "batch_size": 8} | arguments)


def counted(x, y, size, radius, fine=128):
    """The share of each pixel in a disc, by asking many points of it; y up."""
    column, row = size / 2 + x * (size / 2 - radius), size / 2 - y * (size / 2 - radius)
    place = (np.arange(size * fine) + 0.5) / fine
    inside = (place[None] - column) ** 2 + (place[:, None] - row) ** 2 < radius**2
    return inside.reshape(size, fine, size, fine).mean((1, 3))


@pytest.mark.parametrize(("size", "radius"), [(32, 3.0), (16, 2.3), (9, 4.4), (64, 0.4), (8, 3.9)])
def test_pixels_are_the_share_that_the_disc_covers(size, radius):
    rng = np.random.default_rng(0)
    places = np.vstack([rng.uniform(-1, 1, (4, 2)), [[0, 0], [1, 1], [-1, 1], [1, -1], [-1, -1], [1, 0]]])
    for (x, y), image in zip(places, draw_dots(places, size, radius), strict=True):
        assert np.abs(image / 255 - counted(x, y, size, radius)).max() < 0.005


def test_every_dot_is_whole_and_where_its_factors_say():
    data = Dots(train_size=3000, image_size=24, radius=2.5)
    x, label, factors = data.take("train")
    assert label is None
    assert (data.sample_shape, data.factor_names, data.class_names) == ((1, 24, 24), ("x", "y"), ())
    assert x.shape == (3000, 1, 24, 24)
    assert x.dtype == factors.dtype == torch.float32
    assert (x.min(), x.max()) == (0, 1)
    mass = x.double().sum((1, 2, 3))
    assert (mass / (np.pi * 2.5**2) - 1).abs().max() < 5e-3
    middles = torch.arange(24) + 0.5
    right = (x.sum((1, 2)) @ middles) / mass
    up = 24 - (x.sum((1, 3)) @ middles) / mass
    assert (right - (12 + 9.5 * factors[:, 0])).abs().max() < 0.02
    assert (up - (12 + 9.5 * factors[:, 1])).abs().max() < 0.02
    for k in range(2):
        assert kstest(factors[:, k].numpy(), "uniform", (-1, 2)).pvalue > 0.01
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.06


def test_the_smallest_movement_shows():
    x = np.linspace(-0.3, 0.3, 200)
    images = draw_dots(np.stack([x, np.zeros(200)], 1), 32, 3.0).astype(int)
    assert (np.abs(np.diff(images, axis=0)).sum((1, 2)) > 0).all()


def test_seeds():
    def factors(split="train", **arguments):
        return small(**arguments).take(split).factors

    assert torch.equal(factors(), factors(batch_size=3, seed=9))
    assert not torch.equal(factors(), factors(dot_seed=1))
    assert torch.equal(factors(train_size=60)[:45], factors())
    every = torch.cat([factors(s) for s in ("train", "val", "test")])
    assert len(every.unique(dim=0)) == 45 + 13 + 11
    assert torch.equal(factors("val", val_size=0), factors("test"))
    again = build(small(radius=2.0).info()["recipe"])
    assert torch.equal(again.take("val").x, small(radius=2.0).take("val").x)


def test_take_chooses():
    data = small()
    assert torch.equal(data.take("train", 5).factors, data.take("train").factors[:5])
    chosen = data.take("train", 5, seed=1)
    assert torch.equal(chosen.x, data.take("train", 5, seed=1).x)
    assert not torch.equal(chosen.x, data.take("train", 5, seed=2).x)
    with pytest.raises(DataError, match="no split 'dev' in these data; there is train, val, test"):
        data.take("dev")
    with pytest.raises(DataError, match="no labels"):
        data.split("train").digit  # noqa: B018 -- the property raises


def epoch(number=0, **arguments):
    loader = small(**arguments).train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def test_an_epoch_has_every_dot_once_in_an_order_of_its_own():
    data, first = small(), epoch()
    assert all(isinstance(b, Batch) for b in first)
    assert [len(b.x) for b in first] == [8, 8, 8, 8, 8, 5]
    factors = torch.cat([b.factors for b in first])
    assert not torch.equal(factors, data.take("train").factors)
    assert torch.equal(factors[factors[:, 0].argsort()], (f := data.take("train").factors)[f[:, 0].argsort()])
    for batch in first:  # images and factors stay together
        drawn = draw_dots(batch.factors.double().numpy(), 32, 3.0) / 255
        assert np.abs(drawn - batch.x[:, 0].numpy()).max() < 0.005
    assert torch.equal(epoch()[0].x, first[0].x)
    assert not torch.equal(epoch(1)[0].x, first[0].x)
    assert not torch.equal(epoch(seed=1)[0].x, first[0].x)
    assert len(epoch(drop_last=True)) == 5
    tested = [torch.cat([b.factors for b in loader]) for loader in (data.val_dataloader(), data.test_dataloader())]
    assert torch.equal(tested[0], data.take("val").factors)
    assert torch.equal(tested[1], data.take("test").factors)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="starts workers by forking")
def test_worker_processes_give_the_same():
    for one, other in zip(epoch(), epoch(num_workers=1), strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.factors, other.factors)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 16.0}, "radius is 16.0 and image_size 32: a dot of 32 pixels across cannot move"),
        ({"image_size": 4}, "radius is 3.0 and image_size 4"),
        ({"radius": 0.0}, "radius is 0.0"),
        ({"radius": float("nan")}, "radius is nan"),
        ({"train_size": 0}, r"\(0, 13, 11\): at least 1, 0 and 1"),
        ({"val_size": -1}, "-1"),
        ({"test_size": 0}, "test_size"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "^seed is -1; give 0 or more"),
        ({"dot_seed": -1}, "dot_seed is -1"),
        ({"num_workers": -1}, "num_workers is -1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        small(**arguments)


def test_too_few_for_a_batch():
    with pytest.raises(ConfigurationError, match=r"1 cloud\(s\) or image\(s\).*lower batch_size"):
        small(train_size=1).train_dataloader()


# ── training ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Probe(LightningModule):
    """Remembers its batches; its weights depend on their order."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.seen = []

    def training_step(self, batch, index):
        self.seen.append((self.current_epoch, index, batch.factors.sum().item(), batch.x.sum().item()))
        return ((batch.factors.mean(0) - self.weight) ** 2).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*does not have many workers", "ignore:.*val.*loop")
def test_resuming_is_as_if_never_stopped(tmp_path):
    def fit(**arguments):
        model = Probe()
        path = arguments.pop("ckpt_path", None)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        run = Trainer(default_root_dir=tmp_path, limit_val_batches=0, **quiet, **arguments)
        run.fit(model, datamodule=small(), ckpt_path=path)
        return model

    whole = fit(max_epochs=3, enable_checkpointing=False)
    save = ModelCheckpoint(tmp_path, filename="half", save_top_k=-1, every_n_train_steps=8)
    first = fit(max_steps=8, callbacks=[save])
    second = fit(max_epochs=3, enable_checkpointing=False, ckpt_path=tmp_path / "half.ckpt")
    assert first.seen + second.seen == whole.seen
    assert torch.equal(second.weight, whole.weight)
