"""What loading images costs: an epoch of 60000 of MNIST's size in batches of 100, ours beside the usual ways.

    python benchmarks/images.py [--images 60000] [--batch 100] [--epochs 5]

"bare loop" is indexing one float tensor by slices of a permutation; ours holds bytes, a quarter of the memory, and
makes floats of each batch. "per item" is a Dataset of single images with torch's own sampler and collation.
"""

import argparse

import numpy as np
import torch
from _epochs import print_epochs, usual_ways

from pcgen.datamodules import MNIST
from pcgen.datamodules.mnist import Images


class Noise(MNIST):
    """Random bytes in the place of MNIST's images."""

    def __init__(self, size: int, batch_size: int) -> None:
        super().__init__(batch_size=batch_size, validation=0.0)
        self.size = size

    def prepare_data(self) -> None:
        """Read nothing."""

    def _read(self, prefix: str) -> Images:
        K = self.size if prefix == "train" else self.batch_size
        pixels = np.random.default_rng(0).integers(0, 256, (K, 28, 28), dtype=np.uint8)
        return Images(pixels, np.arange(K) % 10)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 60000), ("batch", 100), ("epochs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    data = Noise(options.images, options.batch)
    everything = data.take("train")
    assert everything.label is not None
    ways = {"pcgen": data.train_dataloader} | usual_ways(everything.x, everything.label, options.batch)
    batches = -(-options.images // options.batch)
    print(
        f"{options.images} images of 28 × 28, {batches} batches of {options.batch}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} thread(s)"
    )
    print_epochs(ways, epochs=options.epochs, batches=batches)


if __name__ == "__main__":
    main()
