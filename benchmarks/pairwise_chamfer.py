"""The Chamfer distance of all pairs: python benchmarks/pairwise_chamfer.py [--data FILE] [--clouds 60]."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _clouds import load_clouds
from _timing import table
from scipy.spatial import cKDTree
from torch import Tensor

from pcgen.io.open3d import load_open3d
from pcgen.ops import pairwise_chamfer_distance


def by_bmm(a: Tensor, b: Tensor) -> Tensor:
    """PointFlow's way: a cloud of a against a batch of b, the whole matrix by a product."""
    rows = []
    for cloud in a:
        x = cloud.expand(len(b), -1, -1).contiguous()
        xx, yy, xy = x @ x.transpose(1, 2), b @ b.transpose(1, 2), x @ b.transpose(1, 2)
        dx, dy = xx.diagonal(dim1=1, dim2=2)[:, :, None], yy.diagonal(dim1=1, dim2=2)[:, None]
        d = dx + dy - 2 * xy
        rows.append(d.min(1)[0].mean(1) + d.min(2)[0].mean(1))
    return torch.stack(rows)


def by_trees(a: Tensor, b: Tensor) -> Tensor:
    """SciPy, a tree a cloud, built once; queries on all threads."""
    trees_a, trees_b = [cKDTree(x) for x in a], [cKDTree(y) for y in b]
    workers = torch.get_num_threads()

    def distance(i: int, j: int) -> float:
        there = trees_b[j].query(a[i], workers=workers)[0]
        back = trees_a[i].query(b[j], workers=workers)[0]
        return float((there**2).mean() + (back**2).mean())

    return torch.from_numpy(np.array([[distance(i, j) for j in range(len(b))] for i in range(len(a))]))


def by_cdist(a: Tensor, b: Tensor) -> Tensor:
    """The brute force of PyTorch3D's kernel, plain differences of all pairs of points, by torch."""
    rows = []
    for cloud in a:
        d = torch.cdist(cloud.expand(len(b), -1, -1), b, compute_mode="donot_use_mm_for_euclid_dist").square()
        rows.append(d.amin(1).mean(1) + d.amin(2).mean(1))
    return torch.stack(rows)


def by_open3d(a: Tensor, b: Tensor) -> Tensor:
    """Open3D's distances between clouds, which builds a tree in every call."""
    open3d = load_open3d()

    def cloud(x: Tensor) -> Any:
        return open3d.geometry.PointCloud(open3d.utility.Vector3dVector(x.double().numpy()))

    def mean(x: Any, y: Any) -> float:
        return float((np.asarray(x.compute_point_cloud_distance(y)) ** 2).mean())

    left, right = [cloud(x) for x in a], [cloud(y) for y in b]
    return torch.tensor([[mean(x, y) + mean(y, x) for y in right] for x in left])


def seconds(call: Callable[[], Tensor]) -> float:
    """Give the better of two times: these calls are long and the second has warm caches."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data/modelnet10.h5")
    parser.add_argument("--clouds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clouds, what = load_clouds(args.data, 2 * args.clouds, 2048)
    a, b = clouds[: args.clouds], clouds[args.clouds :]
    few, some = min(3, args.clouds), min(8, args.clouds)
    print(f"{what}, 2048 points, {args.threads} threads; time of one pair")
    pairs: dict[str, tuple[Callable[[], Tensor], int]] = {
        "bmm loop, PointFlow's way": (lambda: by_bmm(a[:few], b[:some]), few * some),
        "torch.cdist, exact mode": (lambda: by_cdist(a[:few], b[:some]), few * some),
        "Open3D": (lambda: by_open3d(a[:some], b[:some]), some * some),
        "SciPy k-d trees": (lambda: by_trees(a[:some], b[:some]), some * some),
        "pcgen": (lambda: pairwise_chamfer_distance(a, b), len(a) * len(b)),
        "pcgen, one set with itself": (lambda: pairwise_chamfer_distance(a, a), len(a) ** 2),
    }
    pairwise_chamfer_distance(a[:1], b[:1])  # compiles, or loads what was compiled
    times = {name: 1e6 * seconds(call) / count for name, (call, count) in pairs.items()}
    rows = [("method", "µs a pair", "of pcgen's")]
    rows += [(name, f"{t:.0f}", f"{t / times['pcgen']:.1f}×") for name, t in times.items()]
    print(table(rows))
    error = pairwise_chamfer_distance(a[:some], b[:some]).double() / by_trees(a[:some].double(), b[:some].double()) - 1
    print(f"largest relative error against float64: {float(error.abs().max()):.1e}")


if __name__ == "__main__":
    main()
