"""The trainer's verbs, end to end on tiny data."""

import csv
import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from pytorch_lightning import Callback

import pcgen
from pcgen.errors import DataError
from pcgen.io import read_clouds


def test_a_run_leaves_its_config_checkpoints_pictures_metrics_and_scores(trained):
    assert (trained / "checkpoints" / "last.ckpt").is_file()
    assert {p.name for p in (trained / "figures").glob("*.png")} == {"samples.png", "loss_curves.png"}
    rows = list(csv.DictReader((trained / "metrics.csv").open()))
    assert {row["epoch"] for row in rows if row["train/loss"]} == {"0", "1"}
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["values"].keys() == scores["oracle"].keys()
    assert scores["protocol"]["num_reference"] == 8


def test_the_saved_config_names_no_folder_and_no_checkpoint(trained):
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["name"] == "tiny"
    assert "ckpt_path" not in config
    assert trained.name not in (trained / "config.yaml").read_text()
    assert config["model"]["init_args"]["decoder"]["init_args"]["num_points"] == 32


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_the_other_verbs_read_a_runs_config_and_leave_the_run_alone(cli, trained, verb, tmp_path):
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    result = cli(verb, "--config", trained / "config.yaml", "--ckpt_path", trained / "checkpoints" / "last.ckpt")
    assert result.status == 0
    assert before == {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    assert folder.name.endswith(f"_{verb}")
    assert f"run         {folder.relative_to(tmp_path)}\n" in result.out
    if verb == "predict":
        model = pcgen.load(trained)
        x = pcgen.datamodules.Shapes(**model.data_info["recipe"]["init_args"]).take("test").x
        written = read_clouds(folder / "predictions.h5").points
        np.testing.assert_allclose(written, model.reconstruct(x).numpy(), rtol=1e-5, atol=1e-6)


def test_a_checkpoint_does_not_change_what_the_config_builds(cli, trained, tmp_path):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    content["hyper_parameters"] = {"_class_path": "pcgen.models.WAE", "mmd_weight": 3.0}
    torch.save(content, tmp_path / "changed.ckpt")
    assert cli("test", "--config", trained / "config.yaml", "--ckpt_path", "changed.ckpt").status == 0
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["class_path"] == "pcgen.models.VAE"


def test_a_finished_run_ends_with_where_everything_is(cli, tiny, tmp_path):
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    log = logging.getLogger("pytorch_lightning")
    log.addHandler(handler)
    result = cli("fit", "--config", tiny, "--trainer.max_epochs", 1)
    log.removeHandler(handler)
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    run = folder.relative_to(tmp_path)
    assert result.status == 0
    assert result.out.splitlines()[-4:] == [
        f"run         {run}",
        f"checkpoint  {run}/checkpoints/last.ckpt",
        f"pictures    {run}/figures",
        f"next        pcgen sample {run}/checkpoints/last.ckpt -n 16 --png samples.png",
    ]
    assert result.out.index("Epoch 0/0") < result.out.index("oracle") < result.out.index("run         ")
    assert any("GPU available" in message for message in said)
    assert not any("litlogger" in message for message in said)
    assert "LeafSpec" not in result.err


def test_print_config_is_a_config(cli, capsys, tmp_path):
    with pytest.raises(SystemExit):
        cli("fit", "--config", "quickstart", "--data.train_size", 7, "--print_config")
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["data"]["init_args"]["train_size"] == 7
    (tmp_path / "again.yaml").write_text(text)
    with pytest.raises(SystemExit):
        cli("fit", "--config", "again.yaml", "--print_config")
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--help"], ["--trainer.max_epochs", "--model.help", "--name"]),
        (["--model.help", "VAE"], ["--model.encoder", "variational", "--model.lr_scheduler"]),
        (["--data.help", "Shapes"], ["--data.train_size", "Shapes for training"]),
    ],
    ids=["all", "model", "data"],
)
def test_help(cli, capsys, words, expected):
    with pytest.raises(SystemExit) as stop:
        cli("fit", *words)
    out = capsys.readouterr().out
    assert not stop.value.code
    assert [text for text in expected if text.lower() not in out.lower()] == []


class Raise(Callback):
    """Fails, or is interrupted, at a chosen place."""

    def __init__(self, where: str, kind: str) -> None:
        self.where, self.kind = where, kind

    def setup(self, trainer, pl_module, stage):
        self._at("setup")

    def on_train_epoch_start(self, trainer, pl_module):
        self._at(f"epoch {trainer.current_epoch}")

    def _at(self, place: str) -> None:
        if place == self.where:
            raise {"ours": DataError("chair.off is empty"), "bug": RuntimeError("a bug"), "stop": KeyboardInterrupt()}[
                self.kind
            ]


@pytest.fixture
def fit_that_fails(cli, tiny, monkeypatch):
    """Runs a training with a callback that raises."""
    monkeypatch.setitem(sys.modules, "failing", sys.modules[Raise.__module__])

    def run(where, kind):
        config = yaml.safe_load(tiny.read_text())
        raising = {"class_path": "failing.Raise", "init_args": {"where": where, "kind": kind}}
        config["trainer"]["callbacks"] = [raising, {"class_path": "ModelCheckpoint", "init_args": {"save_last": True}}]
        tiny.write_text(yaml.safe_dump(config))
        return cli("fit", "--config", tiny, "--trust")

    return run


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Callbacks are named by their module, and pytest's names for test modules are none to import by."""
    module = sys.modules.get(Raise.__module__)
    if module is not None:
        monkeypatch.setitem(sys.modules, "failing", module)


def test_an_error_of_the_input_inside_the_trainer_is_one_line(fit_that_fails, tmp_path):
    assert fit_that_fails("setup", "ours").error == "chair.off is empty"
    assert not (tmp_path / "runs").exists()


def test_an_error_in_the_middle_says_where_the_checkpoint_is(fit_that_fails):
    result = fit_that_fails("epoch 1", "ours")
    assert result.error == "chair.off is empty"
    assert "checkpoint  runs/tiny/" in result.out


def test_an_unexpected_error_keeps_its_traceback(fit_that_fails):
    with pytest.raises(RuntimeError, match="a bug"):
        fit_that_fails("epoch 1", "bug")


def test_an_interrupted_run_says_where_its_checkpoint_is_and_how_to_go_on(cli, fit_that_fails):
    result = fit_that_fails("epoch 1", "stop")
    assert result.status == 130
    assert result.err.endswith("pcgen: interrupted\n")
    (going_on,) = [line for line in result.out.splitlines() if line.startswith("next ")]
    words = going_on.split()[2:]
    assert words[0] == "fit"
    assert "config.yaml" in words[2]
    assert os.path.exists(words[-1])  # noqa: PTH110 -- a word of a command


def test_without_a_checkpoint_it_says_so(fit_that_fails):
    result = fit_that_fails("epoch 0", "stop")
    assert result.status == 130
    assert "checkpoint  none yet" in result.out


def test_loggers_write_into_the_runs_folder(cli, tiny, tmp_path):
    pytest.importorskip("tensorboard")
    words = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", ".", "--trainer.max_epochs", 1]
    assert cli("fit", "--config", tiny, *words).status == 0
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    assert list(folder.rglob("events.out.tfevents.*"))
    assert (folder / "metrics.csv").is_file()
    assert {p.name for p in tmp_path.iterdir()} == {"runs", "tiny.yaml"}


def test_a_monitor_that_nobody_logs_is_one_line(cli, tiny):
    config = yaml.safe_load(tiny.read_text())
    config["trainer"]["callbacks"] = [{"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/foo"}}]
    tiny.write_text(yaml.safe_dump(config))
    result = cli("fit", "--config", tiny, "--trainer.enable_progress_bar", "false")
    assert result.status == 2
    assert "val/foo" in result.err.splitlines()[-1]
    assert result.err.splitlines()[-1].startswith("pcgen: error: ")


def test_resuming_goes_on_where_the_run_was(cli, trained, tmp_path):
    last = trained / "checkpoints" / "last.ckpt"
    result = cli("fit", "--config", trained / "config.yaml", "--ckpt_path", last, "--trainer.max_epochs", 3)
    assert result.status == 0
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert {row["epoch"] for row in rows if row["train/loss"]} == {"2"}


def test_a_checkpoint_samples_in_a_fresh_process_without_a_network(trained):
    code = f"""
import socket
class Refused(socket.socket):
    def __init__(self, *args, **kwargs):
        raise OSError("the network is not needed")
socket.socket = Refused
import pcgen
print(tuple(pcgen.load({str(trained)!r}).sample(16).shape))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=trained)
    assert done.stdout == "(16, 32, 3)\n", done.stderr


def test_two_processes_train_from_the_command_line_into_one_folder(tmp_path):
    """Lightning starts the other process with the words of this one."""
    shape = {"image_shape": [1, 8, 8]}
    model = {
        "class_path": "BetaVAE",
        "init_args": {
            "encoder": {"class_path": "ImageMLPEncoder", "init_args": {**shape, "widths": [8]}},
            "decoder": {"class_path": "ImageMLPDecoder", "init_args": {**shape, "latent_dim": 2, "widths": [8]}},
            "reconstruction": {"class_path": "BernoulliReconstruction"},
        },
    }
    sizes = {"image_size": 8, "radius": 2.0, "train_size": 16, "val_size": 4, "test_size": 4, "batch_size": 4}
    trainer = {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False, "enable_model_summary": False}
    experiment = {"name": "pair", "model": model, "data": {"class_path": "Dots", "init_args": sizes}}
    (tmp_path / "pair.yaml").write_text(yaml.safe_dump(experiment | {"trainer": trainer}))
    words = ["fit", "--config", "pair.yaml", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    (tmp_path / "run.py").write_text("from pcgen.cli.main import main\nraise SystemExit(main())\n")
    command = [sys.executable, "run.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (checkpoint,) = tmp_path.glob("runs/pair/*/checkpoints/last.ckpt")
    assert pcgen.load(checkpoint).step == 2  # of four data a process and step, two steps


def test_a_missing_autoencoder_is_told_how_to_be_had(cli):
    told = cli("fit", "--config", "latent-gan-shapes").err.splitlines()[-1]  # below Lightning's word on the seed
    assert told == (
        "pcgen: error: there is no checkpoint runs/quickstart: train one with pcgen fit --config quickstart, or give "
        "another as --model.autoencoder"
    )
    told = cli("fit", "--config", "latent-gan-shapes", "--model.autoencoder", "none.ckpt").err.splitlines()[-1]
    assert told == "pcgen: error: there is no checkpoint none.ckpt: give another as --model.autoencoder"
