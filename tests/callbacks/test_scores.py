"""The score callbacks in real fits: what is logged, written, printed, skipped, and left undisturbed."""

import json
import warnings

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from pcgen.base import Batch, DataModule, GenerativeModel, verb
from pcgen.callbacks import ReconstructionQuality, SetScores
from pcgen.errors import ConfigurationError
from pcgen.metrics import Scores, draw, evaluate_sets, pairs
from pcgen.metrics.extractors import save_extractor
from pcgen.nets import PointNetEncoder
from pcgen.ops import chamfer_distance, earth_mover_distance, pairwise_chamfer_distance

N = 16
KEYS = ("mmd_cd", "cov_cd", "1nna_cd", "jsd", "share_outside_ball", "reference_share_outside_ball")


class Blobs(DataModule):
    sample_shape = (N, 3)
    class_names = ("blob",)

    def __init__(self, count: int = 40, batch_size: int = 8):
        super().__init__()
        self.count, self.batch_size = count, batch_size
        self.normalization = {"scope": "shape", "region": "ball", "radius": 1.0}

    def clouds(self, split):
        count = self.count if split == "train" else 12
        g = torch.Generator().manual_seed(("train", "val", "test").index(split))
        x = torch.randn(count, N, 3, generator=g) * (0.2 + torch.rand(count, 1, 3, generator=g))
        return x / x.norm(dim=-1).amax(1)[:, None, None]

    def take(self, split, n=None, *, seed=None):
        x = self.clouds(split)
        order = torch.arange(len(x)) if seed is None else torch.randperm(len(x), generator=_generator(seed))
        return Batch(x[order[: len(x) if n is None else n]])

    def _loader(self, split):
        return DataLoader([Batch(x) for x in self.clouds(split)], self.batch_size, collate_fn=_collate)

    def train_dataloader(self):
        return self._loader("train")

    def val_dataloader(self):
        return self._loader("val")

    def test_dataloader(self):
        return self._loader("test")


def unsquared(a, b, progress=None):
    return pairwise_chamfer_distance(a, b, norm=1, progress=progress)


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _collate(batches):
    return Batch(torch.stack([b.x for b in batches]))


class Tiny(GenerativeModel):
    def __init__(self, latent_dim: int = 3):
        super().__init__()
        self.sample_shape, self.latent_dim = (N, 3), latent_dim
        self.encoder, self.decoder = nn.Linear(N * 3, latent_dim), nn.Linear(latent_dim, N * 3)
        self.optimizer = lambda parameters: torch.optim.Adam(parameters, lr=1e-2)

    @verb
    def prior(self, n, *, generator=None):
        return torch.randn(n, self.latent_dim, generator=generator).to(self.device)

    @verb
    def encode(self, x):
        return self.encoder(x.flatten(1))

    @verb
    def decode(self, z):
        torch.rand(1)  # a model that is careless with the global generator
        return torch.tanh(self.decoder(z)).unflatten(1, (N, 3))

    def training_step(self, batch, index):
        noise = 0.01 * torch.randn_like(batch.x)
        return nn.functional.mse_loss(
            torch.tanh(self.decoder(self.encoder((batch.x + noise).flatten(1)))).view_as(batch.x), batch.x
        )

    def validation_step(self, batch, index):
        self.log("val/loss", nn.functional.mse_loss(self.reconstruct(batch.x), batch.x))

    def test_step(self, batch, index):
        self.log("test/loss", nn.functional.mse_loss(self.reconstruct(batch.x), batch.x))


class Adversarial(Tiny):
    """Steps two optimizers a batch, so that `global_step` is twice the number of batches."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=1e-2) for part in (self.encoder, self.decoder)]

    def training_step(self, batch, index):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(Tiny.training_step(self, batch, index))
            optimizer.step()


class Sampler(Adversarial):
    """Draws and decodes alone, and is trained by two optimizers, as a GAN."""

    encode = GenerativeModel.encode

    def validation_step(self, batch, index):
        pass


class Mute(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch, index):
        return self.layer(batch.x).mean()

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Diverged(Tiny):
    @verb
    def decode(self, z):
        return torch.full((len(z), N, 3), torch.nan)


def trainer(folder, *callbacks, epochs=4, **others):
    return Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=list(callbacks), default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        **{"logger": CSVLogger(folder), "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
           **others},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _seeded():
    seed_everything(0, verbose=False)


def metrics_file(folder):
    rows = (folder / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    head = rows[0].split(",")
    return [dict(zip(head, row.split(","), strict=True)) for row in rows[1:]]


@pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")
class TestSetScores:
    def test_fit_logs_writes_prints_and_a_checkpoint_is_chosen_by_it(self, tmp_path, capsys):
        checkpoint = ModelCheckpoint(tmp_path / "best", monitor="val/mmd_cd", every_n_epochs=2, filename="{epoch}")
        fit = trainer(tmp_path, SetScores(num_clouds=10, every_n_epochs=2), checkpoint)
        model, data = Tiny(), Blobs()
        fit.fit(model, datamodule=data)

        scored = [row for row in metrics_file(tmp_path) if row["val/mmd_cd"]]
        assert [row["epoch"] for row in scored] == ["1", "3"]  # and not again at the end
        assert all(row[f"oracle/{key}"] and row[f"val/{key}"] for row in scored for key in KEYS)
        best = min(scored, key=lambda row: float(row["val/mmd_cd"]))
        assert f"epoch={best['epoch']}" in checkpoint.best_model_path
        assert checkpoint.best_model_score.item() == pytest.approx(float(best["val/mmd_cd"]), rel=1e-6)

        scores = Scores.load(tmp_path / "lightning_logs" / "version_0" / "scores.json")
        again = evaluate_sets(
            draw(model, 10), data.take("val", 10).x, oracle=data.take("train", 10, seed=0).x,
            data="Blobs (blob)", split="val", normalization=data.normalization, chunk=64,
        )  # fmt: skip
        assert scores.to_json() == again.to_json()  # what the command line finds for the same weights
        out = capsys.readouterr().out
        assert "oracle" in out
        assert "MMD-CD" in out

    def test_scores_at_the_end_if_the_last_epoch_was_not_due(self, tmp_path):
        fit = trainer(tmp_path, SetScores(num_clouds=6, every_n_epochs=3))
        fit.fit(Tiny(), datamodule=Blobs())
        scored = [row for row in metrics_file(tmp_path) if row["val/mmd_cd"]]
        assert [row["epoch"] for row in scored] == ["2", "3"]
        assert scored[0]["val/mmd_cd"] != scored[1]["val/mmd_cd"]
        assert float(scored[0]["oracle/mmd_cd"]) == pytest.approx(float(scored[1]["oracle/mmd_cd"]), rel=1e-6)
        losses = {row["epoch"]: row["step"] for row in metrics_file(tmp_path) if row["val/loss"]}
        assert [row["step"] for row in scored] == [losses["2"], losses["3"]] == ["14", "19"]

    def test_the_final_row_stands_beside_the_epochs_averages_with_two_optimizers_too(self, tmp_path):
        trainer(tmp_path, SetScores(num_clouds=6, every_n_epochs=0), epochs=2).fit(Adversarial(), datamodule=Blobs())
        rows = metrics_file(tmp_path)
        (scored,) = [row for row in rows if row["val/mmd_cd"]]
        assert scored["step"] == [row["step"] for row in rows if row["val/loss"]][-1] == "9"

    def test_the_end_alone_and_without_loggers(self, tmp_path):
        trainer(tmp_path, SetScores(num_clouds=6, every_n_epochs=0), logger=False).fit(Tiny(), datamodule=Blobs())
        assert Scores.load(tmp_path / "scores.json").protocol.num_generated == 6

    def test_training_goes_on_as_if_nothing_had_been_drawn(self, tmp_path):
        weights = []
        for callbacks in ([], [SetScores(num_clouds=6, every_n_epochs=1), ReconstructionQuality(every_n_epochs=1)]):
            seed_everything(1, verbose=False)
            model = Tiny()
            trainer(tmp_path, *callbacks, logger=False).fit(model, datamodule=Blobs())
            weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        assert torch.equal(*weights)

    def test_split_smaller_than_asked(self, tmp_path):
        callback = SetScores(num_clouds=500, every_n_epochs=1)
        fit = trainer(tmp_path, callback, epochs=1)
        fit.fit(Tiny(), datamodule=Blobs())
        scores = Scores.load(tmp_path / "lightning_logs" / "version_0" / "scores.json")
        assert scores.protocol.num_generated == scores.protocol.num_reference == 12

    def test_too_few_training_clouds_for_an_oracle(self, tmp_path):
        with pytest.warns(UserWarning, match="5 training clouds for 8 references"):
            trainer(tmp_path, SetScores(num_clouds=8, every_n_epochs=0)).fit(Tiny(), datamodule=Blobs(count=5))
        assert not Scores.load(tmp_path / "lightning_logs" / "version_0" / "scores.json").oracle

    def test_validate_and_test(self, tmp_path, capsys):
        fit = trainer(tmp_path, SetScores(num_clouds=6))
        model = Tiny()
        (validated,) = fit.validate(model, datamodule=Blobs(), verbose=False)
        assert {f"val/{key}" for key in KEYS} <= set(validated)
        (tested,) = fit.test(model, datamodule=Blobs(), verbose=False)
        assert {f"test/{key}" for key in KEYS} <= set(tested)
        assert tested["test/mmd_cd"] != validated["val/mmd_cd"]
        assert (tmp_path / "lightning_logs" / "version_0" / "scores_test.json").exists()
        assert "test data" in capsys.readouterr().out

    def test_a_model_that_cannot_sample_is_skipped_with_one_warning(self, tmp_path):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer(tmp_path, SetScores(every_n_epochs=1), ReconstructionQuality(every_n_epochs=1)).fit(
                Mute(), datamodule=Blobs()
            )
        said = [str(w.message) for w in caught if "Mute cannot" in str(w.message)]
        assert sorted(said) == [
            "no scores of reconstructions: Mute cannot reconstruct",
            "no scores of samples: Mute cannot sample",
        ]

    def test_a_model_that_cannot_encode_is_scored_by_its_samples(self, tmp_path):
        model, callbacks = Sampler(), [SetScores(num_clouds=6, every_n_epochs=2), ReconstructionQuality()]
        with pytest.warns(UserWarning, match="Sampler cannot reconstruct"):
            trainer(tmp_path, *callbacks, epochs=3).fit(model, datamodule=Blobs())
        scored = [row["epoch"] for row in metrics_file(tmp_path) if row["val/mmd_cd"]]
        assert scored[0] == "1"  # and the final weights of epoch 2 besides
        assert len(scored) == 2
        scores = Scores.load(tmp_path / "lightning_logs" / "version_0" / "scores.json")
        by_hand = evaluate_sets(draw(model, 6, 0), Blobs().take("val", 6).x, radius=1.0)
        assert scores.values["mmd_cd"] == pytest.approx(by_hand.values["mmd_cd"], rel=1e-6)

    def test_data_that_come_without_a_datamodule(self, tmp_path):
        data = Blobs()
        with pytest.warns(UserWarning, match="no pcgen datamodule"):
            trainer(tmp_path, SetScores(every_n_epochs=1), epochs=1).fit(
                Tiny(), data.train_dataloader(), data.val_dataloader()
            )

    def test_nan_samples_give_nan_scores_and_the_fit_goes_on(self, tmp_path):
        fit = trainer(tmp_path, SetScores(num_clouds=6, every_n_epochs=1), epochs=2)
        with pytest.warns(UserWarning, match="NaN.*6 of the 6 generated"):
            fit.fit(Diverged(), datamodule=Blobs())
        assert fit.current_epoch == 2
        assert np.isnan(fit.callback_metrics["val/mmd_cd"].item())
        scores = Scores.load(tmp_path / "lightning_logs" / "version_0" / "scores.json")
        assert np.isnan(scores.values["mmd_cd"])
        assert np.isfinite(scores.oracle["mmd_cd"])

    def test_several_distances_and_features(self, tmp_path, monkeypatch):
        squares = pairs.DISTANCES["cd"]._replace(definition="Chamfer of distances", pairwise=unsquared)
        monkeypatch.setitem(pairs.DISTANCES, "cd1", squares)
        card = {"name": "mine-v1", "input": {"kind": "clouds", "radius": 1.0, "up_axis": 2}}
        save_extractor(tmp_path / "net.pt", PointNetEncoder(widths=[4, 8]), nn.Linear(8, 2), card)
        callback = SetScores(num_clouds=6, distances=["cd", "cd1"], extractor=str(tmp_path / "net.pt"))
        fit, model, data = trainer(tmp_path, callback), Tiny(), Blobs()
        (tested,) = fit.test(model, datamodule=data, verbose=False)
        x, y = data.take("test", 6).x, draw(model, 6)
        d = torch.cdist(y[:, None].double(), x[None].double())  # (6, 6, N, N)
        expected = (d.amin(2).mean(-1) + d.amin(3).mean(-1)).amin(0).mean().item()
        assert tested["test/mmd_cd1"] == pytest.approx(expected, rel=1e-5)
        assert tested["test/mmd_cd1"] != pytest.approx(tested["test/mmd_cd"], rel=0.1)
        assert {"test/fpd", "test/kid", "oracle/fpd"} <= set(tested)
        scores = Scores.load(tmp_path / "lightning_logs" / "version_0" / "scores_test.json")
        assert scores.protocol.extractor.startswith("mine-v1:")
        assert any("fewer clouds than the 8 features" in remark for remark in scores.remarks)

    def test_bad_arguments(self):
        with pytest.raises(ConfigurationError, match="num_clouds 0"):
            SetScores(num_clouds=0)
        with pytest.raises(ConfigurationError, match="every_n_epochs -1"):
            ReconstructionQuality(every_n_epochs=-1)


@pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")
class TestReconstructionQuality:
    def test_logs_both_splits_side_by_side(self, tmp_path):
        fit = trainer(tmp_path, ReconstructionQuality(num_clouds=9, every_n_epochs=2))
        model, data = Tiny(), Blobs()
        fit.fit(model, datamodule=data)
        rows = [row for row in metrics_file(tmp_path) if row.get("val/chamfer")]
        assert [row["epoch"] for row in rows] == ["1", "3"]
        for split in ("train", "val"):
            x = data.take(split, 9).x.double()
            y = model.reconstruct(x).double()
            d = torch.cdist(x, y) ** 2
            expected = (d.amin(1).mean(1) + d.amin(2).mean(1)).mean().item()
            assert float(rows[-1][f"{split}/chamfer"]) == pytest.approx(expected, rel=1e-5)
            assert 0 <= float(rows[-1][f"{split}/own_reconstruction_coverage"]) <= 1
            assert float(rows[-1][f"{split}/reconstruction_coverage"]) <= 1

    def test_logs_the_distances_that_are_asked_for(self, tmp_path):
        callback = ReconstructionQuality(
            num_clouds=5, coverage=False, distances=["emd", "emd_squared"], sinkhorn_blur=0.2
        )
        model, data = Tiny(), Blobs()
        (logged,) = trainer(tmp_path, callback).validate(model, datamodule=data, verbose=False)
        x = data.take("val", 5).x
        expected = earth_mover_distance(x, model.reconstruct(x)).mean().item()
        assert logged["val/emd"] == pytest.approx(expected, rel=1e-5)
        assert {"train/emd", "train/emd_squared", "val/emd_squared", "val/sinkhorn_0.2"} <= set(logged)
        assert "val/chamfer" not in logged
        with pytest.raises(ConfigurationError, match="there is no distance emc"):
            ReconstructionQuality(distances=["emc"])

    @pytest.mark.parametrize(("every", "epochs"), [(3, ["2", "3"]), (0, ["3"]), (1, ["0", "1", "2", "3"])])
    def test_the_final_weights_are_scored_once_whatever_their_epoch(self, tmp_path, every, epochs):
        callback = ReconstructionQuality(num_clouds=9, every_n_epochs=every, coverage=False)
        model, data = Tiny(), Blobs()
        trainer(tmp_path, callback).fit(model, datamodule=data)
        rows = metrics_file(tmp_path)
        scored = [row for row in rows if row["val/chamfer"]]
        assert [row["epoch"] for row in scored] == epochs
        losses = {row["epoch"]: row["step"] for row in rows if row["val/loss"]}
        assert [row["step"] for row in scored] == [losses[epoch] for epoch in epochs]
        for split in ("train", "val"):
            x = data.take(split, 9).x
            expected = chamfer_distance(x, model.reconstruct(x)).mean().item()
            assert float(scored[-1][f"{split}/chamfer"]) == pytest.approx(expected, rel=1e-5)

    def test_without_validation_the_training_split_is_scored_at_the_end(self, tmp_path):
        trainer(tmp_path, ReconstructionQuality(num_clouds=9), limit_val_batches=0).fit(Tiny(), datamodule=Blobs())
        (row,) = [row for row in metrics_file(tmp_path) if row.get("train/chamfer")]
        assert row["epoch"] == "3"
        assert "val/chamfer" not in row

    def test_test_logs_the_test_split(self, tmp_path):
        fit = trainer(tmp_path, ReconstructionQuality(coverage=False))
        (tested,) = fit.test(Tiny(), datamodule=Blobs(), verbose=False)
        assert {"train/chamfer", "test/chamfer"} <= set(tested)
        assert "test/reconstruction_coverage" not in tested

    def test_nan_reconstructions(self, tmp_path):
        fit = trainer(tmp_path, ReconstructionQuality(every_n_epochs=1), epochs=1)
        with pytest.warns(UserWarning, match="scores of reconstructions are NaN"):
            fit.fit(Diverged(), datamodule=Blobs())
        assert np.isnan(fit.callback_metrics["val/own_reconstruction_coverage"].item())


PROGRAM = """
import importlib.util, json, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
spec = importlib.util.spec_from_file_location("scores_under_test", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
folder, devices = Path(sys.argv[2]), int(sys.argv[3])
import torch
torch.set_num_threads(1)
fit = module.trainer(folder, module.SetScores(num_clouds=11, chunk=3), module.ReconstructionQuality(num_clouds=40),
                     devices=devices, strategy="ddp" if devices > 1 else "auto", logger=False)
torch.manual_seed(0)
(result,) = fit.test(module.Tiny(), datamodule=module.Blobs(), verbose=False)
print(f"rank {fit.global_rank} " + json.dumps(result))
"""


@pytest.mark.parametrize("devices", [3])
def test_several_processes_score_what_one_does(tmp_path, together, devices):
    results = {}
    for count in (1, devices):
        folder = tmp_path / str(count)
        folder.mkdir()
        said = together(PROGRAM, [__file__, folder, count], folder, count)[0]
        (line,) = [line for line in said.splitlines() if line.startswith("rank 0 ")]
        results[count] = (folder / "scores_test.json").read_text(), json.loads(line.removeprefix("rank 0 "))
    assert results[1][0] == results[devices][0]  # to the last bit
    scores = {k: v for k, v in results[1][1].items() if k != "test/loss"}
    assert scores == {k: v for k, v in results[devices][1].items() if k != "test/loss"}
    assert {"test/own_reconstruction_coverage", "test/mmd_cd"} <= set(scores)
