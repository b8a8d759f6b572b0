"""The command line in process, and tiny trainings that the tests share: of clouds and of images."""

import os
import signal
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning  # noqa: F401 -- now, so that its log goes to a stream that outlives a single test
from _quick_cells import quick_cells

from pcgen.cli import config_errors
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

DOTS = """\
name: MODEL
model:
  class_path: MODEL
  init_args:
    encoder: {class_path: CNNEncoder, init_args: {image_shape: [1, 16, 16], channels: [4, 8], head_widths: [16]}}
    decoder: {class_path: CNNDecoder, init_args: {image_shape: [1, 16, 16], latent_dim: 3, channels: [8, 4]}}
    reconstruction: {class_path: BernoulliReconstruction}MORE
data:
  class_path: Dots
  init_args: {image_size: 16, radius: 3, train_size: 200, val_size: 20, test_size: 60}
trainer:
  accelerator: cpu
  max_epochs: 1
  log_every_n_steps: 1
  enable_model_summary: false
"""
DENOISING = """
    corruption:
      class_path: Compose
      init_args:
        corruptions:
          - class_path: SaltAndPepper
            init_args: {share: 0.2}
          - class_path: GaussianNoise
            init_args: {std: 0.1}
"""
COMPLETION = """\
name: completer
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: PointNetEncoder, init_args: {widths: [8, 16]}}
    decoder: {class_path: MLPDecoder, init_args: {latent_dim: 4, num_points: 32, widths: [16]}}
    corruption: {class_path: CutBall, init_args: {share: 0.3}}
data:
  class_path: Shapes
  init_args: {num_points: 32, train_size: 24, val_size: 8, test_size: 8, batch_size: 8, classes: [chair, table]}
trainer:
  accelerator: cpu
  max_epochs: 1
  log_every_n_steps: 1
  enable_model_summary: false
"""
IMAGES = """\
name: digits
model:
  class_path: VAE
  init_args:
    encoder: {class_path: CNNEncoder, init_args: {channels: [4, 8], head_widths: [16]}}
    decoder: {class_path: CNNDecoder, init_args: {latent_dim: 3, channels: [8, 4]}}
    reconstruction: {class_path: BernoulliReconstruction}
data:
  class_path: MNIST
  init_args: {root: ROOT, batch_size: 32}
trainer:
  accelerator: cpu
  max_epochs: 2
  log_every_n_steps: 1
  enable_model_summary: false
"""

EMBLEMS = """\
name: emblems
model:
  class_path: DeformingAutoencoder
  init_args:
    encoder: {class_path: CNNEncoder, init_args: {image_shape: [3, 16, 16], channels: [4, 8], head_widths: [16]}}
    template:
      class_path: IntrinsicTemplate
      init_args:
        albedo: {class_path: CNNDecoder, init_args: {image_shape: [3, 16, 16], latent_dim: 3, channels: [8, 4]}}
        shading: {class_path: CNNDecoder, init_args: {image_shape: [1, 16, 16], latent_dim: 2, channels: [8, 4]}}
    deformation:
      class_path: GridDeformation
      init_args:
        decoder: {class_path: CNNDecoder, init_args: {image_shape: [2, 16, 16], latent_dim: 4, channels: [8, 4]}}
        smoothness: 0.01
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
data:
  class_path: Patterns
  init_args: {image_size: 16, train_size: 200, val_size: 12, test_size: 20, batch_size: 20}
trainer:
  accelerator: cpu
  max_epochs: 2
  log_every_n_steps: 1
  enable_model_summary: false
  callbacks: {class_path: Decompositions, init_args: {num_shown: 3}}
"""
BENT = """\
name: bent
model:
  class_path: DeformingAutoencoder
  init_args:
    encoder: {class_path: PointNetEncoder, init_args: {widths: [8, 16]}}
    template:
      class_path: DecodedTemplate
      init_args: {decoder: {class_path: MLPDecoder, init_args: {latent_dim: 2, num_points: 32, widths: [16]}}}
    deformation:
      class_path: PointDeformation
      init_args:
        field: {class_path: FoldingDecoder, init_args: {latent_dim: 3, num_points: 32, width: 16, code_widths: [16]}}
        neighbors: 4
        smoothness: 0.01
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
data:
  class_path: Shapes
  init_args: {num_points: 32, train_size: 48, val_size: 8, test_size: 24, batch_size: 8, classes: [chair, table]}
trainer:
  accelerator: cpu
  max_epochs: 3
  log_every_n_steps: 1
  enable_model_summary: false
  callbacks: {class_path: Decompositions, init_args: {num_shown: 3}}
"""
LEARNED = """\
name: learned
model:
  class_path: DeformingAutoencoder
  init_args:
    encoder: {class_path: PointNetEncoder, init_args: {widths: [8, 16]}}
    template: {class_path: LearnedTemplate, init_args: {sample_shape: [48, 3]}}
    deformation:
      class_path: PointDeformation
      init_args:
        field: {class_path: FoldingDecoder, init_args: {latent_dim: 4, num_points: 48, width: 16, depth: 2}}
data:
  class_path: Shapes
  init_args: {num_points: 64, train_size: 24, val_size: 8, test_size: 12, batch_size: 8, classes: [chair, table]}
trainer: {accelerator: cpu, max_epochs: 1, log_every_n_steps: 1, enable_model_summary: false}
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


def _of_a_test(cls):
    return cls.__module__.split(".")[0].startswith(("test_", "conftest", "tests"))


@pytest.fixture
def cli(monkeypatch, tmp_path, tmp_path_factory, capsys):
    """Runs `pcgen …` in an empty folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PCGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("sys.argv", ["pcgen"])
    monkeypatch.delenv("PCGEN_RUN_FOLDER", raising=False)
    # A process that ran other tests knows their classes too, and would offer them to the user.
    known = config_errors._known_classes
    monkeypatch.setattr(config_errors, "_known_classes", lambda: [c for c in known() if not _of_a_test(c)])
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
    return fit(tmp_path_factory.mktemp("trained"), CONFIG)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The folder of a finished run on images: 100 of 28 × 28 pixels for training, 30 for testing."""
    home = tmp_path_factory.mktemp("digits")
    for prefix, K in (("train", 100), ("t10k", 30)):
        pixels, label = blots(K)
        (home / f"{prefix}-images-idx3-ubyte").write_bytes(idx(pixels))
        (home / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(label))
    return fit(home, IMAGES.replace("ROOT", str(home)))


@pytest.fixture(scope="session")
def dots(tmp_path_factory):
    """The folder of a variational run on images with two known factors."""
    return fit(tmp_path_factory.mktemp("dots"), DOTS.replace("MODEL", "VAE").replace("MORE", ""))


@pytest.fixture(scope="session")
def narrow(tmp_path_factory):
    """The folder of such a run with codes of a single number."""
    config = DOTS.replace("MODEL", "VAE").replace("MORE", "").replace("latent_dim: 3", "latent_dim: 1")
    return fit(tmp_path_factory.mktemp("narrow"), config)


@pytest.fixture(scope="session")
def denoiser(tmp_path_factory):
    """The folder of a denoising autoencoder's run on the same images."""
    return fit(tmp_path_factory.mktemp("denoiser"), DOTS.replace("MODEL", "Autoencoder").replace("MORE", DENOISING))


@pytest.fixture(scope="session")
def completer(tmp_path_factory):
    """The folder of a run of an autoencoder that completes clouds."""
    return fit(tmp_path_factory.mktemp("completer"), COMPLETION)


@pytest.fixture(scope="session")
def emblems(tmp_path_factory):
    """The folder of a run of an intrinsic deforming autoencoder on images without classes."""
    return fit(tmp_path_factory.mktemp("emblems"), EMBLEMS)


@pytest.fixture(scope="session")
def bent(tmp_path_factory):
    """The folder of a run of a deforming autoencoder on clouds of two classes."""
    return fit(tmp_path_factory.mktemp("bent"), BENT)


@pytest.fixture(scope="session")
def learned(tmp_path_factory):
    """The folder of a run on clouds with one template for all, whose codes say nothing but shape."""
    return fit(tmp_path_factory.mktemp("learned"), LEARNED)


def fit(home, config):
    (home / "tiny.yaml").write_text(config)
    with pytest.MonkeyPatch.context() as patch, quick_cells():
        patch.chdir(home)
        patch.setattr("sys.argv", ["pcgen"])
        patch.delenv("PCGEN_RUN_FOLDER", raising=False)
        assert main(["fit", "--config", "tiny.yaml", "--trainer.enable_progress_bar", "false"]) == 0
        os.environ.pop("PCGEN_RUN_FOLDER", None)
    (folder,) = home.glob("runs/*/*")
    return folder


def blots(K):
    """A soft blot on each image (K, 28, 28), somewhere else for each of ten classes (K,)."""
    label = (np.arange(K) * 7 % 10).astype(np.uint8)
    rows, columns = np.mgrid[:28, :28]
    y, x = 8 + 3 * (label % 5), 9 + 10 * (label // 5)
    jitter = np.random.default_rng(K).uniform(-1.5, 1.5, (2, K))
    squared = (rows - (y + jitter[0])[:, None, None]) ** 2 + (columns - (x + jitter[1])[:, None, None]) ** 2
    return (255 * np.exp(-squared / 12)).astype(np.uint8), label


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


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
