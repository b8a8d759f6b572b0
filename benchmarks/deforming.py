"""Parts of deforming autoencoders beside what others do in their place.

    python benchmarks/deforming.py [--threads 1]

- The inverse of warps of 28 × 28 pixels against SciPy: triangulate where the pixels go and interpolate linearly, which
  is how a grid is usually inverted. Its error is measured by the way back.
- A doubling convolution (`DoublingConv2d`, one transposed convolution) against nearest upsampling and a 3 × 3 one.
- Residual and dense networks against the strided `CNNEncoder` and `CNNDecoder` of as many channels.

Times are medians of forward and backward passes (of the inverse: forward), interleaved, as ratios in one run.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from _timing import median_ms, table
from scipy.interpolate import LinearNDInterpolator
from torch import Tensor, nn

from pcgen.nets import CNNDecoder, CNNEncoder, DenseNetDecoder, DenseNetEncoder, ResNetDecoder, ResNetEncoder
from pcgen.nets.staged import DoublingConv2d
from pcgen.ops import grid_from_increments, identity_grid, unwarp_points, warp_points

SIDE, IMAGES, BATCH, ROUNDS = 28, 16, 100, 5
CHANNELS = (16, 32)


def grids(count: int) -> Tensor:
    """Draw smooth warps (count, H, W, 2)."""
    logits = F.interpolate(torch.randn(count, 2, 4, 4, generator=torch.Generator().manual_seed(0)), (SIDE, SIDE))
    return grid_from_increments(F.softplus(0.5 * logits + 0.5413))


def by_triangles(grid: Tensor, points: Tensor) -> Tensor:
    """Find the places that warps (B, H, W, 2) map to points (B, K, 2) by SciPy; NaN where it has no triangle."""
    place = identity_grid(SIDE, SIDE).flatten(0, 1).numpy()
    found = [
        LinearNDInterpolator(one.flatten(0, 1).numpy(), place)(at.numpy()) for one, at in zip(grid, points, strict=True)
    ]
    return torch.from_numpy(np.stack(found))


def miss(grid: Tensor, points: Tensor, places: Tensor) -> float:
    """Give the mean distance of W(p) from where it should be, in pixels, where anything was found."""
    back = warp_points(grid, places.nan_to_num(0.0).float())
    return (back - points).norm(dim=-1)[places.isfinite().all(-1)].mean().item() * (SIDE - 1) / 2


def passes(network: nn.Module, x: Tensor) -> Callable[[], object]:
    """Give a call of one pass forward and backward."""
    return lambda: network(x).square().mean().backward()


def interleaved(calls: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Time calls in turns, a list of medians in ms for each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(median_ms(call, seconds=0.3))
    return times


def ratios(times: dict[str, list[float]], base: str) -> list[tuple[str, ...]]:
    """Give rows: what, median ms, and its ratio to the base, the least and the greatest of the rounds."""
    rows: list[tuple[str, ...]] = [("", "ms", f"relative to {base}")]
    for name, found in times.items():
        each = sorted(mine / its for mine, its in zip(found, times[base], strict=True))
        rows.append(
            (name, f"{sorted(found)[ROUNDS // 2]:.1f}", f"{each[ROUNDS // 2]:.2f} ({each[0]:.2f}–{each[-1]:.2f})")
        )
    return rows


def doublings() -> list[tuple[str, ...]]:
    """Time the two ways of doubling an image."""
    one = DoublingConv2d(32, 16)
    two = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(32, 16, 3, padding=1))
    two[1].load_state_dict(one.state_dict())
    x = torch.randn(BATCH, 32, 14, 14)
    torch.testing.assert_close(one(x), two(x), rtol=1e-3, atol=1e-4)
    return ratios(interleaved({"upsample and convolve": passes(two, x), "DoublingConv2d": passes(one, x)}),
                  "upsample and convolve")  # fmt: skip


def networks(kind: str, made: Sequence[tuple[str, nn.Module]], x: Tensor) -> list[tuple[str, ...]]:
    """Time networks on one input."""
    return ratios(interleaved({name: passes(network, x) for name, network in made}), kind)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    grid = grids(IMAGES)
    points = warp_points(grid, 2 * torch.rand(IMAGES, SIDE * SIDE, 2) - 1)  # all of them are reached
    ways = {"SciPy, triangles": by_triangles, "unwarp_points": lambda *given: unwarp_points(*given)[0]}
    calls = {name: lambda way=way: way(grid, points) for name, way in ways.items()}
    rows = ratios(interleaved(calls), "SciPy, triangles")
    misses = ["misses by, in pixels", *(f"{miss(grid, points, way(grid, points)):.2g}" for way in ways.values())]
    print(f"inverse of {IMAGES} warps of {SIDE} × {SIDE} at {SIDE * SIDE} places each")
    print(table([(*row, error) for row, error in zip(rows, misses, strict=True)]))
    print(f"\ndoubling {BATCH} × 32 × 14 × 14 to 16 channels\n{table(doublings())}")
    shape, back = (1, SIDE, SIDE), CHANNELS[::-1]
    encoders = [("CNNEncoder", CNNEncoder(shape, CHANNELS, (128,), "stride")),
                ("ResNetEncoder", ResNetEncoder(shape, CHANNELS, head_widths=(128,))),
                ("DenseNetEncoder", DenseNetEncoder(shape, CHANNELS, head_widths=(128,)))]  # fmt: skip
    print(f"\nencoders of {BATCH} images\n{table(networks('CNNEncoder', encoders, torch.rand(BATCH, *shape)))}")
    decoders = [("CNNDecoder", CNNDecoder(16, shape, back)), ("ResNetDecoder", ResNetDecoder(16, shape, back)),
                ("DenseNetDecoder", DenseNetDecoder(16, shape, back))]  # fmt: skip
    print(f"\ndecoders of {BATCH} images\n{table(networks('CNNDecoder', decoders, torch.randn(BATCH, 16)))}")


if __name__ == "__main__":
    main()
