"""Adversarial and energy-based models small enough for a test, and fits of them.

The scripts that tests start in processes of their own import this file too.
"""

import functools
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer

from pcgen.chains import CodeInference
from pcgen.datamodules import Shapes
from pcgen.models import EBGAN, GAN, Autoencoder, GenerativePointNet, LatentGAN
from pcgen.nets import MLPDecoder, PointNetEncoder, PointNetScore

ADVERSARIES = ("GAN", "LatentGAN", "EBGAN")
ADAM = functools.partial(torch.optim.Adam, lr=1e-3)
SGD = functools.partial(torch.optim.SGD, lr=0.05)


def critic():
    return PointNetEncoder((8, 16), (8,), batch_norm=False)


def adversary(name, *, batch_norm=True, seed=0, **arguments):
    """A model of clouds of 16 points, from torch's given seed on."""
    torch.manual_seed(seed)
    generator = functools.partial(MLPDecoder, 4, 16, (12,), batch_norm=batch_norm)
    arguments = {"optimizer": ADAM} | arguments
    if name == "GAN":
        return GAN(generator(), critic(), **arguments)
    if name == "EBGAN":
        decoder = MLPDecoder(5, 16, (12,), batch_norm=False)
        return EBGAN(generator(), critic(), decoder, **({"warmup_steps": 2} | arguments))
    autoencoder = Autoencoder(PointNetEncoder((8, 16)), MLPDecoder(4, 16, (12,)))
    return LatentGAN(autoencoder, (8,), (8,), noise_dim=4, **arguments)


def clouds(train_size=48, batch_size=8, **arguments):
    """Clouds of 16 points, six batches of them."""
    return Shapes(16, train_size, 16, 16, batch_size=batch_size, classes=["chair", "lamp"], **arguments)


def quiet_trainer(folder, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet |= {"enable_checkpointing": False, "max_epochs": 1, "num_sanity_val_steps": 0}
    return Trainer(default_root_dir=folder, **(quiet | options))


@pytest.fixture(scope="session")
def on_two(together):
    """Runs a script in two processes, with this folder and a working one as its words.

    It gives a function of a case's name: what either process saved as `<name>-<rank>.pt`.
    """

    def run(script, folder):
        together(script, [Path(__file__).parent, folder], folder)
        return lambda name: [torch.load(folder / f"{name}-{rank}.pt") for rank in (0, 1)]

    return run


@pytest.fixture(name="adversary")
def _adversary():
    """Builds an adversarial model by name."""
    return adversary


@pytest.fixture(name="clouds")
def _clouds():
    return clouds


@pytest.fixture
def fit(tmp_path):
    """Fits a model to the clouds, and gives the trainer."""

    def run(model, data=None, ckpt_path=None, **options):
        runner = quiet_trainer(tmp_path, **options)
        runner.fit(model, data or clouds(), ckpt_path=ckpt_path)
        return runner

    return run


@pytest.fixture(name="quiet_trainer")
def _quiet_trainer():
    return quiet_trainer


def energy_model(*, seed=0, **arguments):
    """An energy-based model of clouds of 16 points, from torch's given seed on."""
    torch.manual_seed(seed)
    defaults = {"num_points": 16, "steps": 4, "step_size": 0.1, "score_scale": 16.0, "optimizer": ADAM}
    arguments = defaults | {"inference": CodeInference(steps=3)} | arguments
    return GenerativePointNet(arguments.pop("score", None) or PointNetScore((8, 16), (8,)), **arguments)


@pytest.fixture(name="energy_model")
def _energy_model():
    """Builds an energy-based model."""
    return energy_model
