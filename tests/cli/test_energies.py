"""pcgen energies on checkpoints of models as small as can be, of clouds and of images."""

import csv
import functools
import json

import h5py
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn

import pcgen
from pcgen.base import GenerativeModel, verb
from pcgen.datamodules import MNIST, PointClouds, Shapes
from pcgen.metrics import draw, draw_trajectories
from pcgen.metrics.functional import summarize_energies


class Distance(GenerativeModel):
    """The energy is the squared distance of the datum's second moments, or of its pixels, to learnt ones."""

    def __init__(self, sample_shape: tuple[int, ...] = (16, 3)):
        super().__init__()
        self.sample_shape = tuple(sample_shape)
        self.mean = nn.Parameter(torch.zeros(3 if len(sample_shape) == 2 else sample_shape))
        self.register_buffer("margin", torch.tensor(float("nan")))
        self.optimizer, self.lr_scheduler = functools.partial(torch.optim.Adam, lr=0.1), None

    def _energy(self, x):
        x = x.square().mean(1) if x.ndim == 3 else x
        return (x - self.mean).square().flatten(1).sum(1)

    @verb
    def energy(self, x):
        return self._energy(x)

    def training_step(self, batch, batch_idx):
        self.margin.fill_(0.125)
        return self._energy(batch.x).mean()


class Sampling(Distance):
    @verb
    def sample(self, n, *, generator=None):
        return torch.rand(n, *self.sample_shape, generator=generator)


class Chain(Distance):
    """Samples are noise that was moved and shrunk."""

    @verb
    def trajectory(self, n, frames, *, generator=None):
        noise = 3 * torch.randn(n, *self.sample_shape, generator=generator)
        return torch.stack([noise * (1 - share) + share / 2 for share in torch.linspace(0, 0.9, frames)])

    @verb
    def sample(self, n, *, generator=None):
        return self.trajectory(n, 2, generator=generator)[-1]


def trained_on(folder, model, data):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=15, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


def chairs(**given):
    return Shapes(num_points=16, train_size=40, val_size=6, test_size=24, **({"classes": ["chair"]} | given))


@pytest.fixture(scope="module")
def spotter(tmp_path_factory):
    """Of chairs, in units of the set; it can sample."""
    return trained_on(tmp_path_factory.mktemp("spotter"), Sampling(), chairs(scope="set"))


@pytest.fixture(scope="module")
def sevens(digits, tmp_path_factory):
    """Of images of one class; it cannot sample. Beside it, where the images are."""
    home = digits.parents[2]
    data = MNIST(str(home), classes=["7"])
    return trained_on(tmp_path_factory.mktemp("sevens"), Distance((1, 28, 28)), data), home


def rows(path):
    """The energies by set and row, and the names."""
    found = {}
    for row in csv.DictReader(path.open()):
        found.setdefault(row["set"], {})[int(row["row"])] = (float(row["energy"]), row["name"])
    return found


def test_clouds_samples_and_foreign_classes(cli, spotter, tmp_path):
    words = ["--trust", "--foreign", "lamp,table", "-n", 10, "--seed", 3, "--csv", "e.csv", "--json", "e.json"]
    result = cli("energies", spotter, *words, "--png", "e.png")
    assert result.status == 0, result.err
    assert result.err == "energies: e.csv\nnumbers: e.json\npicture: e.png\n"
    model, data = pcgen.load(spotter, trust=True), chairs(scope="set")
    found = rows(tmp_path / "e.csv")
    assert {name: len(each) for name, each in found.items()} == dict.fromkeys(found, 10)
    assert list(found) == ["test", "train", "samples", "lamp", "table"]
    samples = draw(model, 10, 3)
    pair = chairs(classes=["lamp", "table"], scope="none").take("test")
    offset, scale = (torch.as_tensor(o[0]) for o in data.offsets("train"))
    sets = {"test": data.take("test").x, "train": data.take("train").x, "samples": samples}
    for k, name in enumerate(("lamp", "table")):
        sets[name] = ((pair.x[pair.label == k] - offset) / scale).float()
    for name, each in found.items():
        expected = model.energy(sets[name])
        assert [each[row][0] for row in each] == pytest.approx(expected[list(each)].tolist(), rel=1e-3)
    assert found["test"][min(found["test"])][1] == f"test/chair_{min(found['test']):05d}"
    assert found["samples"][4][1] == "sample_00004"
    content = json.loads((tmp_path / "e.json").read_text())
    summary = summarize_energies({name: [energy for energy, _ in each.values()] for name, each in found.items()})
    assert (content["margin"], content["split"], content["seed"]) == (0.125, "test", 3)
    for name, each in summary.items():
        assert content["sets"][name] == pytest.approx(each._asdict())
    assert f"{summary['lamp'].auroc:.3f}" in result.out
    assert "energies of Sampling on Shapes (test), margin 0.125" in result.out
    assert Image.open(tmp_path / "e.png").height > 5 * 100


def test_noise_stands_beside_the_samples_that_it_became(cli, tmp_path):
    checkpoint = trained_on(tmp_path, Chain(), chairs(scope="set"))
    words = ["--trust", "-n", 10, "--seed", 3, "--foreign", "lamp", "--csv", "e.csv", "--png", "e.png"]
    result = cli("energies", checkpoint, *words)
    assert result.status == 0, result.err
    found, model = rows(tmp_path / "e.csv"), pcgen.load(checkpoint, trust=True)
    assert list(found) == ["test", "train", "samples", "lamp", "noise"]
    states = draw_trajectories(model, 10, 2, 3)
    assert torch.equal(states[-1], draw(model, 10, 3))
    for name, x in (("noise", states[0]), ("samples", states[-1])):
        assert [energy for energy, _ in found[name].values()] == pytest.approx(model.energy(x).tolist(), rel=1e-4)
    assert found["noise"][4][1] == "noise_00004"
    assert "noise" in result.out


def test_what_is_drawn_depends_on_the_seed_alone(cli, spotter, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ["--trust", "-n", 5, "--seed", seed, "--csv", f"{name}.csv", "--png", f"{name}.png"]
        assert cli("energies", spotter, *words).status == 0
    for suffix in ("csv", "png"):
        a, b, c = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "abc")
        assert a == b != c


def test_all_other_digits(cli, sevens, tmp_path):
    checkpoint, home = sevens
    words = ["--foreign", "all", "--csv", "e.csv", "--json", "-", "--split", "test"]
    result = cli("energies", checkpoint, "--trust", *words)
    assert result.status == 0, result.err
    content = json.loads(result.out)  # and no table
    assert list(content["sets"]) == ["test", "train", *"012345689"]  # it cannot sample
    assert all(content["sets"][digit]["auroc"] == 1.0 for digit in "012345689")
    assert content["sets"]["test"]["auroc"] is None
    model, found = pcgen.load(checkpoint, trust=True), rows(tmp_path / "e.csv")
    x = MNIST(str(home), classes=["3"]).take("test").x
    assert [energy for energy, _ in found["3"].values()] == pytest.approx(model.energy(x).tolist(), rel=1e-6)


@pytest.fixture
def file(tmp_path):
    """Thirty clouds of three classes in two splits."""
    label = np.arange(30) % 3
    points = np.random.default_rng(0).normal(size=(30, 20, 3)) * (1 + label)[:, None, None]
    with h5py.File(tmp_path / "some.h5", "w") as handle:
        handle["points"], handle["label"] = points.astype(np.float32), label
        handle["split"] = np.where(np.arange(30) < 18, "train", "test").astype("S5")
        handle["name"] = [f"thing_{i}".encode() for i in range(30)]
        handle["class_names"] = [b"chair", b"cup", b"lid"]
    return "some.h5"


@pytest.mark.parametrize(("foreign", "sets"), [("all", ["cup", "lid"]), ("lid", ["lid"])])
def test_a_file_of_other_data(cli, spotter, file, tmp_path, foreign, sets):
    words = ["--trust", "--data", file, "--foreign", foreign, "--normalize", "ball", "--csv", "e.csv"]
    assert cli("energies", spotter, *words).status == 0
    found = rows(tmp_path / "e.csv")
    assert list(found) == ["test", "train", "samples", *sets]
    assert [len(found[name]) for name in ("test", "train", "lid")] == [4, 6, 4]
    assert [name for _, name in found["lid"].values()] == ["thing_20", "thing_23", "thing_26", "thing_29"]
    lids = PointClouds(str(tmp_path / file), num_points=16, classes=["lid"])
    expected = pcgen.load(spotter, trust=True).energy(lids.take("test").x)
    assert [energy for energy, _ in found["lid"].values()] == pytest.approx(expected.tolist(), rel=1e-4)


def test_a_file_of_images(cli, sevens, tmp_path):
    checkpoint, home = sevens
    x, label, _ = MNIST(str(home)).take("test")
    np.savez(tmp_path / "i.npz", images=x, label=label, class_names=np.array(list("0123456789")))
    result = cli("energies", checkpoint, "--trust", "--data", "i.npz", "--foreign", "all", "--csv", "e.csv")
    assert result.status == 0, result.err
    found, model = rows(tmp_path / "e.csv"), pcgen.load(checkpoint, trust=True)
    assert list(found) == ["data", *"012345689"]
    for k, name in ((7, "data"), (4, "4")):
        expected = model.energy(x[label == k]).tolist()
        assert [energy for energy, _ in found[name].values()] == pytest.approx(expected, rel=1e-5)


BAD = {
    "no energy": ("TRAINED", ["VAE has no energy; models that can: "]),
    "no data": ("SPOTTER -n 0", ["-n 0"]),
    "no name": ("SPOTTER --foreign ,", ["--foreign ','"]),
    "a class that is not there": ("SPOTTER --foreign bathtub", ["foreign classes bathtub", "Shapes has no class"]),
    "one that was trained on": ("SPOTTER --foreign lamp,chair", ["chair is not foreign"]),
    "a split that is not there": ("SPOTTER --split dev", ["'dev'"]),
    "a class that the file lacks": ("SPOTTER --data some.h5 --foreign sofa", ["some.h5", "'sofa'", "chair, cup, lid"]),
    "one of the file's own": ("SPOTTER --data some.h5 --classes cup --foreign lid,cup", ["cup is one", "--classes"]),
    "nothing but its own": (
        "SPOTTER --data some.h5 --classes cup,lid,chair --foreign all",
        ["--foreign all", "there are no others"],
    ),
    "a picture that is no PNG": ("SPOTTER --png a.jpg", ["a.jpg", ".png"]),
    "numbers below a file": ("SPOTTER --csv some.h5/a.csv", ["some.h5 is a file"]),
    "code that is not trusted": ("SPOTTER", ["outside pcgen", "trust"]),
}


@pytest.mark.parametrize(("line", "parts"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_nothing(cli, trained, spotter, file, tmp_path, line, parts):
    before = sorted(tmp_path.rglob("*"))
    trust = [] if "outside pcgen" in parts else ["--trust"]
    words = line.replace("SPOTTER", str(spotter)).replace("TRAINED", str(trained)).split()
    error = cli("energies", *words, *trust, "--json", "e.json").error
    assert [part for part in parts if part not in error] == []
    assert sorted(tmp_path.rglob("*")) == before
