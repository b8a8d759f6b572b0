"""The callback of chains in real trainings of models as small as can be."""

import functools

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from pcgen.base import Batch, DataModule, GenerativeModel, verb
from pcgen.callbacks import Trajectories, trajectories
from pcgen.errors import ConfigurationError
from pcgen.metrics import draw


class Chain(GenerativeModel):
    """Noise goes in a straight line to the mean of the data."""

    def __init__(self, sample_shape: tuple[int, ...] = (12, 3)):
        super().__init__()
        self.sample_shape = tuple(sample_shape)
        self.mean = nn.Parameter(torch.zeros(self.sample_shape))
        self.optimizer, self.lr_scheduler = functools.partial(torch.optim.Adam, lr=0.1), None

    @verb
    def trajectory(self, n, frames, *, generator=None):
        noise = torch.randn(n, *self.sample_shape, generator=generator)
        share = torch.linspace(0, 0.9, frames).view(-1, *[1] * noise.ndim)
        return noise + share * (self.mean - noise)

    @verb
    def sample(self, n, *, generator=None):
        return self.trajectory(n, 2, generator=generator)[-1]

    def training_step(self, batch, batch_idx):
        return (batch.x - self.mean).square().mean()


class Mute(Chain):
    trajectory = GenerativeModel.trajectory


class Broken(Chain):
    @verb
    def trajectory(self, n, frames, *, generator=None):
        return torch.full((frames, n, *self.sample_shape), torch.nan)


class Tiny(DataModule):
    up_axis = 1
    normalization: dict = {}  # noqa: RUF012 -- as the contract has it

    def __init__(self, sample_shape: tuple[int, ...] = (12, 3)):
        super().__init__()
        self.sample_shape = tuple(sample_shape)

    def take(self, split, n=None, *, seed=None):
        return Batch(torch.rand(8, *self.sample_shape, generator=torch.Generator().manual_seed(0))[:n])

    def train_dataloader(self):
        return DataLoader(self.take("train").x, batch_size=4, collate_fn=lambda rows: Batch(torch.stack(rows)))


def train(folder, callback, model, epochs=1):
    trainer = pl.Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        callbacks=[callback],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        logger=CSVLogger(folder, name="", version=""),
    )
    pl.seed_everything(1)
    trainer.fit(model, datamodule=Tiny(model.sample_shape))


def noted(monkeypatch, name):
    calls, function = [], getattr(trajectories, name)
    monkeypatch.setattr(trajectories, name, lambda *a, **k: calls.append((a, k)) or function(*a, **k))
    return calls


def figures(folder):
    return sorted(str(p.relative_to(folder / "figures")) for p in (folder / "figures").rglob("*.*"))


@pytest.mark.parametrize("shape", [(12, 3), (1, 6, 6)], ids=["clouds", "images"])
def test_a_grid_and_a_film_of_the_same_chains(tmp_path, monkeypatch, shape):
    grids, films = noted(monkeypatch, "draw_chains"), noted(monkeypatch, "chain_frames")
    model = Chain(shape)
    train(tmp_path, Trajectories(2, num_samples=2, frames=3, film_frames=5, seed=5), model, epochs=3)
    assert figures(tmp_path) == [
        *("trajectories.gif", "trajectories.png", "trajectories/epoch_0002.png", "trajectories/epoch_0003.png")
    ]
    assert np.ptp(np.asarray(Image.open(tmp_path / "figures" / "trajectories.png")).astype(int)) > 100
    with Image.open(tmp_path / "figures" / "trajectories.gif") as film:
        assert film.n_frames == 5  # the last is held
    ((states,), how), ((also,), _) = grids[-1], films[-1]
    assert states.shape == (5, 2, *shape)
    assert states is also
    np.testing.assert_allclose(states[-1], draw(model, 2, 5), rtol=1e-6)
    assert (how["columns"], how["up_axis"]) == (3, 1)
    assert how["heading"].endswith("after epoch 3")
    assert np.array_equal(grids[0][0][0][0], states[0])  # the same noise each time


def test_without_a_film_fewer_states_are_asked_for(tmp_path, monkeypatch):
    calls = noted(monkeypatch, "draw_chains")
    train(tmp_path, Trajectories(0, num_samples=1, frames=3, film_frames=0), Chain())
    assert calls[0][0][0].shape == (3, 1, 12, 3)
    assert figures(tmp_path) == ["trajectories.png", "trajectories/epoch_0001.png"]


def test_drawing_leaves_the_training_as_it_is(tmp_path):
    weights = []
    for every in (1, 0):
        model = Chain()
        train(tmp_path / str(every), Trajectories(every, num_samples=1, frames=2, film_frames=0), model, epochs=2)
        weights.append(model.mean.detach().clone())
    assert torch.equal(*weights)


def test_a_model_without_chains_is_told_once_and_trained(tmp_path):
    with pytest.warns(UserWarning, match="Trajectories draws nothing: Mute has no trajectory; models that can: "):
        train(tmp_path, Trajectories(1), Mute())
    assert not (tmp_path / "figures").exists()


def test_a_chain_that_diverged_costs_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="no picture of trajectories after epoch 1: DataError: .*NaN"):
        train(tmp_path, Trajectories(1), Broken())
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"num_samples": 0}, "num_samples is 0"),
        ({"frames": 1}, "frames is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"film_frames": -1}, "film_frames is -1"),
        ({"film_frames": 7}, "film_frames is 7 and frames 8"),
        ({"every_n_epochs": -1}, "every_n_epochs is -1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        Trajectories(**arguments)


def test_a_config_can_write_it_down():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Trajectories, "picture")
    made = parser.instantiate(parser.parse_string("picture: {frames: 5, film_frames: 0}")).picture
    assert (made.frames, made.film_frames, made.num_samples) == (5, 0, 4)
