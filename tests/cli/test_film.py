"""pcgen film on checkpoints of models as small as can be, of clouds and of images."""

import functools

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn

import pcgen
from pcgen.base import GenerativeModel, verb
from pcgen.cli.images import read_images
from pcgen.datamodules import Dots, Shapes
from pcgen.io import read_clouds
from pcgen.metrics import draw_trajectories


class Chain(GenerativeModel):
    """Noise goes in a straight line to the mean of the data."""

    def __init__(self, sample_shape: tuple[int, ...] = (16, 3)):
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


def trained_on(folder, model, data):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


@pytest.fixture(scope="module")
def walker(tmp_path_factory):
    """Of clouds."""
    data = Shapes(num_points=16, train_size=8, val_size=2, test_size=2, classes=["chair"])
    return trained_on(tmp_path_factory.mktemp("walker"), Chain(), data)


@pytest.fixture(scope="module")
def mute(tmp_path_factory):
    """Of clouds, and without chains."""
    data = Shapes(num_points=16, train_size=8, val_size=2, test_size=2, classes=["chair"])
    return trained_on(tmp_path_factory.mktemp("mute"), Mute(), data)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """Of images."""
    data = Dots(image_size=8, radius=2, train_size=8, val_size=2, test_size=2)
    return trained_on(tmp_path_factory.mktemp("pixels"), Chain((1, 8, 8)), data)


def test_a_grid_a_film_and_the_states_of_clouds(cli, walker, tmp_path):
    words = ["--trust", "-n", 3, "--frames", 4, "--film-frames", 7, "--seed", 5]
    result = cli("film", walker, *words, "--png", "a.png", "--gif", "a.gif", "--out", "a.h5")
    assert result.status == 0, result.err
    assert result.err == "12 clouds of 16 points: a.h5\npicture: a.png\nfilm: a.gif\n"
    found = read_clouds(tmp_path / "a.h5")
    expected = draw_trajectories(pcgen.load(walker, trust=True), 3, 7, 5)[::2].transpose(0, 1)  # states 0, 2, 4, 6
    np.testing.assert_allclose(found.points.reshape(3, 4, 16, 3), expected, rtol=1e-5, atol=1e-6)
    assert found.name[:5] == ("sample_00000 0%", *(f"sample_00000 {k}%" for k in (33, 67, 100)), "sample_00001 0%")
    assert cli("sample", walker, "--trust", "-n", 3, "--seed", 5, "--out", "s.npy").status == 0
    np.testing.assert_allclose(found.points[3::4], np.load(tmp_path / "s.npy"), rtol=1e-5, atol=1e-6)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 7
    assert Image.open(tmp_path / "a.png").width > 4 * 140


def test_what_is_drawn_depends_on_the_seed_alone(cli, walker, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ["-n", 1, "--frames", 2, "--film-frames", 3, "--seed", seed]
        assert cli("film", walker, "--trust", *words, "--png", f"{name}.png", "--out", f"{name}.gif").status == 0
    for suffix in ("png", "gif"):
        a, b, c = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "abc")
        assert a == b != c


def test_images(cli, pixels, tmp_path):
    words = ["-n", 2, "--frames", 3, "--png", "a.png", "--gif", "a.gif", "--out", "a.npy", "--film-frames", 5]
    result = cli("film", pixels, "--trust", *words)
    assert result.status == 0, result.err
    expected = draw_trajectories(pcgen.load(pixels, trust=True), 2, 5)[::2].transpose(0, 1).clamp(0, 1)
    images = read_images(tmp_path / "a.npy").images
    np.testing.assert_allclose(images.reshape(2, 3, 1, 8, 8), expected, rtol=1e-5, atol=1e-6)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 5


BAD = {
    "no chains": ("MUTE --png a.png", ["Mute has no trajectory; models that can: "]),
    "no output": ("WALKER", ["nothing to write", "--gif FILE"]),
    "no chain": ("WALKER -n 0 --png a.png", ["-n 0"]),
    "one column": ("WALKER --frames 1 --png a.png", ["--frames 1"]),
    "too short a film": ("WALKER --film-frames 5 --out a.gif", ["--film-frames 5", "8 of --frames"]),
    "two films and no data": ("WALKER --gif a.gif --out b.gif", ["--out b.gif", ".npy"]),
    "a film that is no GIF": ("WALKER --gif a.mp4", ["--gif a.mp4", ".gif"]),
    "images as clouds": ("PIXELS --out a.ply", ["--out a.ply", "images"]),
}


@pytest.mark.parametrize(("line", "parts"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_nothing(cli, mute, walker, pixels, tmp_path, line, parts):
    for name, path in (("MUTE", mute), ("WALKER", walker), ("PIXELS", pixels)):
        line = line.replace(name, str(path))
    error = cli("film", *line.split(), "--trust").error
    assert [part for part in parts if part not in error] == []
    assert list(tmp_path.iterdir()) == []
