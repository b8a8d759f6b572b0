"""The command line in process, and one tiny training that the tests share."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning  # noqa: F401 -- now, so that its log goes to a stream that outlives a single test

from pcgen.cli.main import main

CONFIG = """\
name: tiny
model:
  class_path: VAE
  init_args:
    encoder: {class_path: PointNetEncoder, init_args: {widths: [8, 16]}}
    decoder: {class_path: MLPDecoder, init_args: {latent_dim: 4, num_points: 32, widths: [16]}}
data:
  class_path: Shapes
  init_args: {num_points: 32, train_size: 24, val_size: 8, test_size: 8, batch_size: 8, classes: [chair, table]}
trainer:
  accelerator: cpu
  max_epochs: 2
  log_every_n_steps: 1
  enable_model_summary: false
  callbacks:
    - class_path: Samples
      init_args: {num_samples: 4}
    - class_path: LossCurves
    - class_path: SetScores
      init_args: {num_clouds: 8, every_n_epochs: 0, radius: 1.0}
"""


@dataclass
class Result:
    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that the command must have ended with."""
        lines = [line for line in self.err.splitlines() if not line.startswith("pcgen: warning: ")]
        assert self.status == 2, self
        assert len(lines) == 1, self.err
        assert lines[0].startswith("pcgen: error: "), self.err
        assert "Subtypes" not in lines[0]
        assert "Traceback" not in lines[0]
        return lines[0].removeprefix("pcgen: error: ")


@pytest.fixture
def cli(monkeypatch, tmp_path, tmp_path_factory, capsys):
    """Runs `pcgen …` in an empty folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PCGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("sys.argv", ["pcgen"])
    monkeypatch.delenv("PCGEN_RUN_FOLDER", raising=False)
    handler = signal.getsignal(signal.SIGINT)

    def run(*words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Result(status, *capsys.readouterr())

    yield run
    signal.signal(signal.SIGINT, handler)  # Lightning ignores it after an interruption
    os.environ.pop("PCGEN_RUN_FOLDER", None)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a finished run of two epochs."""
    home = tmp_path_factory.mktemp("trained")
    (home / "tiny.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr("sys.argv", ["pcgen"])
        patch.delenv("PCGEN_RUN_FOLDER", raising=False)
        assert main(["fit", "--config", "tiny.yaml", "--trainer.enable_progress_bar", "false"]) == 0
        os.environ.pop("PCGEN_RUN_FOLDER", None)
    (folder,) = (home / "runs" / "tiny").iterdir()
    return folder


@pytest.fixture
def tiny(tmp_path):
    """The config of the shared training, in the test's own folder."""
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path / "tiny.yaml"


@pytest.fixture
def clouds(tmp_path) -> Path:
    """Ten clouds in the unit ball."""
    points = np.random.default_rng(0).normal(size=(10, 32, 3))
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    np.save(tmp_path / "clouds.npy", points.astype(np.float32))
    return tmp_path / "clouds.npy"
