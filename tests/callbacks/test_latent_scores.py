"""The scores of a code in real fits: what is logged and written, with and without factors, what is only warned of."""

import json
import math
import warnings

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from pcgen.base import Batch, DataModule, GenerativeModel, verb
from pcgen.callbacks import LatentScores
from pcgen.errors import ConfigurationError
from pcgen.metrics import LatentFactorScores
from pcgen.metrics import functional as F

pytestmark = pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")
SPLITS = ("train", "val", "test")


class Squares(DataModule):
    """Images of one bright square each: its two coordinates, a class of two, and one that never changes."""

    sample_shape = (1, 6, 6)
    factor_names = ("x", "y", "bright", "size")

    def __init__(self, count: int = 60, batch_size: int = 16, factors: bool = True):
        super().__init__()
        self.count, self.batch_size, self.factors, self.normalization = count, batch_size, factors, {}

    def take(self, split, n=None, *, seed=None):
        g = torch.Generator().manual_seed(SPLITS.index(split))
        place, bright = torch.rand(self.count, 2, generator=g), torch.randint(2, (self.count, 1), generator=g).float()
        grid = torch.linspace(0, 1, 6)
        near = [(-((grid - place[:, k : k + 1]) ** 2) / 0.05).exp() for k in (0, 1)]
        x = (0.5 + 0.5 * bright)[..., None] * near[0][:, None] * near[1][:, :, None]
        factors = torch.cat([place, bright, torch.full_like(bright, 3.0)], 1)
        return Batch(x[:, None][:n], None, factors[:n] if self.factors else None)

    def _loader(self, split):
        return DataLoader(self.take(split).x, self.batch_size)

    def train_dataloader(self):
        return self._loader("train")

    def val_dataloader(self):
        return self._loader("val")

    def test_dataloader(self):
        return self._loader("test")


class Encoder(GenerativeModel):
    def __init__(self, latent_dim: int = 3):
        super().__init__()
        self.sample_shape, self.latent_dim = (1, 6, 6), latent_dim
        self.encoder, self.decoder = nn.Linear(36, latent_dim), nn.Linear(latent_dim, 36)
        self.optimizer = lambda parameters: torch.optim.Adam(parameters, lr=1e-2)

    @verb
    def encode(self, x):
        torch.rand(1)  # a model that is careless with the global generator
        return self.encoder(x.flatten(1))

    def training_step(self, x, index):
        return nn.functional.mse_loss(self.decoder(self.encoder(x.flatten(1) + 0.01 * torch.randn(36))), x.flatten(1))

    def validation_step(self, x, index):
        self.log("val/loss", self.training_step(x, index))

    def test_step(self, x, index):
        self.log("test/loss", self.training_step(x, index))


class Uncertain(Encoder):
    @verb
    def encode(self, x):
        return self.posterior(x)[0]

    def posterior(self, x):
        mean = 0.05 * self.encoder(x.flatten(1))
        return mean, torch.zeros_like(mean)  # so the draws follow the prior, nearly, and the means do not vary


class Diverged(Encoder):
    @verb
    def encode(self, x):
        return torch.full((len(x), 3), torch.nan)


class Mute(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(36, 1)

    def training_step(self, x, index):
        return self.layer(x.flatten(1)).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder, *callbacks, epochs=4, **others):
    return Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=list(callbacks), default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1,
        **{"logger": CSVLogger(folder), **others},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _seeded():
    seed_everything(0, verbose=False)


def logged(folder):
    rows = (folder / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    head = rows[0].split(",")
    return [dict(zip(head, row.split(","), strict=True)) for row in rows[1:]]


def written(folder, file="latent_scores.json"):
    return json.loads((folder / "lightning_logs" / "version_0" / file).read_text())


def quick(**options):
    return LatentScores(**{"num_data": 50, "estimator": "lasso", "discrete": ["bright"], **options})


@pytest.mark.filterwarnings("ignore:scores of the code leave out")
def test_fit_logs_and_writes_what_the_metrics_say(tmp_path):
    model, data = Encoder(), Squares()
    trainer(tmp_path, quick(every_n_epochs=2)).fit(model, datamodule=data)
    rows = [row for row in logged(tmp_path) if row["latent/mmd2"]]
    assert [row["epoch"] for row in rows] == ["1", "3"]  # and not again at the end
    batch = data.take("val", 50)
    codes = model.encode(batch.x)
    metric = LatentFactorScores(discrete=[False, False, True, False], estimator="lasso")
    metric.update(codes * (codes.var(0, correction=0) > 0.01), batch.factors)  # the others carry nothing
    expected = {"mmd2": F.latent_mmd2(codes), "active_units": F.active_units(codes), **metric.compute()}
    found = written(tmp_path)
    assert list(found["scores"]) == list(expected)
    for name, value in expected.items():
        assert found["scores"][name] == pytest.approx(value.item(), rel=1e-12), name
        assert float(rows[-1][f"latent/{name}"]) == pytest.approx(value.item(), rel=1e-5, abs=1e-9), name
    assert found["mmd2_of_prior"] == F.latent_mmd2_of_prior(50, 3)._asdict()
    assert found["factors_left_out"] == ["size"]
    assert found["protocol"]["split"] == "val"
    assert found["protocol"]["num_data"] == 50


@pytest.mark.filterwarnings("ignore:scores of the code leave out")
@pytest.mark.parametrize(("every", "epochs"), [(3, ["2", "3"]), (0, ["3"])])
def test_the_final_weights_are_scored_once_whatever_their_epoch(tmp_path, every, epochs):
    trainer(tmp_path, quick(every_n_epochs=every)).fit(Encoder(), datamodule=Squares())
    rows = [row for row in logged(tmp_path) if row["latent/mmd2"]]
    assert [row["epoch"] for row in rows] == epochs
    assert written(tmp_path)["scores"]["mmd2"] == pytest.approx(float(rows[-1]["latent/mmd2"]), rel=1e-5)


def test_a_posterior_is_drawn_from_for_the_prior_and_its_means_count_as_units(tmp_path):
    model, data = Uncertain(), Squares(count=300, factors=False)
    (found,) = trainer(tmp_path, LatentScores(num_data=300)).validate(model, datamodule=data, verbose=False)
    assert set(found) == {"latent/mmd2", "latent/active_units", "val/loss"}
    assert abs(found["latent/mmd2"]) < 4 * F.latent_mmd2_of_prior(300, 3).std
    assert F.latent_mmd2(model.encode(data.take("val").x)) > 0.05
    assert found["latent/active_units"] == 0


def test_the_test_split_has_names_and_a_file_of_its_own(tmp_path):
    (found,) = trainer(tmp_path, quick(factor_names=["y"], discrete=[])).test(
        Encoder(), datamodule=Squares(), verbose=False
    )
    assert {"latent_test/mmd2", "latent_test/modularity"} <= set(found)
    file = written(tmp_path, "latent_scores_test.json")
    assert file["protocol"]["split"] == "test"
    assert 0 < file["scores"]["linear_informativeness"] <= 1


def test_factors_can_be_left_alone(tmp_path):
    (found,) = trainer(tmp_path, LatentScores(factor_names=[])).validate(Encoder(), datamodule=Squares(), verbose=False)
    assert "latent/modularity" not in found


def test_training_goes_on_as_if_nothing_had_been_scored(tmp_path):
    weights = []
    for callbacks in ([], [LatentScores(num_data=30, every_n_epochs=1, factor_names=[])]):
        seed_everything(1, verbose=False)
        model = Encoder()
        trainer(tmp_path, *callbacks, logger=False).fit(model, datamodule=Squares())
        weights.append(model.encoder.weight.detach().clone())
    assert torch.equal(*weights)


def test_what_cannot_be_scored_is_warned_of_once_and_costs_nothing_else(tmp_path):
    cases = {
        "no scores of the code: Mute cannot encode": (Mute(), Squares(), {}),
        "scores of the code leave out factors that are constant over the data: size": (Encoder(), Squares(), {}),
        "not scored against factors: every factor is constant over the 50 data (size)": (
            Encoder(), Squares(), {"factor_names": ["size"], "discrete": []},
        ),
        "not scored against factors: 10 data are too few": (Encoder(), Squares(), {"num_data": 10}),
        "the scores of the codes are NaN: some hold NaN": (Diverged(), Squares(), {}),
        "the scores of the codes are NaN: 1 data": (Encoder(), Squares(count=1), {}),
    }  # fmt: skip
    for message, (model, data, options) in cases.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit = trainer(tmp_path, quick(every_n_epochs=1, **options), epochs=2, logger=False)
            fit.fit(model, datamodule=data)
        assert fit.current_epoch == 2
        assert len([w for w in caught if message in str(w.message)]) == 1, (message, [str(w.message) for w in caught])
    assert json.loads((tmp_path / "latent_scores.json").read_text())["scores"]["mmd2"] is None
    with pytest.warns(UserWarning, match="no pcgen datamodule"):
        trainer(tmp_path, quick(), epochs=1, logger=False).fit(Encoder(), Squares().train_dataloader())


def test_nan_is_logged_so_that_a_plot_shows_the_gap(tmp_path):
    fit = trainer(tmp_path, quick(every_n_epochs=1), epochs=1)
    with pytest.warns(UserWarning, match="NaN"):
        fit.fit(Diverged(), datamodule=Squares())
    assert math.isnan(fit.callback_metrics["latent/mmd2"].item())


def test_bad_arguments(tmp_path):
    for options, message in (
        ({"num_data": 1}, "num_data 1"),
        ({"every_n_epochs": -1}, "every_n_epochs -1"),
        ({"split": "dev"}, "no split 'dev'; give one of train, val, test"),
        ({"estimator": "forest"}, "estimator is 'forest'"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            LatentScores(**options)
    for options, argument in (({"factor_names": ["z"]}, "factor_names"), ({"discrete": ["z"]}, "discrete")):
        with pytest.raises(ConfigurationError, match=f"{argument} holds 'z', but the factors.*x, y, bright, size"):
            trainer(tmp_path, LatentScores(**options), logger=False).fit(Encoder(), datamodule=Squares())


PROGRAM = """
import importlib.util, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
spec = importlib.util.spec_from_file_location("latent_scores_under_test", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
folder, devices = Path(sys.argv[2]), int(sys.argv[3])
import torch
torch.set_num_threads(1)
fit = module.trainer(folder, module.quick(num_data=41), devices=devices,
                     strategy="ddp" if devices > 1 else "auto", logger=False)
torch.manual_seed(0)
model = module.Encoder()
fit.test(model, datamodule=module.Squares(), verbose=False)
(folder / f"rank{fit.global_rank}.txt").write_text(repr(fit.callback_metrics["latent_test/sap"].item()))
"""


def test_two_processes_score_what_one_does(tmp_path, together):
    found = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        together(PROGRAM, [__file__, folder, count], folder, count)
        logged = [(folder / f"rank{rank}.txt").read_text() for rank in range(count)]
        found[count] = (set(logged), (folder / "latent_scores_test.json").read_text())
    assert found[1] == found[2]
    assert float(*found[1][0]) > 0
