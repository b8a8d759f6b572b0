"""MMD, COV and 1-NNA under the EMD of two sets: python benchmarks/neighbor_search.py [--squared] [--verify].

SciPy's time is that of a sample of the pairs, in as many processes as there are threads, times the number of pairs;
`--verify` solves all pairs with pcgen and compares the scores.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import numpy as np
import torch
from _clouds import load_clouds
from _timing import table
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from pcgen.metrics.functional import coverage, minimum_matching_distance, one_nearest_neighbor_accuracy
from pcgen.metrics.neighbor_search import search_earth_mover
from pcgen.metrics.set_distances import SetDistances
from pcgen.ops import pairwise_earth_mover_distance


def by_scipy(pair: tuple[NDArray[np.float64], NDArray[np.float64]], metric: str) -> float:
    """One distance, the usual way."""
    cost = cdist(*pair, metric)
    return float(cost[linear_sum_assignment(cost)].mean())


def scores(d: SetDistances | tuple[Tensor, Tensor, Tensor]) -> tuple[float, float, float]:
    """MMD, COV, 1-NNA."""
    return minimum_matching_distance(d[1]).item(), coverage(d[1]).item(), one_nearest_neighbor_accuracy(*d[:3]).item()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data/modelnet10.h5")
    parser.add_argument("--clouds", type=int, default=100)
    parser.add_argument("--points", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sample", type=int, default=24, help="pairs that SciPy solves")
    parser.add_argument("--squared", action="store_true")
    parser.add_argument("--verify", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clouds, what = load_clouds(args.data, 2 * args.clouds, args.points)
    a, b = clouds[: args.clouds], clouds[args.clouds :]
    print(f"{args.clouds} + {args.clouds} {what}, {args.points} points, {args.threads} threads")
    search_earth_mover(a[:1], b[:1], squared=args.squared)  # compiles, or loads what was compiled

    memory = getrusage(RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = search_earth_mover(a, b, squared=args.squared)
    pruned = time.perf_counter() - start
    memory = getrusage(RUSAGE_SELF).ru_maxrss - memory
    shares = ", ".join(f"{100 * n / found.pairs:.1f} %" for n in (found.solved, found.stopped))
    print(f"of {found.pairs} pairs solved to the end and stopped early: {found.solved}, {found.stopped} ({shares})")
    print(
        "MMD {:.6g}, COV {:.4f}, 1-NNA {:.4f}".format(*scores(found)), f"; memory at its peak +{memory / 1024:.0f} MiB"
    )

    index = np.random.default_rng(0).integers(len(clouds), size=(args.sample, 2))
    pairs = [(clouds[i].double().numpy(), clouds[j].double().numpy()) for i, j in index]
    with ProcessPoolExecutor(args.threads) as pool:
        list(pool.map(partial(by_scipy, metric="euclidean"), pairs[: args.threads]))  # starts the processes
        start = time.perf_counter()
        list(pool.map(partial(by_scipy, metric="sqeuclidean" if args.squared else "euclidean"), pairs))
        scipy = (time.perf_counter() - start) / len(pairs) * found.pairs
    rows = [("method", "seconds", "of the search's"), ("search", f"{pruned:.1f}", "1")]
    if args.verify:
        start = time.perf_counter()
        pairwise = partial(pairwise_earth_mover_distance, squared=args.squared)
        every = pairwise(a, a), pairwise(a, b), pairwise(b, b)
        spent = time.perf_counter() - start
        rows.append(("all pairs with pcgen", f"{spent:.1f}", f"{spent / pruned:.1f}×"))
        print("the scores of all pairs are", "the same" if scores(every) == scores(found) else f"not: {scores(every)}")
    rows.append((f"all pairs with SciPy, from {args.sample} of them", f"{scipy:.0f}", f"{scipy / pruned:.0f}×"))
    print(table(rows))


if __name__ == "__main__":
    main()
