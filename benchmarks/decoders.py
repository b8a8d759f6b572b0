"""What a decoder makes of its weights: VAEs of real chairs that differ in nothing but the decoder.

    python benchmarks/decoders.py --data ../shared/data/modelnet10.h5 [--epochs 30] [--threads 2]

Prints, for each decoder, its number of weights, the Chamfer distance of reconstructed test chairs, and the time.
"""

import argparse
import functools
import time

import torch
from pytorch_lightning import Trainer, seed_everything

from pcgen.datamodules import PointClouds
from pcgen.losses import ChamferReconstruction
from pcgen.models import VAE
from pcgen.nets import Decoder, FoldingDecoder, MLPDecoder, PointNetEncoder
from pcgen.ops import chamfer_distance

N, Z = 512, 64
DECODERS = {
    "folding, width 64": lambda: FoldingDecoder(Z, N, width=64, depth=3, code_widths=(128,)),
    "MLP 48": lambda: MLPDecoder(Z, N, (48,)),
    "MLP 128, 128": lambda: MLPDecoder(Z, N, (128, 128)),
    "MLP 256, 512, 512": lambda: MLPDecoder(Z, N, (256, 512, 512)),
}


def train(decoder: Decoder, data: PointClouds, epochs: int) -> tuple[float, float]:
    """Give the mean test Chamfer distance after training, and the seconds it took."""
    model = VAE(
        PointNetEncoder((64, 128, 256)),
        decoder,
        ChamferReconstruction(0.05),
        optimizer=functools.partial(torch.optim.Adam, lr=1e-3),
        lr_scheduler=functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=epochs),
    )
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    start = time.perf_counter()
    trainer.fit(model, data)
    seconds = time.perf_counter() - start
    x = data.take("test").x
    return chamfer_distance(model.reconstruct(x), x).mean().item(), seconds


def main() -> None:
    """Train each and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/modelnet10.h5")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{'decoder':20s} {'weights':>9s} {'test Chamfer ×10³':>18s} {'s':>6s}")
    for name, make in DECODERS.items():
        seed_everything(0, verbose=False)
        data = PointClouds(
            arguments.data, num_points=N, classes=["chair"], validation=0.0, batch_size=32, resample=True
        )
        decoder = make()
        weights = sum(p.numel() for p in decoder.parameters())
        chamfer, seconds = train(decoder, data, arguments.epochs)
        print(f"{name:20s} {weights:9d} {1000 * chamfer:18.3f} {seconds:6.0f}", flush=True)


if __name__ == "__main__":
    main()
