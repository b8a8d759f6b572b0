"""The callback of energies in real trainings of models as small as can be."""

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
from pcgen.callbacks import Energies, energies
from pcgen.datamodules import Shapes
from pcgen.errors import ConfigurationError
from pcgen.metrics import draw
from pcgen.metrics.functional import summarize_energies


class Distance(GenerativeModel):
    """The energy is the squared distance of the datum's second moments, pixel by pixel for images, to learnt ones."""

    def __init__(self, sample_shape: tuple[int, ...] = (16, 3)):
        super().__init__()
        self.sample_shape = tuple(sample_shape)
        self.mean = nn.Parameter(torch.zeros(self.sample_shape[-1]))
        self.optimizer, self.lr_scheduler = functools.partial(torch.optim.Adam, lr=0.05), None

    def _energy(self, x):
        return (x.square().flatten(1, -2).mean(1) - self.mean).square().sum(1)

    @verb
    def energy(self, x):
        return self._energy(x)

    def training_step(self, batch, batch_idx):
        return self._energy(batch.x).mean()


class Sampling(Distance):
    margin = 0.25

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


class Mute(Distance):
    energy = GenerativeModel.energy


class Stripes(DataModule):
    """Images of classes that differ in which column is bright."""

    sample_shape = (1, 6, 6)
    normalization: dict = {}  # noqa: RUF012 -- as the contract has it

    def __init__(self, classes: list[str] | None = None):
        super().__init__()
        self.class_names = tuple(classes or ("left", "right", "train"))

    def take(self, split, n=None, *, seed=None):
        K = {"train": 30, "val": 24, "test": 24}[split]
        x = 0.3 * torch.rand(K, 1, 6, 6, generator=torch.Generator().manual_seed(len(split) + 9 * (seed or 0)))
        label = torch.arange(K) % len(self.class_names)
        for k, name in enumerate(self.class_names):
            x[label == k, :, :, {"left": 0, "right": 5, "train": 3}[name]] += 0.6
        return Batch(x[:n], label[:n])

    def train_dataloader(self):
        return DataLoader(self.take("train").x, batch_size=10, collate_fn=lambda rows: Batch(torch.stack(rows)))


class Unclassed(Stripes):
    def __init__(self):
        super().__init__(["left"])


def train(folder, callback, *, model=None, data=None, epochs=1, **options):
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
        **options,
    )
    pl.seed_everything(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no picture")
        trainer.fit(model, datamodule=data)
    return trainer


def noted(monkeypatch):
    calls, function = [], energies.draw_energies
    monkeypatch.setattr(energies, "draw_energies", lambda *a, **k: calls.append((a, k)) or function(*a, **k))
    return calls


def table(folder):
    return list(csv.DictReader((folder / "energies.csv").open()))


def logged(folder, name):
    return [float(row[name]) for row in csv.DictReader((folder / "metrics.csv").open()) if row.get(name)]


def shapes(**given):
    return Shapes(
        num_points=16, train_size=24, val_size=8, test_size=8, batch_size=8, **({"classes": ["chair"]} | given)
    )


def test_data_samples_and_foreign_clouds_are_compared(tmp_path, monkeypatch):
    calls, model, data = noted(monkeypatch), Sampling(), shapes(scope="set")
    callback = Energies(2, num_data=6, foreign=["lamp", "table"], seed=4, num_shown=2)
    train(tmp_path, callback, model=model, data=data, epochs=3)
    figures = sorted(p.name for p in (tmp_path / "figures").rglob("*.png"))
    assert figures == ["energies.png", "epoch_0002.png", "epoch_0003.png"]
    assert np.ptp(np.asarray(Image.open(tmp_path / "figures" / "energies.png")).astype(int)) > 100
    first, second = calls
    (found, x), how = second
    assert list(found) == list(x) == ["val", "train", "samples", "lamp", "table"]
    assert np.array_equal(x["val"], data.take("val", 6, seed=4).x)
    assert np.array_equal(x["train"], data.take("train", 6, seed=4).x)
    assert np.array_equal(x["samples"], draw(model, 6, 4))
    assert (how["margin"], how["num_shown"], how["up_axis"]) == (0.25, 2, 2)
    assert "after epoch 3" in how["title"]
    for name, energy in found.items():
        assert np.allclose(energy, model.energy(torch.from_numpy(x[name])), rtol=1e-5)
    lamps = shapes(classes=["lamp", "table"], scope="none").take("val")
    offset, scale = (o[0] for o in data.offsets("train"))
    expected = (lamps.x[lamps.label == 0].numpy() - offset) / scale
    assert len(x["lamp"]) == 4  # eight of two classes
    np.testing.assert_allclose(x["lamp"], expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(first[0][1]["lamp"], x["lamp"])


def test_numbers_go_into_the_table_and_to_the_loggers(tmp_path, monkeypatch):
    calls = noted(monkeypatch)
    train(tmp_path, Energies(1, foreign=["right"]), model=Distance((1, 6, 6)), data=Stripes(["left"]), epochs=2)
    found = [summarize_energies(call[0][0]) for call in calls]
    assert [row["set"] for row in table(tmp_path)] == ["val", "train", "right"]  # it cannot sample
    for row, summary in zip(table(tmp_path), found[-1].values(), strict=True):
        given = [float(row[key]) if row[key] else None for key in summary._fields]
        assert given == pytest.approx(list(summary))
    for name in ("train", "right"):
        assert logged(tmp_path, f"energy/auroc_{name}") == pytest.approx([each[name].auroc for each in found])
    assert calls[-1][1]["notes"]["right"] == f"AUROC {found[-1]['right'].auroc:.3f}"
    assert calls[-1][1]["margin"] is None


def test_noise_stands_last_beside_the_samples_that_it_became(tmp_path, monkeypatch):
    calls, model = noted(monkeypatch), Chain((1, 6, 6))
    train(tmp_path, Energies(0, num_data=20, foreign=["right"], seed=3), model=model, data=Stripes(["left"]))
    [((found, x), _)] = calls
    assert list(found) == list(x) == ["val", "train", "samples", "right", "noise"]
    assert np.array_equal(x["samples"], draw(model, 20, 3))
    np.testing.assert_allclose(0.1 * x["noise"] + 0.45, x["samples"], rtol=1e-4, atol=1e-5)
    assert np.allclose(found["noise"], model.energy(torch.from_numpy(x["noise"])), rtol=1e-5)
    assert [row["set"] for row in table(tmp_path)] == list(found)
    assert logged(tmp_path, "energy/auroc_noise") == [1.0]


def test_a_model_of_its_data_tells_foreign_ones(tmp_path):
    train(tmp_path, Energies(0, foreign=["right"]), model=Distance((1, 6, 6)), data=Stripes(["left"]), epochs=30)
    assert logged(tmp_path, "energy/auroc_right") == [1.0]
    assert 0.2 < logged(tmp_path, "energy/auroc_train")[0] < 0.8


def test_all_foreign_classes_and_one_that_is_called_like_a_split(tmp_path):
    train(tmp_path, Energies(1, split="test", foreign=["all"]), model=Distance((1, 6, 6)), data=Stripes(["left"]))
    assert [row["set"] for row in table(tmp_path)] == ["test", "train", "right", "class train"]


def test_the_training_split_is_not_compared_with_itself(tmp_path):
    train(tmp_path, Energies(1, split="train"), model=Sampling((1, 6, 6)), data=Stripes(["left"]))
    assert [row["set"] for row in table(tmp_path)] == ["train", "samples"]


def test_drawing_leaves_the_training_as_it_is(tmp_path):
    weights = []
    for k, callback in enumerate((Energies(1, foreign=["right"]), Energies(0))):
        model = Sampling((1, 6, 6))
        train(tmp_path / str(k), callback, model=model, data=Stripes(["left"]), epochs=3)
        weights.append(model.mean.detach().clone())
    assert torch.equal(*weights)


def test_a_model_without_energy_is_told_once_and_trained(tmp_path):
    with pytest.warns(UserWarning, match="Energies draws nothing: Mute has no energy; models that can: ") as caught:
        train(tmp_path, Energies(1, foreign=["nobody"]), model=Mute((1, 6, 6)), data=Stripes(["left"]), epochs=2)
    assert sum("draws nothing" in str(w.message) for w in caught) == 1
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("make", "data", "says"),
    [
        (lambda: Energies(foreign=["bathtub"]), shapes, "^Energies: foreign classes bathtub: Shapes has no class"),
        (lambda: Energies(foreign=["chair"]), shapes, "chair is not foreign"),
        (lambda: Energies(foreign=["all"]), lambda: shapes(classes=None), "all that the source has"),
        (lambda: Energies(foreign=["right"]), Unclassed, "Unclassed cannot be told which classes"),
        (lambda: Energies(split="dev"), shapes, "no split 'dev'"),
    ],
)
def test_what_cannot_work_is_found_before_the_training(tmp_path, make, data, says):
    model = Distance()
    with pytest.raises(ConfigurationError, match=says):
        train(tmp_path, make(), model=model, data=data())
    assert not model.mean.detach().any()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"num_data": 0}, "num_data is 0"),
        ({"num_shown": 0}, "num_shown is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"foreign": "lamp"}, r"\[lamp\]"),
        ({"foreign": []}, "foreign"),
        ({"every_n_epochs": -1}, "every_n_epochs is -1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        Energies(**arguments)
