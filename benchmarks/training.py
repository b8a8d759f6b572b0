"""What Lightning and the datamodule add to a training, beside a bare loop over a preloaded tensor.

    python benchmarks/training.py [--model VAE|WAE|WAE-MLP] [--epochs 4] [--points 512] [--images 60000] [--threads 2]

VAE: the quickstart's model and generated clouds. WAE: the model of the config wae-mnist on images of MNIST's size
(random bytes), in batches of 100; WAE-MLP: a faster one of perceptrons. Trained in turn by a bare loop (slices of a
permuted tensor, forward, backward, step, zero_grad) and by the Trainer over the datamodule, epoch by epoch, the latter
with logging as shipped; the medians of the epochs are compared.
"""

import argparse
import statistics
import tempfile
import time
from typing import Any

import torch
from images import Noise
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor

from pcgen.base import DataModule
from pcgen.datamodules import Shapes
from pcgen.losses import ChamferReconstruction, SquaredErrorReconstruction
from pcgen.models import VAE, WAE
from pcgen.nets import CNNDecoder, CNNEncoder, ImageMLPDecoder, ImageMLPEncoder, MLPDecoder, PointNetEncoder


class EpochTimes(Callback):
    """Times each training epoch, without what comes after its last batch."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self._start = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Note the epoch's start, the loader's included."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Keep the epoch's time."""
        self.epochs.append(time.perf_counter() - self._start)


def vae(points: int) -> tuple[VAE, Shapes]:
    """Give the quickstart's model, and its data."""
    torch.manual_seed(0)
    decoder = MLPDecoder(32, points, (256, 512, 512))
    model = VAE(PointNetEncoder((64, 128, 256)), decoder, ChamferReconstruction(0.1))
    sizes = {"train_size": 1504, "val_size": 32, "test_size": 32}
    return model, Shapes(num_points=points, classes=["chair", "table", "lamp"], **sizes)


def wae(images: int, *, convolutions: bool) -> tuple[WAE, Noise]:
    """Give the model of the config wae-mnist, or one of perceptrons with less time to hide behind, and its data."""
    torch.manual_seed(0)
    loss = SquaredErrorReconstruction(0.05, sigmoid=True)
    if not convolutions:
        return WAE(ImageMLPEncoder(), ImageMLPDecoder(8), loss), Noise(images, 100)
    encoder = CNNEncoder(channels=(16, 32), head_widths=(128,), halving="stride")
    return WAE(encoder, CNNDecoder(8, channels=(32, 16), head_widths=(128,)), loss), Noise(images, 100)


def bare_epoch(model: VAE | WAE, optimizer: torch.optim.Optimizer, x: Tensor, size: int) -> float:
    """Give the seconds of one epoch of a bare loop over a tensor."""
    model.train()
    start = time.perf_counter()
    for rows in torch.randperm(len(x)).split(size):
        loss = model.terms(x[rows])["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def lightning_epoch(model: VAE | WAE, data: DataModule) -> float:
    """Give the seconds of an epoch under the Trainer, logging to CSV as `pcgen fit` does; the first epoch warms up."""
    times = EpochTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=2, accelerator="cpu", callbacks=[times], logger=CSVLogger(folder, name="", version=""),
            default_root_dir=folder, enable_model_summary=False, enable_checkpointing=False, limit_val_batches=0,
            log_every_n_steps=25,
        )  # fmt: skip
        trainer.fit(model, data)
    return times.epochs[-1]


def main() -> None:
    """Train by turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["VAE", "WAE", "WAE-MLP"], default="VAE")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--points", type=int, default=512)
    parser.add_argument("--images", type=int, default=60000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.model == "VAE":
        model, data = vae(arguments.points)
    else:
        model, data = wae(arguments.images, convolutions=arguments.model == "WAE")
    x, size = data.take("train").x, data.batch_size
    optimizer = model.optimizer(model.parameters())
    bare_epoch(model, optimizer, x[: 20 * size], size)  # compiles the kernels, warms the caches
    bare: list[float] = []
    lightning: list[float] = []
    for _ in range(arguments.epochs):
        bare.append(bare_epoch(model, optimizer, x, size))
        lightning.append(lightning_epoch(model, data))
    steps = -(-len(x) // size)
    ratios = [a / b for a, b in zip(lightning, bare, strict=True)]
    print(f"{arguments.model}: {steps} steps of {size} data {list(x.shape[1:])}, {arguments.threads} threads, medians")
    print(f"bare loop  {1000 * statistics.median(bare) / steps:7.2f} ms a step")
    print(f"Lightning  {1000 * statistics.median(lightning) / steps:7.2f} ms a step")
    print(f"ratio      {statistics.median(ratios):7.3f}   (each pair: {', '.join(f'{r:.3f}' for r in ratios)})")


if __name__ == "__main__":
    main()
