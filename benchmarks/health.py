"""What NumericalHealth adds to a healthy training step.

    python benchmarks/health.py [--epochs 6]

The quickstart's model, and one as small as a test's, where the callback has the least time to hide behind. Epochs with
and without it take turns; the ratio is the median of the pairs'. Processor time counts, on one thread, which other
processes on the machine change less than the time of day.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import CSVLogger
from training import vae

from pcgen.base import DataModule
from pcgen.callbacks import NumericalHealth
from pcgen.datamodules import Shapes
from pcgen.models import VAE
from pcgen.nets import MLPDecoder, PointNetEncoder


class EpochCost(Callback):
    """Takes the processor's time for the last epoch."""

    def on_train_epoch_start(self, *_: Any) -> None:
        """Note when it begins."""
        self.start = time.process_time()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Keep its cost."""
        self.seconds = time.process_time() - self.start


def tiny() -> tuple[VAE, Shapes]:
    """Give a model of a few thousand weights, and its data."""
    torch.manual_seed(0)
    data = Shapes(num_points=64, classes=["chair"], train_size=1600, val_size=16, test_size=16, batch_size=16)
    return VAE(PointNetEncoder((8, 16)), MLPDecoder(4, 64, (16,))), data


def epoch(model: VAE, data: DataModule, *, watched: bool) -> float:
    """Give the processor's seconds for an epoch under the Trainer, after one that warms up."""
    cost = EpochCost()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=2, accelerator="cpu", callbacks=[cost, *([NumericalHealth()] if watched else [])],
            logger=CSVLogger(folder, name="", version=""), default_root_dir=folder, enable_model_summary=False,
            enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=0, log_every_n_steps=25,
        )  # fmt: skip
        trainer.fit(model, data)
    return cost.seconds


def main() -> None:
    """Train by turns and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    for name, (model, data) in {"tiny": tiny(), "quickstart": vae(512)}.items():
        steps = len(data.train_dataloader())
        pairs = []
        for k in range(arguments.epochs):
            order = (False, True) if k % 2 else (True, False)
            found = {watched: epoch(model, data, watched=watched) for watched in order}
            pairs.append((1000 * found[False] / steps, 1000 * found[True] / steps))
        ratios = [after / before for before, after in pairs]
        before, after = (statistics.median(times) for times in zip(*pairs, strict=True))
        each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{name:11}{before:8.2f} ms a step, {after:8.2f} with it, ratio {statistics.median(ratios):.3f} ({each})")


if __name__ == "__main__":
    main()
