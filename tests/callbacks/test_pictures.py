"""Picture callbacks in real trainings of a model as small as can be.

Run as a program, it is the distributed training that `test_two_processes_draw_each_figure_once` starts.
"""

import functools
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from pcgen.base import Batch, DataModule, GenerativeModel, verb
from pcgen.callbacks import (
    Interpolations,
    LatentSpace,
    LatentUsage,
    LossCurves,
    Reconstructions,
    Samples,
    latent_usage,
    loss_curves,
)
from pcgen.errors import ConfigurationError
from pcgen.metrics import draw
from pcgen.viz import draw_curves

N = 24
SIZES = {"train": 32, "val": 12, "test": 0}


class LinearAE(GenerativeModel):
    """The mean point's linear code, decoded linearly."""

    def __init__(self, latent_dim: int = 3, sample_shape: tuple[int, ...] = (N, 3)):
        super().__init__()
        self.latent_dim, self.sample_shape = latent_dim, tuple(sample_shape)
        self.encoder = nn.Linear(sample_shape[-1], latent_dim)
        self.decoder = nn.Linear(latent_dim, int(np.prod(sample_shape)))
        self.optimizer, self.lr_scheduler = functools.partial(torch.optim.Adam, lr=1e-2), None

    def _forward(self, x):
        return self._decode(self.encoder(x).flatten(1, -2).mean(1))

    def _decode(self, z):
        return self.decoder(z).unflatten(-1, self.sample_shape)

    @verb
    def encode(self, x):
        return self.encoder(x).flatten(1, -2).mean(1)

    @verb
    def decode(self, z):
        return self._decode(z)

    @verb
    def prior(self, n, *, generator=None):
        return torch.randn(n, self.latent_dim, generator=generator).to(self.device)

    def training_step(self, batch, batch_idx):
        loss = (self._forward(batch.x) - batch.x).square().mean()
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.x), sync_dist=True)
        return loss

    def validation_step(self, batch, batch_idx):
        loss = (self._forward(batch.x) - batch.x).square().mean()
        self.log("val/loss", loss, batch_size=len(batch.x), sync_dist=True)


class OnlySamples(LinearAE):
    encode = GenerativeModel.encode


class BrokenSamples(LinearAE):
    def sample(self, n, *, generator=None):
        return torch.full((n, *self.sample_shape), torch.nan)


class Dice(LinearAE):
    """A model that, against the contract, draws from the global random numbers."""

    @verb
    def sample(self, n, *, generator=None):
        return torch.rand(n, *self.sample_shape)


class Tiny(DataModule):
    class_names = ("a", "b")
    factor_names = ("height", "width")
    up_axis = 1
    normalization: dict = {}  # noqa: RUF012 -- as the contract has it

    def __init__(self, sample_shape: tuple[int, ...] = (N, 3), labelled: bool = True, factored: bool = True):
        super().__init__()
        self.sample_shape, self.labelled, self.factored = tuple(sample_shape), labelled, factored

    def take(self, split, n=None, *, seed=None):
        size = SIZES[split]
        generator = torch.Generator().manual_seed(len(split) + 7 * (seed or 0))
        x = torch.rand(size, *self.sample_shape, generator=generator)[:n]
        label = torch.arange(size)[:n] % 2 if self.labelled else None
        return Batch(x, label, x.flatten(1)[:, :2] if self.factored else None)

    def _loader(self, split):
        return DataLoader(self.take(split).x, batch_size=8, collate_fn=collate, shuffle=split == "train")

    def train_dataloader(self):
        return self._loader("train")

    def val_dataloader(self):
        return self._loader("val")


def collate(rows):
    return Batch(torch.stack(rows))


def train(folder, callbacks, *, model=None, data=None, epochs=2, ckpt_path=None, **arguments):
    options = {"logger": CSVLogger(folder, name="", version=""), "enable_checkpointing": False} | arguments
    trainer = pl.Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        callbacks=callbacks,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **options,
    )
    pl.seed_everything(1)
    model = model or LinearAE()
    trainer.fit(model, datamodule=data or Tiny(), ckpt_path=ckpt_path)
    return trainer


def figures(folder):
    return sorted(str(p.relative_to(folder / "figures")) for p in Path(folder, "figures").rglob("*.png"))


def all_callbacks():
    return [
        Samples(2, num_samples=3),
        Reconstructions(2, num_clouds=2),
        Interpolations(2, num_pairs=2, steps=3),
        LatentSpace(0, num_points=12),
        LossCurves(1),
    ]


def test_every_picture_is_written_when_it_is_due(tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no picture")
        train(tmp_path, all_callbacks(), epochs=3)
    due = {
        "samples": (2, 3),
        "reconstructions": (2, 3),
        "interpolations": (2, 3),
        "latent_space": (3,),  # the end alone
        "loss_curves": (1, 2, 3),
    }
    expected = [f"{name}/epoch_{epoch:04d}.png" for name, epochs in due.items() for epoch in epochs]
    assert figures(tmp_path) == sorted([*expected, *[f"{name}.png" for name in due]])
    for name in due:
        latest = tmp_path / "figures" / f"{name}.png"
        assert latest.read_bytes() == (tmp_path / "figures" / name / "epoch_0003.png").read_bytes()
        assert np.ptp(np.asarray(Image.open(latest)).astype(int)) > 100


def test_images_are_drawn_as_clouds_are(tmp_path):
    shape = (1, 6, 6)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no picture")
        train(tmp_path, all_callbacks(), model=LinearAE(sample_shape=shape), data=Tiny(shape), epochs=1)
    assert {"samples.png", "reconstructions.png", "interpolations.png", "latent_space.png"} <= set(figures(tmp_path))


def test_pictures_do_not_change_the_training(tmp_path):
    plain, drawn = LinearAE(), LinearAE()
    drawn.load_state_dict(plain.state_dict())
    train(tmp_path / "plain", [], model=plain, epochs=3)
    train(tmp_path / "drawn", [*all_callbacks()], model=drawn, epochs=3)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), drawn.parameters(), strict=True))
    assert all(module.training for module in drawn.modules())


def test_even_a_careless_model_does_not_disturb_the_random_numbers(tmp_path):
    after = []
    for callbacks in ([], [Samples(1)]):
        train(tmp_path, callbacks, model=Dice())
        after.append(torch.rand(3))
    assert torch.equal(*after)


def test_samples_come_from_the_same_seed_each_time(tmp_path):
    seen = []

    class Watched(LinearAE):
        @verb
        def prior(self, n, *, generator=None):
            seen.append(super().prior(n, generator=generator))
            return seen[-1]

    model = Watched()
    train(tmp_path, [Samples(1, num_samples=4, seed=5)], model=model, epochs=3)
    pictured = seen.copy()
    assert len(pictured) == 3
    seen.clear()
    draw(model, 4, 5)  # as `SetScores` and the command line draw
    draw(model, 4, 6)
    assert all(torch.equal(z, seen[0]) for z in pictured)
    assert not torch.equal(*seen)


@pytest.mark.parametrize("make", [Reconstructions, LatentSpace])
def test_a_model_that_cannot_is_told_once_and_trained(tmp_path, make):
    with pytest.warns(UserWarning, match=f"{make.__name__} draws nothing: OnlySamples cannot") as caught:
        train(tmp_path, [make(1), Samples(1)], model=OnlySamples(), epochs=2)
    assert sum("draws nothing" in str(w.message) for w in caught) == 1
    assert figures(tmp_path) == ["samples.png", "samples/epoch_0001.png", "samples/epoch_0002.png"]


def test_a_picture_that_fails_costs_a_warning_and_nothing_else(tmp_path):
    with pytest.warns(UserWarning, match=r"no picture of samples after epoch 1: DataError.*NaN") as caught:
        trainer = train(tmp_path, [Samples(1), LossCurves(1)], model=BrokenSamples(), epochs=2)
    assert trainer.current_epoch == 2
    assert sum("no picture" in str(w.message) for w in caught) == 2
    assert figures(tmp_path) == ["loss_curves.png", "loss_curves/epoch_0001.png", "loss_curves/epoch_0002.png"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Reconstructions(splits=("train", "dev")), "no split 'dev'"),
        (lambda: Reconstructions(splits=("test",)), "needs 1 of split 'test', which holds 0"),
        (lambda: Interpolations(split="tset"), "no split 'tset'"),
        (lambda: LatentSpace(factor="depth"), "no factor 'depth'; they have height, width"),
        (lambda: Samples(num_samples=0), "num_samples is 0"),
        (lambda: Samples(every_n_epochs=-1), "every_n_epochs is -1"),
        (lambda: Interpolations(steps=1), "steps is 1"),
        (lambda: Reconstructions(splits="train"), "splits is 'train'"),
        (lambda: LossCurves(quantities=()), "quantities is"),
        (lambda: LossCurves(quantities=("loss+", "kl")), r"quantities holds 'loss\+'"),
        (lambda: LatentSpace(perplexity=0.5), "perplexity is 0.5"),
    ],
)
def test_a_mistake_is_found_before_the_training(tmp_path, make, says):
    model = LinearAE()
    before = model.encoder.weight.clone()
    with pytest.raises(ConfigurationError, match=says):
        train(tmp_path, [make()], model=model)
    assert torch.equal(before, model.encoder.weight)


def test_without_a_datamodule_the_remedy_is_named(tmp_path):
    trainer = pl.Trainer(max_epochs=1, callbacks=[Reconstructions()], logger=False, enable_checkpointing=False)
    with pytest.raises(ConfigurationError, match=r"datamodule=…"):
        trainer.fit(LinearAE(), Tiny().train_dataloader())


def test_a_latent_space_is_coloured_by_class_factor_or_nothing(tmp_path):
    pictures = {}
    for name, labelled, factored, factor in (
        ("class", True, True, None),
        ("factor", False, True, None),
        ("chosen", True, True, "width"),
        ("nothing", False, False, None),
    ):
        callbacks = [LatentSpace(1, num_points=12, factor=factor)]
        train(tmp_path / name, callbacks, data=Tiny(labelled=labelled, factored=factored), epochs=1)
        pictures[name] = (tmp_path / name / "figures" / "latent_space.png").read_bytes()
    assert len(set(pictures.values())) == 4


# ── latent usage ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Variational(LinearAE):
    """Knows, after each validation, a KL for each of its dimensions."""

    def on_validation_epoch_end(self):
        self.kl_per_dimension = (self.current_epoch + 1) * torch.tensor([0.5, 0.001, 2.0])


def test_latent_usage_is_drawn_written_and_logged(tmp_path, monkeypatch):
    tables, titles = [], []
    monkeypatch.setattr("pcgen.callbacks._picture.log_table", lambda trainer, *table: tables.append(table))
    bars = latent_usage.draw_bars
    monkeypatch.setattr(latent_usage, "draw_bars", lambda kl, **o: titles.append(o["title"]) or bars(kl, **o))
    train(tmp_path, [LatentUsage(2)], model=Variational(), epochs=3)
    assert figures(tmp_path) == [
        "latent_usage.png", "latent_usage/epoch_0002.png", "latent_usage/epoch_0003.png",
    ]  # fmt: skip
    assert titles[0] == "2 of 3 latent dimensions are active, 5.0 nats in all (epoch 2)"
    head, *rows = [line.split(",") for line in (tmp_path / "kl_per_dimension.csv").read_text().splitlines()]
    assert head == ["dimension", "kl"]
    assert [int(row[0]) for row in rows] == [0, 1, 2]  # in their order, not by size
    assert [float(row[1]) for row in rows] == pytest.approx([1.5, 0.003, 6.0])
    assert [(name, step) for name, _, _, step in tables] == [("kl_per_dimension", 7), ("kl_per_dimension", 11)]
    assert tables[-1][1] == ("dimension", "kl")
    assert [list(map(str, row)) for row in tables[-1][2]] == rows
    assert not list(tmp_path.glob(".*part*"))


def test_latent_usage_of_a_model_without_a_kl_is_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no picture")
        train(tmp_path, [LatentUsage(1)], epochs=1)
    assert figures(tmp_path) == []
    assert not (tmp_path / "kl_per_dimension.csv").exists()


# ── loss curves ───────────────────────────────────────────────────────────────────────────────────────────────────────


def logged(folder, name):
    lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    column = lines[0].index(name)
    return [float(line[column]) for line in lines[1:] if line[column]]


def test_curves_are_what_was_logged(tmp_path):
    curves = LossCurves(1)
    train(tmp_path, [curves], epochs=4)
    assert set(curves.history) == {"train/loss", "val/loss"}
    for name, pairs in curves.history.items():
        assert [epoch for epoch, _ in pairs] == [1, 2, 3, 4]
        assert np.allclose([value for _, value in pairs], logged(tmp_path, name))


def test_a_validation_now_and_then_is_noted_only_when_it_was(tmp_path):
    curves = LossCurves(1)
    train(tmp_path, [curves], epochs=4, check_val_every_n_epoch=2)
    assert [epoch for epoch, _ in curves.history["val/loss"]] == [2, 4]
    assert [epoch for epoch, _ in curves.history["train/loss"]] == [1, 2, 3, 4]


def test_a_resumed_training_goes_on_with_its_curve(tmp_path):
    whole = LossCurves(1)
    train(tmp_path / "whole", [whole], epochs=4)
    first, second = LossCurves(1), LossCurves(1)
    train(tmp_path / "first", [first], epochs=2).save_checkpoint(tmp_path / "half.ckpt")
    plain = torch.load(tmp_path / "half.ckpt", weights_only=True)  # plain values alone, or this raises
    assert any("LossCurves" in key for key in plain["callbacks"])
    train(tmp_path / "second", [second], epochs=4, ckpt_path=tmp_path / "half.ckpt")
    for name in ("train/loss", "val/loss"):
        assert second.history[name][:2] == first.history[name]
        assert [epoch for epoch, _ in second.history[name]] == [epoch for epoch, _ in whole.history[name]]


class TwoPlayers(LinearAE):
    """Logs one quantity in training alone, one in validation alone, and one that is negative."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log_dict({"train/critic": -loss, "train/share": loss}, on_step=False, on_epoch=True, batch_size=8)
        return loss

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.log_dict({"val/critic": -1.0, "val/diversity": 0.5}, batch_size=8)


def test_a_group_of_quantities_shares_a_panel(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(loss_curves, "draw_curves", lambda *a, **k: drawn.append((a, k)) or draw_curves(*a, **k))
    quantities = ("loss+critic+margin", "share", "diversity", "critic")
    first, second = LossCurves(1, quantities=quantities), LossCurves(1, quantities=quantities)
    train(tmp_path / "first", [first], model=TwoPlayers(), epochs=2).save_checkpoint(tmp_path / "half.ckpt")
    train(tmp_path / "second", [second], model=TwoPlayers(), epochs=3, ckpt_path=tmp_path / "half.ckpt")
    (history,), how = drawn[-1]
    assert how["panels"] == [["loss", "critic", "margin"], ["share"], ["diversity"], ["critic"]]
    assert list(history) == ["train/loss", "val/loss", "train/critic", "val/critic", "train/share", "val/diversity"]
    assert all([x for x, _ in pairs] == [1, 2, 3] for pairs in history.values())
    assert [value for _, value in history["val/diversity"]] == [0.5] * 3
    assert {name: pairs[:2] for name, pairs in second.history.items()} == first.history
    assert "loss_curves/epoch_0003.png" in figures(tmp_path / "second")
    other = LossCurves(1, quantities=("share",))  # other quantities than those of the checkpoint
    other.load_state_dict(second.state_dict())
    assert other.draw(None, None, 3) is not None
    assert list(drawn[-1][0][0]) == ["train/share"]


def test_curves_of_nothing_say_what_is_logged(tmp_path):
    with pytest.warns(UserWarning, match=r"none of speed is logged; the model logs train/loss, val/loss") as caught:
        train(tmp_path, [LossCurves(1, quantities=("speed",))], epochs=2)
    assert sum("none of speed" in str(w.message) for w in caught) == 1
    assert figures(tmp_path) == []


# ── elsewhere ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_logger_the_root_folder_is_the_runs(tmp_path):
    train(tmp_path, [Samples(1)], logger=False, epochs=1)
    assert figures(tmp_path) == ["samples.png", "samples/epoch_0001.png"]


def test_a_fast_development_run_draws_and_writes_nothing(tmp_path):
    train(tmp_path, all_callbacks(), fast_dev_run=True)
    assert not (tmp_path / "figures").exists()
    with pytest.warns(UserWarning, match="no picture of samples"):
        train(tmp_path, [Samples()], model=BrokenSamples(), fast_dev_run=True)


def test_a_config_can_write_the_callbacks_down():
    from jsonargparse import ArgumentParser

    for kind in (Samples, Reconstructions, Interpolations, LatentSpace, LatentUsage, LossCurves):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(kind, "picture")
        text = parser.dump(parser.get_defaults())
        assert isinstance(parser.instantiate(parser.parse_string(text)).picture, kind)


def test_two_processes_draw_each_figure_once(tmp_path, together):
    together(Path(__file__), [tmp_path], tmp_path)
    written = (tmp_path / "written.txt").read_text().splitlines()
    assert len(written) == len(set(written)) == 10  # five pictures, each as epoch_0001.png and as the latest
    assert len(figures(tmp_path)) == 10
    ranks = {line.split()[0] for line in written}
    assert ranks == {"0"}
    assert (tmp_path / "ranks.txt").read_text().split() in (["0", "1"], ["1", "0"])  # both took part


class Witness(pl.Callback):
    """Notes every rank that reaches the end."""

    def on_fit_end(self, trainer, pl_module):
        with Path(trainer.default_root_dir, "ranks.txt").open("a") as file:
            file.write(f"{trainer.global_rank} ")


def noting(save_png, folder):
    def save(path, image):
        with Path(folder, "written.txt").open("a") as file:
            file.write(f"{pl.utilities.rank_zero_only.rank} {path}\n")
        save_png(path, image)

    return save


if __name__ == "__main__":
    from pcgen.callbacks import _picture

    _picture.save_png = noting(_picture.save_png, sys.argv[1])
    train(sys.argv[1], [*all_callbacks(), Witness()], epochs=1, devices=2, strategy="ddp")
