"""What reaches TensorBoard and W&B (the real libraries, W&B offline), and what CSV leaves to the files."""

import functools
import io
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from _event_files import of_tensorboard, records, values
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from torch import nn

from pcgen.base import GenerativeModel, verb
from pcgen.callbacks import Samples
from pcgen.callbacks._logging import log_clouds, log_image, log_table, run_folder
from pcgen.errors import DataError

N = 20
RNG = np.random.default_rng(0)
CLOUDS = RNG.normal(size=(2, N, 3)).astype(np.float32)
PICTURE = RNG.integers(0, 256, size=(12, 16, 3), dtype=np.uint8)


class Noise(GenerativeModel):
    """A cloud of independent points, scaled by one parameter."""

    def __init__(self, sample_shape: tuple[int, ...] = (N, 3)):
        super().__init__()
        self.sample_shape = tuple(sample_shape)
        self.scale = nn.Parameter(torch.ones(()))
        self.optimizer, self.lr_scheduler = functools.partial(torch.optim.SGD, lr=0.1), None

    @verb
    def sample(self, n, *, generator=None):
        return self.scale * torch.randn(n, *self.sample_shape, generator=generator)

    def training_step(self, batch, batch_idx):
        loss = (self.scale - batch[0].std()).square()
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=4)
        return loss


def fit(folder, loggers, callbacks=(), epochs=2):
    trainer = pl.Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        logger=loggers,
        callbacks=list(callbacks),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )
    data = torch.utils.data.TensorDataset(torch.randn(12, N, 3))
    trainer.fit(Noise(), torch.utils.data.DataLoader(data, batch_size=4))
    return trainer


def decoded(event):
    return np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))


@pytest.fixture
def offline_wandb(tmp_path, monkeypatch):
    import wandb

    for variable in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "wandb_home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield wandb
    wandb.finish()


def history(run_file):
    """Rows that an offline run's file holds."""
    return [values(r.history.item) for r in records(run_file) if r.WhichOneof("record_type") == "history"]


def test_tensorboard_gets_the_picture_and_the_clouds_at_the_step_of_the_epochs_averages(tmp_path):
    fit(tmp_path, TensorBoardLogger(tmp_path, name="", version=""), [Samples(1, num_samples=2, num_objects=1)])
    found = of_tensorboard(tmp_path)
    images = found.Images("figures/samples")
    assert [image.step for image in images] == [event.step for event in found.Scalars("train/loss")] == [2, 5]
    for epoch, image in enumerate(images, start=1):
        on_disk = np.asarray(Image.open(tmp_path / "figures" / "samples" / f"epoch_{epoch:04d}.png"))
        assert (decoded(image) == on_disk).all()
    assert [event.step for event in found.Tensors("clouds/samples_VERTEX")] == [2, 5]


def test_wandb_gets_the_picture_and_one_object_for_each_cloud(tmp_path, offline_wandb):
    loggers = [CSVLogger(tmp_path, name="", version=""), WandbLogger(save_dir=tmp_path, project="p", offline=True)]
    fit(tmp_path, loggers, [Samples(1, num_samples=3, num_objects=2)])
    offline_wandb.finish()
    [run] = (tmp_path / "wandb").glob("offline-run-*")
    media = run / "files" / "media"
    pictures, objects = list(media.glob("images/figures/*.png")), list(media.glob("object3D/clouds/*.pts.json"))
    assert len(pictures) == 2  # epochs
    assert len(objects) == 4  # two clouds each
    latest = np.asarray(Image.open(tmp_path / "figures" / "samples.png"))
    assert any((np.asarray(Image.open(p)) == latest).all() for p in pictures)
    assert all(np.asarray(json.loads(path.read_text())).shape == (N, 3) for path in objects)
    rows = history(next(run.glob("*.wandb")))
    assert [row["figures/samples:_type"] for row in rows if "figures/samples:_type" in row] == ["images/separated"] * 2
    assert [row["clouds/samples:_type"] for row in rows if "clouds/samples:_type" in row] == ["object3D"] * 2
    steps = [row["trainer/global_step"] for row in rows]
    assert steps == sorted(steps)
    assert set(steps) == {2, 5}  # pictures stand where the averages stand
    internal = [row["_step"] for row in rows]
    assert internal == sorted(set(internal))  # W&B drops what goes back


def test_wandb_gets_tables_and_clouds_with_the_third_axis_up(tmp_path, offline_wandb):
    logger = WandbLogger(save_dir=tmp_path, project="p", offline=True)
    trainer = fit(tmp_path, logger, epochs=1)
    log_clouds(trainer, "clouds/mine", CLOUDS[:1], up_axis=1)
    log_table(trainer, "scores", ["who", "chamfer"], [["model", 0.25], ["oracle", 0.125]])
    offline_wandb.finish()
    [run] = (tmp_path / "wandb").glob("offline-run-*")
    [path] = run.glob("files/media/object3D/clouds/*.pts.json")
    stored = np.asarray(json.loads(path.read_text()), dtype=np.float32)
    assert np.allclose(stored[:, 2], CLOUDS[0][:, 1])
    assert np.allclose(stored[:, [2, 0, 1]], CLOUDS[0][:, [1, 2, 0]])  # cyclic: turned and not mirrored
    [table] = run.glob("files/media/table/*.json")
    assert json.loads(table.read_text())["data"] == [["model", 0.25], ["oracle", 0.125]]


def test_tensorboard_gets_tables_and_clouds_with_the_second_axis_up(tmp_path):
    trainer = fit(tmp_path, TensorBoardLogger(tmp_path, name="", version=""), epochs=1)
    log_table(trainer, "scores", ["who", "chamfer"], [["model", 0.25]], step=7)
    log_clouds(trainer, "clouds/mine", CLOUDS, step=7, up_axis=2)
    trainer.logger.experiment.flush()
    found = of_tensorboard(tmp_path)
    [table] = found.Tensors("scores/text_summary")
    assert table.step == 7
    assert b"| model | 0.25 |" in table.tensor_proto.string_val[0]
    from tensorboard.util.tensor_util import make_ndarray

    [mesh] = found.Tensors("clouds/mine_VERTEX")
    assert np.allclose(make_ndarray(mesh.tensor_proto)[..., 1], CLOUDS[..., 2])


def test_csv_takes_numbers_alone_and_is_passed_over(tmp_path):
    trainer = fit(tmp_path, CSVLogger(tmp_path, name="", version=""), epochs=1)
    log_image(trainer, "figures/mine", PICTURE)
    log_clouds(trainer, "clouds/mine", CLOUDS)
    log_table(trainer, "scores", ["a"], [[1.0]])
    assert {path.name for path in tmp_path.iterdir()} <= {"metrics.csv", "hparams.yaml"}


def test_the_step_counts_batches_and_can_be_chosen(tmp_path):
    trainer = fit(tmp_path, TensorBoardLogger(tmp_path, name="", version=""), epochs=1)
    log_image(trainer, "figures/mine", PICTURE)
    log_image(trainer, "figures/mine", PICTURE, step=42)
    trainer.logger.experiment.flush()
    stored = of_tensorboard(tmp_path).Images("figures/mine")
    assert [image.step for image in stored] == [3, 42]
    assert (decoded(stored[0]) == PICTURE).all()


@pytest.mark.parametrize(
    ("clouds", "says"),
    [
        (np.full((3, N, 3), np.nan), "3 of 3 clouds hold NaN"),
        (np.zeros((N, 3)), r"\(20, 3\)"),
        (np.zeros((2, N, 4)), r"\(2, 20, 4\)"),
    ],
)
def test_clouds_that_no_viewer_could_show_are_refused(clouds, says):
    with pytest.raises(DataError, match=says):
        log_clouds(SimpleNamespace(is_global_zero=True, loggers=[]), "clouds/mine", clouds, 0)


def test_only_rank_zero_logs():
    class Loud:
        def log_image(self, *arguments, **named):
            raise AssertionError("logged from another rank")

        log_table = log_image

    other = SimpleNamespace(is_global_zero=False, loggers=[Loud()])
    log_image(other, "a", PICTURE, 0)
    log_table(other, "a", ["b"], [[1]], 0)
    with pytest.raises(AssertionError):
        log_image(SimpleNamespace(is_global_zero=True, loggers=[Loud()]), "a", PICTURE, 0)


def test_the_run_folder_is_the_first_loggers_or_the_root(tmp_path):
    csv = CSVLogger(tmp_path, name="a", version="b")
    assert run_folder(pl.Trainer(logger=csv, default_root_dir=tmp_path)) == tmp_path / "a" / "b"
    assert run_folder(pl.Trainer(logger=False, default_root_dir=tmp_path)) == tmp_path
    assert run_folder(pl.Trainer(logger=WandbLogger(save_dir=tmp_path / "w"))) == tmp_path / "w"


def test_importing_the_callbacks_imports_no_logger_and_no_plotting():
    program = (
        "import sys, pytorch_lightning\n"
        "before = set(sys.modules)\n"
        "import pcgen.callbacks\n"
        "heavy = {'wandb', 'tensorboard', 'matplotlib', 'sklearn', 'scipy', 'PIL', 'numba'}\n"
        "assert not heavy & (set(sys.modules) - before)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
