"""The linear probe while models as small as can be are trained."""

import csv
import functools
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from pcgen.base import Batch, DataModule, GenerativeModel, verb
from pcgen.callbacks import LinearProbe
from pcgen.errors import ConfigurationError
from pcgen.metrics.probe import linear_probe


class Coder(GenerativeModel):
    """Codes of images are two of their columns' means, times a weight that training leaves at one."""

    def __init__(self):
        super().__init__()
        self.sample_shape, self.latent_dim = (1, 6, 6), 2
        self.weight = nn.Parameter(torch.ones(2))
        self.optimizer, self.lr_scheduler = functools.partial(torch.optim.SGD, lr=0.0), None

    @verb
    def encode(self, x):
        return x.mean((1, 2))[:, [0, 5]] * self.weight

    def training_step(self, batch, batch_idx):
        return self.weight.square().sum()


class Featured(Coder):
    """Its features know all columns, which its codes do not."""

    @verb
    def features(self, x):
        return x.mean((1, 2)) * self.weight[0]


class Mute(Coder):
    encode = GenerativeModel.encode


class Diverged(Coder):
    @verb
    def encode(self, x):
        return torch.full((len(x), 2), float("nan"))


class Stripes(DataModule):
    """Images of three classes that differ in which column is bright."""

    sample_shape = (1, 6, 6)
    normalization: dict = {}  # noqa: RUF012 -- as the contract has it

    def __init__(self, names: tuple[str, ...] = ("left", "right", "middle"), labels: bool = True):
        super().__init__()
        self.class_names, self.labels = tuple(names), labels

    def take(self, split, n=None, *, seed=None):
        K = {"train": 60, "val": 30, "test": 45}[split]
        x = 0.3 * torch.rand(K, 1, 6, 6, generator=torch.Generator().manual_seed(len(split) + 9 * (seed or 0)))
        label = torch.arange(K) % len(self.class_names)
        for k, column in enumerate((0, 5, 3)[: len(self.class_names)]):
            x[label == k, :, :, column] += 0.6
        return Batch(x[:n], label[:n] if self.labels else None)

    def train_dataloader(self):
        return DataLoader(self.take("train").x, batch_size=20, collate_fn=lambda rows: Batch(torch.stack(rows)))


def train(folder, callback, *, model=None, data=None, epochs=1):
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
    trainer.fit(model or Coder(), datamodule=data or Stripes())
    return trainer


def logged(folder, name):
    return [float(row[name]) for row in csv.DictReader((folder / "metrics.csv").open()) if row.get(name)]


def test_it_is_the_probe_of_the_codes(tmp_path):
    data = Stripes()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no picture")
        train(tmp_path, LinearProbe(2, num_train=48, split="test", costs=[0.01, 0.1, 1.0], folds=4, seed=5), epochs=3)
    figures = sorted(p.name for p in (tmp_path / "figures").rglob("*.png"))
    assert figures == ["epoch_0002.png", "epoch_0003.png", "linear_probe.png"]
    assert np.ptp(np.asarray(Image.open(tmp_path / "figures" / "linear_probe.png")).astype(int)) > 100
    train_data, test_data = data.take("train", 48, seed=5), data.take("test", seed=5)
    codes = [batch.x.mean((1, 2))[:, [0, 5]].numpy() for batch in (train_data, test_data)]
    labels = [batch.label.numpy() for batch in (train_data, test_data)]
    found = linear_probe(codes[0], labels[0], codes[1], labels[1], costs=[0.01, 0.1, 1.0], folds=4, seed=5)
    assert logged(tmp_path, "probe/accuracy") == pytest.approx([found.accuracy] * 2)
    assert logged(tmp_path, "probe/mean_class_accuracy") == pytest.approx([found.mean_class_accuracy] * 2)
    assert logged(tmp_path, "probe/train_accuracy") == pytest.approx([found.train_accuracy] * 2)
    head, *rows = list(csv.reader((tmp_path / "linear_probe.csv").open()))
    assert head == ["is", "left", "right", "middle"]
    assert [row[0] for row in rows] == ["left", "right", "middle"]
    assert np.array_equal(np.array([row[1:] for row in rows], int), found.confusion)


def test_features_come_before_codes(tmp_path):
    train(tmp_path / "a", LinearProbe(), model=Featured())
    assert logged(tmp_path / "a", "probe/accuracy") == [1.0]


def test_probing_leaves_the_random_numbers_alone(tmp_path):
    drawn = []
    for k, callback in enumerate((LinearProbe(1), LinearProbe(0))):
        train(tmp_path / str(k), callback, epochs=2)
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_remarks_are_said_once_and_what_fails_stops_no_training(tmp_path):
    with pytest.warns(UserWarning) as caught:  # noqa: PT030 -- counted below
        train(tmp_path / "a", LinearProbe(1, num_train=6), epochs=2)
    said = [str(w.message) for w in caught if "folds instead" in str(w.message)]
    assert said == ["LinearProbe: 2 folds instead of 5: class left has only 2 training data"]
    with pytest.warns(UserWarning, match="no picture of linear_probe after epoch 1: DataError: features of 60 of 60"):
        train(tmp_path / "b", LinearProbe(), model=Diverged())


def test_a_model_without_features_or_codes_is_told_and_trained(tmp_path):
    with pytest.warns(UserWarning, match="LinearProbe draws nothing: Mute has no features; models that can: "):
        train(tmp_path, LinearProbe(1), model=Mute())
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("make", "data", "says"),
    [
        (lambda: LinearProbe(split="dev"), Stripes, "there is no split 'dev'"),
        (LinearProbe, lambda: Stripes(labels=False), "the data of split 'train' have no labels"),
        (LinearProbe, lambda: Stripes(("left",)), "have labels of one class alone"),
        (lambda: LinearProbe(split="train"), Stripes, "split and train_split are both 'train'"),
        (lambda: LinearProbe(folds=1), Stripes, "folds is 1"),
        (lambda: LinearProbe(num_train=1), Stripes, "num_train is 1"),
        (lambda: LinearProbe(costs=[0.0]), Stripes, r"costs is \[0.0\]"),
        (lambda: LinearProbe(-1), Stripes, "every_n_epochs is -1"),
    ],
)
def test_what_cannot_work_is_found_before_the_training(tmp_path, make, data, says):
    with pytest.raises(ConfigurationError, match=says):
        train(tmp_path, make(), data=data())
