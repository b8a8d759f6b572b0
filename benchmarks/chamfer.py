"""The Chamfer distance for training, beside the usual ways: python benchmarks/chamfer.py [--data FILE] [--threads 2].

Forward and backward, B 8, N = M 2048, chairs where the data are there and surfaces made here where not.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from _clouds import load_clouds
from _timing import median_ms, peak_growth_mib, table
from scipy.spatial import cKDTree
from torch import Tensor

from pcgen.ops import chamfer_distance, gaussian_nearest_neighbors

Way = Callable[[Tensor, Tensor], Tensor]


def by_cdist(x: Tensor, y: Tensor) -> Tensor:
    """torch.cdist, exact."""
    d = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
    return d.min(2)[0].mean(1) + d.min(1)[0].mean(1)


def by_bmm(x: Tensor, y: Tensor) -> Tensor:
    """x² + y² − 2xy, as PointFlow and AtlasNet do."""
    d = x.square().sum(2)[:, :, None] + y.square().sum(2)[:, None] - 2 * x @ y.transpose(1, 2)
    return d.min(2)[0].mean(1) + d.min(1)[0].mean(1)


def by_trees(x: Tensor, y: Tensor) -> Tensor:
    """SciPy's k-d trees find the neighbours, a cloud a thread; torch gathers them and differentiates."""

    def search(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        a, b = pair
        return cKDTree(b).query(a)[1], cKDTree(a).query(b)[1]

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        found = list(pool.map(search, zip(x.detach().numpy(), y.detach().numpy(), strict=True)))
    i_xy, i_yx = (torch.from_numpy(np.stack(i)) for i in zip(*found, strict=True))
    to_y = y.gather(1, i_xy[..., None].expand(-1, -1, 3))
    to_x = x.gather(1, i_yx[..., None].expand(-1, -1, 3))
    return (x - to_y).square().sum(2).mean(1) + (y - to_x).square().sum(2).mean(1)


def step(way: Way, x: Tensor, y: Tensor) -> Callable[[], None]:
    """Make a call that goes forward and backward."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()

    def call() -> None:
        x.grad = y.grad = None
        way(x, y).sum().backward()

    return call


def with_scales(x: Tensor, y: Tensor) -> Tensor:
    """The Gaussian brackets of a decoder with a learned scale."""
    c_x, _, c_y, _ = gaussian_nearest_neighbors(x, y, torch.full_like(y, -3.0, requires_grad=True))
    return c_x.mean(1) + c_y.mean(1)


def relative_error(x: Tensor, y: Tensor) -> float:
    """Give the largest relative error against float64."""
    exact = by_trees(x.double(), y.double())
    return float((chamfer_distance(x, y).double() / exact - 1).abs().max())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data/modelnet10.h5")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clouds, what = load_clouds(args.data, 16, 8192)
    x, y = clouds[:8, :2048], clouds[8:, :2048]
    machine = f"{args.threads} threads, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
    print(f"{what}, B 8, N = M 2048, {machine}")
    ways: dict[str, Way] = {
        "torch.cdist, exact": by_cdist,
        "x² + y² − 2xy by bmm": by_bmm,
        "SciPy k-d trees": by_trees,
        "pcgen": chamfer_distance,
    }
    forward = {name: median_ms(lambda way=way: way(x, y)) for name, way in ways.items()}
    both = {name: median_ms(step(way, x, y)) for name, way in ways.items()}
    rows = [("method", "forward ms", "forward + backward ms", "of pcgen's")]
    rows += [(n, f"{forward[n]:.2f}", f"{both[n]:.2f}", f"{both[n] / both['pcgen']:.1f}×") for n in ways]
    print(table(rows))
    print(f"pcgen, 1024 points: {median_ms(step(chamfer_distance, x[:, :1024], y[:, :1024])):.2f} ms; ", end="")
    print(f"8192 points: {median_ms(step(chamfer_distance, clouds[:8], clouds[8:])):.1f} ms; ", end="")
    print(f"Gaussian brackets: {median_ms(step(with_scales, x, y)):.2f} ms (forward + backward)")
    print(f"largest relative error: {relative_error(x, y):.1e}; ", end="")
    print(f"clouds at (1000, 1000, 1000): {relative_error(x + 1000, y + 1000):.1e}")
    for n in (2048, 8192):
        setup = """
import torch
from pcgen.ops import chamfer_distance
def step(n):
    chamfer_distance(torch.rand(8, n, 3, requires_grad=True), torch.rand(8, n, 3, requires_grad=True)).sum().backward()
step(16)"""
        grown = peak_growth_mib(setup, f"step({n})")
        print(f"peak memory, {n} points: {grown:.1f} MiB more (the matrix alone: {8 * n * n * 4 / 2**20:.0f} MiB)")


if __name__ == "__main__":
    main()
