"""Callbacks about the latent code, in real trainings of a model as small as can be."""

import csv
import functools
import warnings
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from torch import nn
from torch.utils.data import DataLoader

from pcgen.base import Batch, DataModule, GenerativeModel, verb
from pcgen.callbacks import (
    Interpolations,
    LatentArithmetic,
    LatentHistogram,
    LatentScores,
    LatentSpace,
    Restorations,
    Traversals,
    interpolations,
    latent_arithmetic,
    latent_histogram,
    restorations,
    traversals,
)
from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import Recorded

N = 12
SIZES = {"train": 16, "val": 12, "test": 0}


class Linear(GenerativeModel):
    """A linear code of the flattened datum, decoded linearly."""

    def __init__(
        self, sample_shape: tuple[int, ...] = (N, 3), latent_dim: int = 3, corruption: nn.Module | None = None
    ):
        super().__init__()
        self.latent_dim, self.sample_shape, self.corruption = latent_dim, tuple(sample_shape), corruption
        size = int(np.prod(sample_shape))
        self.encoder, self.decoder = nn.Linear(size, latent_dim), nn.Linear(latent_dim, size)
        self.optimizer, self.lr_scheduler = functools.partial(torch.optim.Adam, lr=1e-2), None

    @verb
    def encode(self, x):
        return self.encoder(x.flatten(1))

    @verb
    def decode(self, z):
        return self.decoder(z).unflatten(1, self.sample_shape)

    def training_step(self, batch, batch_idx):
        x = batch.x
        loss = (self.decoder(self.encoder(x.flatten(1))) - x.flatten(1)).square().mean()
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(x))
        return loss


class Variational(Linear):
    @verb
    def posterior(self, x):
        mean = self.encoder(x.flatten(1))
        return mean, torch.tensor([-1.0, -6.0, -3.0])[: self.latent_dim].expand_as(mean)

    @verb
    def prior(self, n, *, generator=None):
        return torch.randn(n, self.latent_dim, generator=generator)


class OnlySamples(Linear):
    encode = GenerativeModel.encode
    decode = GenerativeModel.decode


class Sampler(Variational):
    """Draws and decodes alone, as a GAN does."""

    encode, posterior = GenerativeModel.encode, GenerativeModel.posterior


class Noise(Recorded, nn.Module):
    """Adds numbers of the generator; notes what it was given."""

    def forward(self, x, *, generator=None):
        self.made = x + 0.1 * torch.randn(x.shape, generator=generator)
        return self.made


class Tiny(DataModule):
    class_names = ("chair", "table", "lamp")
    factor_names = ("height", "width")
    up_axis = 1
    normalization: dict = {}  # noqa: RUF012 -- as the contract has it

    def __init__(self, sample_shape: tuple[int, ...] = (N, 3)):
        super().__init__()
        self.sample_shape = tuple(sample_shape)

    def take(self, split, n=None, *, seed=None):
        size = SIZES[split]
        x = torch.rand(size, *self.sample_shape, generator=torch.Generator().manual_seed(len(split)))[:n]
        return Batch(x, torch.arange(size)[:n] % 2, x.flatten(1)[:, :2])

    def train_dataloader(self):
        return DataLoader(self.take("train").x, batch_size=8, collate_fn=lambda rows: Batch(torch.stack(rows)))


def train(folder, callbacks, *, model=None, shape=(N, 3), epochs=1, **arguments):
    options = {"logger": CSVLogger(folder, name="", version="")} | arguments
    trainer = pl.Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        callbacks=callbacks,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        **options,
    )
    pl.seed_everything(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no picture")
        trainer.fit(model or Variational(shape), datamodule=Tiny(shape))
    return trainer


def figures(folder):
    return sorted(str(p.relative_to(folder / "figures")) for p in Path(folder, "figures").rglob("*.*"))


def noted(monkeypatch, module, name):
    """Note the arguments of every call of a function in a module, and call it."""
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: calls.append((a, k)) or function(*a, **k))
    return calls


SHAPES = pytest.mark.parametrize("shape", [(N, 3), (1, 6, 6)], ids=["clouds", "images"])


@SHAPES
def test_all_are_drawn_of_clouds_and_of_images(tmp_path, shape):
    sums = LatentArithmetic("chair", "height>0.5", "height:low", 2, num_rows=2, scales=(0.0, 1.0))
    callbacks = [Traversals(2, num_dims=2, steps=3), sums, LatentHistogram(2), Restorations(2, num_shown=2)]
    train(tmp_path, callbacks, model=Variational(shape, corruption=Noise()), shape=shape, epochs=3)
    names = ("latent_arithmetic", "latent_histogram", "restorations", "traversals")
    drawn = [f"{name}/epoch_{epoch:04d}.png" for name in names for epoch in (2, 3)]
    assert figures(tmp_path) == sorted([*drawn, *[f"{name}.png" for name in names], "traversals.gif"])
    for name in names:
        latest = np.asarray(Image.open(tmp_path / "figures" / f"{name}.png")).astype(int)
        assert np.ptp(latest) > 100


# ── traversals ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_traversals_show_the_most_relevant_dimensions_and_move(tmp_path, monkeypatch):
    drawn, moved = noted(monkeypatch, traversals, "draw_traversal"), noted(monkeypatch, traversals, "traversal_frames")
    model = Variational()
    train(tmp_path, [Traversals(0, num_dims=2, steps=3, extent=2.0, index=5)], model=model)
    [((data,), how)], [((frames,), also)] = drawn, moved
    x = Tiny().take("val").x
    mean, log_var = model.posterior(x)
    kl = 0.5 * (mean**2 + log_var.exp() - log_var - 1).mean(0)
    dims = kl.argsort(descending=True)[:2].tolist()
    assert how["labels"] == also["labels"] == [f"z{k}  KL {kl[k]:.2f} nats" for k in dims]
    assert how["values"].tolist() == [-2, 0, 2]
    assert also["values"].tolist() == [-2, -1, 0, 1, 2]
    assert np.array_equal(data, frames[:, ::2])
    assert np.allclose(how["base"], model.reconstruct(x[5:6])[0], atol=1e-6)
    assert np.allclose(how["current"], model.encode(x[5:6])[0, dims], atol=1e-6)
    assert how["up_axis"] == 1
    with Image.open(tmp_path / "figures" / "traversals.gif") as gif:
        assert gif.n_frames == 8


def test_an_animation_can_be_left_out(tmp_path):
    train(tmp_path, [Traversals(0, steps=3, animate=False)])
    assert figures(tmp_path) == ["traversals.png", "traversals/epoch_0001.png"]


def every_callback():
    pictures = [Traversals(1, steps=2), LatentArithmetic("chair", "table", "chair", 1), LatentHistogram(1)]
    return [*pictures, Restorations(1), LatentSpace(1), Interpolations(1, num_pairs=1), LatentScores(every_n_epochs=1)]


PICTURES = {"traversals", "latent_arithmetic", "latent_histogram", "restorations", "latent_space", "interpolations"}


def test_tensorboard_gets_the_picture_and_the_numbers_of_every_callback(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="", version="")
    train(tmp_path, every_callback(), model=Variational(corruption=Noise()), logger=logger)
    found = EventAccumulator(str(tmp_path), size_guidance={"images": 0, "scalars": 0}).Reload()
    tags = found.Tags()
    assert {tag.rpartition("/")[2] for tag in tags["images"]} == PICTURES
    assert {"latent/mmd2", "latent/active_units", "val/chamfer_before", "val/chamfer_after"} <= set(tags["scalars"])


def test_tensorboard_plays_the_file(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, [Traversals(1, steps=2)], epochs=2, logger=TensorBoardLogger(tmp_path, name="", version=""))
    found = EventAccumulator(str(tmp_path), size_guidance={"images": 0, "scalars": 0}).Reload()
    images = found.Images("animations/traversals")
    assert [image.step for image in images] == [event.step for event in found.Scalars("train/loss")] == [1, 3]
    assert images[-1].encoded_image_string == (tmp_path / "figures" / "traversals.gif").read_bytes()
    with Image.open(tmp_path / "figures" / "traversals.gif") as gif:
        assert (images[-1].width, images[-1].height) == gif.size


def test_wandb_gets_the_file_and_the_numbers(tmp_path, monkeypatch):
    import wandb

    for variable in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "wandb_home"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, project="p", offline=True)
    train(tmp_path, every_callback(), model=Variational(corruption=Noise()), logger=logger)
    summary = dict(logger.experiment.summary)
    wandb.finish()
    pictures = {path.name.rpartition("_")[0].rpartition("_")[0] for path in (tmp_path / "wandb").rglob("*.png")}
    assert pictures == PICTURES
    assert {"latent/mmd2", "latent/active_units"} <= set(summary)
    [path] = (tmp_path / "wandb").glob("offline-run-*/files/media/videos/animations/*.gif")
    assert path.read_bytes() == (tmp_path / "figures" / "traversals.gif").read_bytes()
    assert summary["val/chamfer_before"] > 0


# ── arithmetic ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_arithmetic_chooses_by_words_and_shows_the_sums(tmp_path, monkeypatch):
    drawn = noted(monkeypatch, latent_arithmetic, "draw_arithmetic")
    model = Linear()
    train(tmp_path, [LatentArithmetic("table", "height>0.5", "chair & height<=0.5", 0, num_rows=2)], model=model)
    [((made, start, scales), how)] = drawn
    x, label, factors = Tiny().take("val")
    assert np.array_equal(start, x[label == 1][:2])
    z, high = model.encode(x), factors[:, 0] > 0.5
    step = z[high].mean(0) - z[(label == 0) & ~high].mean(0)
    for scale, row in zip(scales, made, strict=True):
        assert np.allclose(row, model.decode(model.encode(x[label == 1][:2]) + scale * step), atol=1e-5)
    assert how["heading"].startswith("table + (height>0.5) − (chair & height<=0.5), val")


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (("stool", "chair", "table"), ConfigurationError, "'stool'.*classes are chair, table, lamp"),
        (("chair", "depth>1", "table"), ConfigurationError, "no factor 'depth'; factors are height, width"),
        (("chair", "table", "lamp"), DataError, "'lamp' matches none of the 12 of split 'val'.*chair, table"),
    ],
)
def test_a_selection_that_cannot_work_is_found_before_the_training(tmp_path, words, error, says):
    model = Linear()
    before = model.encoder.weight.clone()
    with pytest.raises(error, match=says):
        train(tmp_path, [LatentArithmetic(*words)], model=model)
    assert torch.equal(before, model.encoder.weight)


# ── histogram ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_histogram_is_of_codes_drawn_from_the_posterior(tmp_path, monkeypatch):
    drawn, model = noted(monkeypatch, latent_histogram, "draw_latent_histogram"), Variational()
    train(tmp_path, [LatentHistogram(1)], model=model, epochs=2)
    (_, _), ((codes,), how) = drawn
    mean, log_var = model.posterior(Tiny().take("val").x)
    noise = (torch.from_numpy(codes) - mean) / (0.5 * log_var).exp()
    assert codes.shape == (12, 3)
    assert 0.5 < noise.std() < 1.5
    assert "drawn from the posterior (12 data of val) after epoch 2" in how["title"]
    head, *rows = [line.split(",") for line in (tmp_path / "latent_moments.csv").read_text().splitlines()]
    assert head == ["dimension", "mean", "standard_deviation"]
    assert np.allclose([[float(v) for v in row[1:]] for row in rows], np.stack([codes.mean(0), codes.std(0)], 1))


# ── restorations ──────────────────────────────────────────────────────────────────────────────────────────────────────


def logged(folder, name):
    lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    return [float(line[lines[0].index(name)]) for line in lines[1:] if line[lines[0].index(name)]]


def test_restorations_log_the_error_before_and_after_and_damage_alike_each_time(tmp_path, monkeypatch):
    drawn, model = noted(monkeypatch, restorations, "draw_rows"), Linear((1, 6, 6), corruption=Noise())
    train(tmp_path, [Restorations(1, num_shown=3, num_scored=10)], model=model, shape=(1, 6, 6), epochs=2)
    x = Tiny((1, 6, 6)).take("val", 10).x
    ((first,), _), ((rows,), how) = drawn
    assert np.array_equal(first[1], rows[1])
    assert np.array_equal(rows[0], x[:3])
    damaged = model.corruption.made
    assert np.array_equal(rows[1], damaged[:3])
    assert np.allclose(rows[2], model.reconstruct(damaged)[:3], atol=1e-6)
    before, after = ((y - x).square().mean().item() for y in (damaged, model.reconstruct(damaged)))
    assert logged(tmp_path, "val/mse_before") == pytest.approx([before] * 2, rel=1e-5)
    assert logged(tmp_path, "val/mse_after")[1] == pytest.approx(after, rel=1e-5)
    assert logged(tmp_path, "val/mse_after")[1] != logged(tmp_path, "val/mse_after")[0]
    assert how["labels"] == ["clean", "corrupted", "restored"]
    assert f"mean squared error {before:.3g} before, {after:.3g} after" in how["heading"]


def test_restorations_of_clouds_keep_the_damage_in_the_frame(tmp_path, monkeypatch):
    drawn = noted(monkeypatch, restorations, "draw_rows")
    train(tmp_path, [Restorations(0, num_shown=2)], model=Linear(corruption=Noise()))
    [((rows,), how)] = drawn
    assert all(np.array_equal(like, np.concatenate(rows[:2], axis=1)) for like in how["likes"])
    assert "Chamfer distance" in how["heading"]
    assert logged(tmp_path, "val/chamfer_before")[0] > 0


# ── models that cannot ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "model", "says"),
    [
        (lambda: Restorations(1), Linear(), "Restorations draws nothing: Linear has no corruption"),
        (lambda: Traversals(1), OnlySamples(), "Traversals draws nothing: OnlySamples cannot encode"),
        (lambda: Interpolations(1), OnlySamples(), "Interpolations draws nothing: OnlySamples cannot interpolate"),
        (lambda: Interpolations(1, path="spherical"), Sampler(latent_dim=1), "one dimension, which no great circle"),
        (lambda: LatentHistogram(1), OnlySamples(), "LatentHistogram draws nothing: OnlySamples cannot encode"),
        (lambda: LatentArithmetic("a", "b", "c"), OnlySamples(), "LatentArithmetic draws nothing: OnlySamples cannot"),
        (lambda: LatentSpace(1), Linear(latent_dim=1), "Linear has codes of one dimension, which make no plane"),
        (lambda: Interpolations(1, path="spherical"), Linear(latent_dim=1), "one dimension, which no great circle"),
    ],
)
def test_who_cannot_is_told_once_and_trained(tmp_path, make, model, says):
    with pytest.warns(UserWarning, match=says) as caught:
        trainer = train(tmp_path, [make()], model=model)
    assert sum("draws nothing" in str(w.message) for w in caught) == 1
    assert trainer.current_epoch == 1
    assert not (tmp_path / "figures").exists()


def test_a_code_of_one_dimension_is_drawn_by_the_others(tmp_path):
    callbacks = [
        Traversals(1, steps=2),
        LatentHistogram(1),
        Interpolations(1),
        LatentArithmetic("chair", "table", "chair"),
    ]
    train(tmp_path, callbacks, model=Variational(latent_dim=1))
    assert len([name for name in figures(tmp_path) if "/" not in name]) == 5


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Traversals(num_dims=0), "num_dims is 0"),
        (lambda: Traversals(steps=1), "steps is 1"),
        (lambda: Traversals(extent=-1.0), "extent is -1.0"),
        (lambda: Traversals(index=256), "index is 256"),
        (lambda: Traversals(index=20), "needs 21 of split 'val', which holds 12"),
        (lambda: Traversals(split="vla"), "no split 'vla'"),
        (lambda: LatentArithmetic("chair", "chair", "table", scales=()), "scales are"),
        (lambda: LatentHistogram(num_data=1), "num_data is 1"),
        (lambda: LatentHistogram(split="test"), "needs 2 of split 'test'"),
        (lambda: Restorations(num_shown=0), "num_shown is 0"),
        (lambda: Interpolations(path="curved"), "path is 'curved'"),
    ],
)
def test_a_mistake_is_found_before_the_training(tmp_path, make, says):
    with pytest.raises(ConfigurationError, match=says):
        train(tmp_path, [make()])


def test_interpolations_walk_the_path_that_was_chosen(tmp_path, monkeypatch):
    drawn, model = noted(monkeypatch, interpolations, "draw_interpolations"), Linear()
    train(
        tmp_path, [Interpolations(0, num_pairs=1, steps=3, path=path) for path in ("linear", "spherical")], model=model
    )
    for ((walks, ends), how), path in zip(drawn, ("linear", "spherical"), strict=True):
        expected = model.interpolate(*torch.from_numpy(ends[0]), 3, path=path)
        assert np.allclose(walks[0], expected, atol=1e-6)
        assert ("spherical" in how["heading"]) == (path == "spherical")


@SHAPES
def test_how_smooth_the_walks_are_is_written_and_logged(tmp_path, monkeypatch, shape):
    drawn = noted(monkeypatch, interpolations, "draw_interpolations")
    train(tmp_path, [Interpolations(0, num_pairs=2, steps=5)], model=Linear(shape), shape=shape)
    [((walks, _), _)] = drawn
    rows = list(csv.DictReader((tmp_path / "interpolations.csv").open()))
    assert [float(row["walk"]) for row in rows] == [0, 1]
    for row, walk in zip(rows, walks, strict=True):
        lengths = np.sqrt(np.square(np.diff(walk.astype(float), axis=0)).reshape(4, -1).mean(1))
        scale = np.sqrt(3) if shape[-1] == 3 else 1  # of three coordinates a point
        assert float(row["mean_step"]) == pytest.approx(scale * lengths.mean(), rel=1e-4)
        assert float(row["longest_step"]) == pytest.approx(scale * lengths.max(), rel=1e-4)
        assert float(row["ratio"]) == pytest.approx(1, rel=1e-3)  # a linear code, decoded linearly
        assert ("chamfer_ratio" in row) == (shape[-1] == 3)
    assert logged(tmp_path, "interpolation/longest_to_mean_step") == pytest.approx([1], rel=1e-3)


@SHAPES
@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_a_model_that_cannot_encode_walks_between_draws_of_its_prior(tmp_path, monkeypatch, shape, path):
    drawn, model = noted(monkeypatch, interpolations, "draw_interpolations"), Sampler(shape)
    picture = Interpolations(1, num_pairs=2, steps=3, split="nowhere", seed=7, path=path)  # no data are looked at
    train(tmp_path, [picture], model=model, shape=shape, epochs=2)
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(7))
    for ((walks,), how), epoch in zip(drawn, (1, 2), strict=True):
        assert walks.shape == (2, 3, *shape)
        assert how["heading"].startswith("Walks between draws of the prior")
        assert how["heading"].endswith(f"after epoch {epoch}")
        assert ("spherical" in how["heading"]) == (path == "spherical")
    assert np.allclose(walks[:, [0, -1]].reshape(4, *shape), model.decode(z), atol=1e-6)  # of the final weights
    middle = z.view(2, 2, 3).mean(1)
    assert np.allclose(walks[:, 1], model.decode(middle), atol=1e-6) == (path == "linear")
    assert "interpolations/epoch_0002.png" in figures(tmp_path)


def test_a_config_can_write_them_down():
    from jsonargparse import ArgumentParser

    for kind in (Traversals, LatentHistogram, Restorations, Interpolations, LatentArithmetic):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(kind, "picture")
        words = {"start": "chair", "plus": "a>1", "minus": "b:low"} if kind is LatentArithmetic else {}
        defaults = parser.get_defaults()
        for name, value in words.items():
            defaults[f"picture.{name}"] = value
        made = parser.instantiate(parser.parse_string(parser.dump(defaults))).picture
        assert isinstance(made, kind)
        assert all(getattr(made, name) == value for name, value in words.items())
