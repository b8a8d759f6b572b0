"""Is the Fréchet distance by the shipped extractors a measure of anything? Real data against what is known of them.

    python benchmarks/extractors.py --modelnet10 ../shared/data/modelnet10.h5 --mnist ../shared/data/mnist \
        [--png extractors.png]

Prints the distance between halves of one set, between sets of other classes, to noise, and how it grows with jitter,
with missing points, and with a size or an axis that nobody stated; draws the growth. Minutes on one core.
"""

import argparse
import statistics
import warnings
from collections.abc import Callable
from itertools import combinations, starmap
from pathlib import Path

import torch
from torch import Tensor

from pcgen.datamodules import MNIST, PointClouds
from pcgen.metrics.extractors import Extractor, extractor
from pcgen.metrics.moments import FeatureMoments
from pcgen.viz import draw_curves, save_png

Curve = list[tuple[float, float]]
STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


def distance(one: Tensor, other: Tensor) -> float:
    """Give the Fréchet distance between features (n, F) and (m, F)."""
    return FeatureMoments.of(one).frechet_distance(FeatureMoments.of(other)).item()


def noise_like(x: Tensor, seed: int) -> Tensor:
    """Draw standard normal numbers of the shape of x."""
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def halves(x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Divide data into two random halves."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    return x[order[: len(x) // 2]], x[order[len(x) // 2 :]]


def between_halves(features: Tensor) -> list[float]:
    """Give the distances between two random halves, for five divisions."""
    return [distance(*halves(features, seed)) for seed in range(5)]


def between_classes(features: Tensor, label: Tensor, n: int) -> list[float]:
    """Give the distances of all pairs of classes that have at least n data, of n of each."""
    parts = [features[label == k][:n] for k in label.unique()]
    return list(starmap(distance, combinations([part for part in parts if len(part) == n], 2)))


def report(name: str, values: list[float]) -> None:
    """Print least, median and greatest."""
    print(f"{name:44s} {min(values):10.3f} {statistics.median(values):10.3f} {max(values):10.3f}", flush=True)


def growth(net: Extractor, reference: Tensor, x: Tensor, change: Callable[[Tensor, float], Tensor]) -> Curve:
    """Print and give the distance of changed data to reference features for every step."""
    curve = [(step, distance(net.features(change(x, step)), reference)) for step in STEPS]
    for step, value in curve:
        print(f"    {step:<40g} {value:10.3f}", flush=True)
    return curve


def clouds(net: Extractor, file: str) -> dict[str, Curve]:
    """Measure what is known of clouds."""
    arguments = net.card["data"]["recipe"]["init_args"] | {"path": file, "augment": None}
    data = PointClouds(**arguments)
    test, train = data.take("test"), data.take("train")
    seen, trained = net.features(test.x), net.features(train.x)
    print(f"{net.name}: FPD of ModelNet10, {test.x.shape[1]} points; least, median, greatest")
    report("two halves of the test split, 5 divisions", between_halves(seen))
    same = [distance(h[:300], h[300:600]) for h in (trained[train.label == k] for k in (2, 7))]
    report("chairs and chairs, sofas and sofas, 300 each", same)
    report("two classes, 300 each, all pairs of six", between_classes(trained, train.label, 300))
    (x, y), (one, other) = halves(test.x, 0), halves(seen, 0)
    report("test half and as many training clouds", [distance(one, trained[:: len(trained) // len(one)][: len(one)])])
    ball, gauss = noise_like(x, 0), noise_like(x, 1)
    ball = ball / ball.norm(dim=2, keepdim=True) * noise_like(x[..., :1], 2).erf().abs() ** (1 / 3)
    gauss = gauss / gauss.norm(dim=2).amax(1)[:, None, None]
    report("noise: filled ball, normal", [distance(net.features(n), one) for n in (ball, gauss)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which says just that
        report("other half, half as large, nobody said", [distance(net.features(y * 0.5), one)])
    report("other half, y up, nobody said", [distance(net.features(y.roll(-1, dims=2)), one)])
    print("  other half with so many points, to all points; both with so many")
    for n in (64, 128, 256, 512):
        few, fewer = net.features(x[:, :n]), net.features(y[:, :n])
        print(f"    {n:<40d} {distance(fewer, one):10.3f} {distance(fewer, few):10.3f}", flush=True)
    print("  other half with jitter of")
    curve = growth(net, one, y, lambda part, std: part + std * noise_like(part, 2))
    return _with_another_half(curve, distance(other, one), "FPD of clouds")


def digits(net: Extractor, root: str) -> dict[str, Curve]:
    """Measure what is known of digits."""
    test = MNIST(root).take("test")
    seen = net.features(test.x, batch_size=500)
    print(f"{net.name}: FID of MNIST; least, median, greatest")
    report("two halves of the test split, 5 divisions", between_halves(seen))
    report("two digits, 800 each, all pairs", between_classes(seen, test.label, 800))
    (x, y), (one, other) = halves(test.x, 0), halves(seen, 0)
    report("noise: uniform pixels", [distance(net.features(noise_like(x, 0).erf().abs()), one)])
    print("  other half with normal noise on every pixel of")
    curve = growth(net, one, y, lambda part, std: (part + std * noise_like(part, 2)).clamp(0, 1))
    return _with_another_half(curve, distance(other, one), "FID of digits")


def _with_another_half(curve: Curve, floor: float, name: str) -> dict[str, Curve]:
    return {f"jittered/{name}": curve, f"another half/{name}": [(step, floor) for step in (STEPS[0], STEPS[-1])]}


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--modelnet10", help="the HDF5 file")
    parser.add_argument("--mnist", help="the folder of the four files")
    parser.add_argument("--clouds", default="pointnet-modelnet10-v1", help="extractor of clouds")
    parser.add_argument("--digits", default="cnn-mnist-v1", help="extractor of digits")
    parser.add_argument("--png", type=Path, help="draw the growth")
    arguments = parser.parse_args()
    curves: dict[str, Curve] = {}
    if arguments.mnist is not None:
        curves |= digits(extractor(arguments.digits), arguments.mnist)
    if arguments.modelnet10 is not None:
        curves |= clouds(extractor(arguments.clouds), arguments.modelnet10)
    if arguments.png is not None and curves:
        title = "Noise of growing standard deviation, and another half of the real data"
        save_png(arguments.png, draw_curves(curves, x_name="standard deviation of the noise", title=title))


if __name__ == "__main__":
    main()
