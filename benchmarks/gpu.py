"""What a GPU does, beside the usual ways and the floors of arithmetic: python benchmarks/gpu.py [--data FILE].

Three parts: the Chamfer distance for training, forward and backward, B 128, N = M 2048; the three matrices of 405 +
405 clouds under Chamfer; and the auction for the earth mover's distance. Times are the GPU's own (CUDA events), medians
after a first call that compiles. The floors are counts of instructions for an H200 (132 multiprocessors, 33e12 float32
instructions a second), not measurements: on another GPU read the ratios to the peers.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _clouds import load_clouds
from _timing import table
from chamfer import by_bmm, by_cdist
from torch import Tensor

from pcgen.ops import _triton, chamfer_distance, pairwise_chamfer_distance
from pcgen.ops._gpu_auction import auction_on_device

Way = Callable[[Tensor, Tensor], Tensor]
POINTS = 2048
RATE = 33e12  # float32 instructions a second
ONE_PASS, WITH_INDEX = 8, 12  # instructions a pair of points for both directions, without indices and with them
BIDS = 1e5  # of one auction of 2048 points


def all_pairs(way: Way, a: Tensor, b: Tensor) -> Tensor:
    """PointFlow's loop: a cloud of a against a batch of b."""
    parts = b.split(64)
    return torch.stack([torch.cat([way(cloud.expand(len(part), -1, -1), part) for part in parts]) for cloud in a])


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """Give the median time between two events on the GPU's own clock, in milliseconds."""
    call()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def peak_mib(call: Callable[[], object]) -> float:
    """Give the GPU memory that a call takes at its peak, in MiB."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def both(way: Way, x: Tensor, y: Tensor) -> Callable[[], object]:
    """Make a call that goes forward and backward."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    return lambda: torch.autograd.grad(way(x, y).sum(), (x, y))


def largest_error(way: Way, x: Tensor, y: Tensor) -> float:
    """Give the largest relative error against float64."""
    exact = by_cdist(x[:4].double(), y[:4].double())
    return float((way(x[:4], y[:4]).double() / exact - 1).abs().max())


def training(clouds: Tensor, batch: int) -> None:
    """Print the first table."""
    x, y = (clouds[torch.arange(batch) % (len(clouds) // 2) + k * (len(clouds) // 2)] for k in range(2))
    rows = [("method", "forward, ms", "forward + backward, ms", "of pcgen's", "peak, MiB", "error")]
    ways: list[tuple[str, Way]] = [("pcgen", chamfer_distance), ("torch.cdist, exact", by_cdist), ("bmm", by_bmm)]
    times: dict[str, float] = {}
    for name, way in ways:
        forward, whole = median_ms(lambda way=way: way(x, y), 20), median_ms(both(way, x, y), 20)
        times[name] = whole
        memory, error = peak_mib(both(way, x, y)), largest_error(way, x, y)
        ratio = whole / times["pcgen"]
        rows.append((name, f"{forward:.3f}", f"{whole:.3f}", f"{ratio:.1f}×", f"{memory:.0f}", f"{error:.1e}"))
    print(f"Chamfer distance, B {batch}, N = M {POINTS}\n{table(rows)}")
    pairs = batch * POINTS**2
    print(
        f"floor of an H200, forward: {1e3 * ONE_PASS * pairs / RATE:.2f} ms, with indices "
        f"{1e3 * WITH_INDEX * pairs / RATE:.2f} ms; aim, forward + backward at B 128: under 0.5 ms\n"
    )


def matrices(clouds: Tensor, count: int) -> None:
    """Print the second table."""
    a, b = clouds[:count], clouds[len(clouds) - count :]

    def three() -> None:
        for left, right in (a, a), (a, b), (b, b):
            pairwise_chamfer_distance(left, right)

    seconds = median_ms(three, 3) / 1e3
    few = min(8, count)
    rows = [("method", "µs a pair", "of pcgen's")]
    pairs = count**2 + count * (count + 1)
    ours = 1e6 * seconds / pairs
    rows.append(("pcgen", f"{ours:.2f}", "1"))
    for name, way in ("torch.cdist, exact", by_cdist), ("bmm loop, PointFlow's way", by_bmm):
        peer = 1e3 * median_ms(lambda way=way: all_pairs(way, a[:few], b), 3) / (few * count)
        rows.append((name, f"{peer:.2f}", f"{peer / ours:.1f}×"))
    print(f"all three matrices of {count} + {count} clouds: {seconds:.2f} s, peak {peak_mib(three):.0f} MiB")
    print(table(rows))
    print(f"floor of an H200: {ONE_PASS * pairs * POINTS**2 / RATE:.2f} s; aim at 405 + 405: under 1 s\n")


def auctions(clouds: Tensor, pairs: int, tolerance: float) -> None:
    """Print the third table."""
    half = len(clouds) // 2
    x, y = clouds[torch.arange(pairs) % half], clouds[half + torch.arange(pairs) * 7 % half]
    rows = [("meaning", "pairs a second", "largest gap", "peak, MiB")]
    for name, squared in ("distances", False), ("squares", True):
        run = partial(auction_on_device, x, y, squared=squared, tolerance=tolerance)
        seconds = median_ms(run, 1) / 1e3
        primal, dual, _ = run()
        gap = float(((primal - dual) / primal).max())
        rows.append((name, f"{pairs / seconds:.0f}", f"{gap:.1e}", f"{peak_mib(run):.0f}"))
    print(f"earth mover's distance by auction, {pairs} pairs, gap aimed at {tolerance:g}\n{table(rows)}")
    floor = RATE / (8 * BIDS * POINTS)
    print(f"floor of an H200 at {BIDS:g} bids a pair and 8 instructions a column: {floor:.0f} pairs a second")
    print("aim: 2750 pairs a second (three matrices of 405 + 405 clouds under 2 min)")


def main() -> None:
    """Print the tables, or that there is nothing to measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data/modelnet10.h5")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--clouds", type=int, default=405)
    parser.add_argument("--pairs", type=int, default=4096)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this benchmark measures a GPU, and torch finds none here; nothing was measured")
    clouds, what = load_clouds(args.data, 2 * args.clouds, POINTS)
    how = "Triton" if _triton.available(torch.device("cuda", 0)) else "torch operations, as Triton is absent"
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {how}; {what} of {POINTS} points\n")
    clouds = clouds.cuda()
    training(clouds, args.batch)
    matrices(clouds, args.clouds)
    auctions(clouds, args.pairs, args.tolerance)


if __name__ == "__main__":
    main()
