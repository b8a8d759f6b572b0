"""What Lightning adds to a training step, and how long the loader keeps it waiting.

    python benchmarks/training.py [--epochs 4] [--points 512] [--threads 2]

The quickstart's model and data are trained in turn by a bare loop (forward, backward, step, zero_grad, over the same
loader) and by the Trainer, epoch by epoch and each with logging as shipped; the medians of the epochs are compared.
The wait is the time between the end of one training batch and the start of the next that the loader takes.
"""

import argparse
import statistics
import time
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import CSVLogger

from pcgen.datamodules import Shapes
from pcgen.losses import ChamferReconstruction
from pcgen.models import VAE
from pcgen.nets import MLPDecoder, PointNetEncoder


def model(points: int) -> VAE:
    """Build the quickstart's model."""
    torch.manual_seed(0)
    decoder = MLPDecoder(32, points, (256, 512, 512))
    return VAE(PointNetEncoder((64, 128, 256)), decoder, ChamferReconstruction(0.1))


class EpochTimes(Callback):
    """Times each training epoch, without what comes after its last batch."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self._start = self._end = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 -- Lightning's signature
        """Note the first batch's start."""
        if batch_idx == 0:
            self._start = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the last batch's end."""
        self._end = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Keep the epoch's time."""
        self.epochs.append(self._end - self._start)


def bare_epoch(net: VAE, optimizer: torch.optim.Optimizer, data: Shapes, epoch: int) -> tuple[float, float]:
    """Give the seconds of one epoch of a bare loop, and those that the loader took of them."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    net.train()
    batches = iter(loader)
    batch = next(batches)
    start, waited = time.perf_counter(), 0.0
    while batch is not None:
        loss = net.terms(batch.x)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        before = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - before
    return time.perf_counter() - start, waited


def main() -> None:
    """Train by turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--points", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = Shapes(
        num_points=arguments.points, train_size=1504, val_size=32, test_size=32, classes=["chair", "table", "lamp"]
    )
    data.setup()
    net = model(arguments.points)
    optimizer = net.optimizer(net.parameters())
    bare_epoch(net, optimizer, data, 0)  # compiles the kernels, warms the caches
    bare: list[float] = []
    waits: list[float] = []
    lightning: list[float] = []
    for epoch in range(arguments.epochs):
        seconds, waited = bare_epoch(net, optimizer, data, epoch)
        bare.append(seconds)
        waits.append(waited / seconds)
        lightning.append(lightning_epoch(arguments.points, data))
    steps = len(data.train_dataloader())
    ratios = [a / b for a, b in zip(lightning, bare, strict=True)]
    print(
        f"{steps} steps of {data.batch_size} clouds of {arguments.points} points, {arguments.threads} threads, medians"
    )
    print(f"bare loop  {1000 * statistics.median(bare) / steps:7.2f} ms a step")
    print(f"Lightning  {1000 * statistics.median(lightning) / steps:7.2f} ms a step")
    print(f"ratio      {statistics.median(ratios):7.3f}   (each pair: {', '.join(f'{r:.3f}' for r in ratios)})")
    print(f"waiting for the loader: {100 * statistics.median(waits):.2f} % of the bare loop")


def lightning_epoch(points: int, data: Shapes) -> float:
    """Give the seconds of an epoch under the Trainer, logging to CSV as `pcgen fit` does; the first epoch warms up."""
    import tempfile

    times = EpochTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=2, accelerator="cpu", callbacks=[times], logger=CSVLogger(folder, name="", version=""),
            default_root_dir=folder, enable_model_summary=False, enable_checkpointing=False, limit_val_batches=0,
            log_every_n_steps=25,
        )  # fmt: skip
        trainer.fit(model(points), data)
    return times.epochs[-1]


if __name__ == "__main__":
    main()
