"""The earth mover's distance: python benchmarks/earth_mover.py [--data FILE] [--pairs 4] [--large 8192]."""

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _clouds import load_clouds
from _timing import peak_growth_mib, table
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pcgen.ops import earth_mover_bounds, earth_mover_distance

DATA = Path(__file__).parents[1] / "../shared/data/modelnet10.h5"
Solver = Callable[[Tensor, Tensor], float]


def costs(x: Tensor, y: Tensor, *, squared: bool) -> np.ndarray:
    """Give the matrix of costs of two clouds (N, 3), float64."""
    square = (x.double()[:, None] - y.double()[None]).square().sum(2)
    return (square if squared else square.sqrt()).numpy()


def by_scipy(x: Tensor, y: Tensor, *, squared: bool) -> float:
    """SciPy's shortest augmenting paths, the matrix included."""
    c = costs(x, y, squared=squared)
    return float(c[linear_sum_assignment(c)].mean())


def by_pot(x: Tensor, y: Tensor, *, squared: bool) -> float:
    """POT's network simplex, the matrix included."""
    import ot

    c = costs(x, y, squared=squared)
    return float(ot.emd2([], [], c, numItermax=10**8, numThreads=1))


def by_pcgen(x: Tensor, y: Tensor, *, squared: bool, tolerance: float) -> float:
    """Our distance of one pair."""
    return float(earth_mover_bounds(x[None], y[None], squared=squared, tolerance=tolerance).distance)


def solvers(*, squared: bool) -> dict[str, Solver]:
    """Give the ways that this machine has."""
    found: dict[str, Solver] = {
        "pcgen, exact": lambda x, y: by_pcgen(x, y, squared=squared, tolerance=0.0),
        "pcgen, auction 1e-5": lambda x, y: by_pcgen(x, y, squared=squared, tolerance=1e-5),
        "SciPy": lambda x, y: by_scipy(x, y, squared=squared),
    }
    if importlib.util.find_spec("ot") is not None:
        found["POT"] = lambda x, y: by_pot(x, y, squared=squared)
    return found


def compare(a: Tensor, b: Tensor, *, squared: bool) -> None:
    """Print each way's time for one pair, one thread; the ways take turns, so that a busy machine slows all alike."""
    ways = solvers(squared=squared)
    times: dict[str, list[float]] = {name: [] for name in ways}
    values: dict[str, list[float]] = {name: [] for name in ways}
    ways["pcgen, exact"](a[0], b[0])  # compiles, or loads what was compiled
    for x, y in zip(a, b, strict=True):
        for name, way in ways.items():
            start = time.perf_counter()
            values[name].append(way(x, y))
            times[name].append(time.perf_counter() - start)
    mean = {name: 1e3 * float(np.mean(t)) for name, t in times.items()}
    rows = [("EMD², squared" if squared else "EMD", "ms a pair", "slowest", "of exact", "of auction", "error")]
    for name, ms in mean.items():
        error = np.abs(np.array(values[name]) / np.array(values["SciPy"]) - 1).max()
        of = [f"{ms / mean[ours]:.1f}×" for ours in ("pcgen, exact", "pcgen, auction 1e-5")]
        rows.append((name, f"{ms:.1f}", f"{1e3 * max(times[name]):.1f}", *of, f"{error:.1e}"))
    print(table(rows))
    for tolerance in (0.0, 1e-5):
        found = earth_mover_bounds(a, b, squared=squared, tolerance=tolerance)
        gap = float(((found.distance - found.lower_bound) / found.distance).max())
        print(f"largest certified gap with tolerance {tolerance:g}: {gap:.1e}")


def throughput(a: Tensor, b: Tensor, threads: int) -> None:
    """Print the time of a pair in a batch over threads."""
    for squared in (False, True):
        for count in sorted({1, threads}):
            torch.set_num_threads(count)
            start, busy = time.perf_counter(), time.process_time()
            earth_mover_distance(a, b, squared=squared)
            wall, cpu = time.perf_counter() - start, time.process_time() - busy
            each = f"{1e3 * wall / len(a):.1f} ms a pair, {1e3 * cpu / len(a):.1f} ms of processor time"
            print(f"batch of {len(a)}, squared={squared}, {count} threads: {each}")


def large(path: Path, points: int) -> None:
    """Print time, gap and memory for clouds of many points."""
    clouds, _ = load_clouds(path, 2, points)
    torch.set_num_threads(1)
    for squared in (False, True):
        start = time.perf_counter()
        found = earth_mover_bounds(clouds[:1], clouds[1:], squared=squared, tolerance=0.0)
        seconds = time.perf_counter() - start
        gap = float((found.distance - found.lower_bound) / found.distance)
        setup = (
            "import torch; torch.set_num_threads(1); from pcgen.ops import earth_mover_distance as emd\n"
            f"x, y = torch.rand(2, 1, {points}, 3); emd(x[:, :64], y[:, :64], squared={squared})"
        )
        grown = peak_growth_mib(setup, f"emd(x, y, squared={squared})")
        print(f"{points} points, squared={squared}: {seconds:.2f} s, gap {gap:.0e}, {grown:.0f} MiB more at the peak")
    print(f"(a matrix of the costs of one such pair: {8 * points**2 / 2**20:.0f} MiB)")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--points", type=int, default=2048)
    parser.add_argument("--large", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    clouds, what = load_clouds(args.data, max(2 * args.pairs, 24), args.points)
    a, b = clouds[: args.pairs], clouds[args.pairs : 2 * args.pairs]
    print(f"{what}, {args.points} points; one pair at a time on one thread, mean of {args.pairs} pairs")
    if importlib.util.find_spec("ot") is None:
        print("POT is skipped: it is not installed (pip install pot)")
    torch.set_num_threads(1)
    for squared in (False, True):
        compare(a, b, squared=squared)
    throughput(clouds[:12], clouds[12:24], args.threads)
    large(args.data, args.large)


if __name__ == "__main__":
    main()
