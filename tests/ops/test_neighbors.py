"""Nearest neighbours against a triple loop, SciPy, and themselves under other circumstances."""

import concurrent.futures
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pcgen.errors import DataError
from pcgen.ops import _chunked, bidirectional_nearest_neighbors, nearest_neighbors

SIZES = [(1, 1), (1, 65), (3, 5), (5, 3), (63, 65), (64, 64), (65, 1), (1023, 130), (100, 1023), (700, 700)]


def loop(x, y):
    """Triple loop in float64; the first of equals wins."""
    d, index = np.full(x.shape[:2], np.inf), np.zeros(x.shape[:2], dtype=np.int64)
    for b in range(x.shape[0]):
        for i in range(x.shape[1]):
            for j in range(y.shape[1]):
                value = sum((float(x[b, i, k]) - float(y[b, j, k])) ** 2 for k in range(3))
                if value < d[b, i]:
                    d[b, i], index[b, i] = value, j
    return d, index


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 65), (3, 5), (63, 65), (70, 33)])
def test_agrees_with_a_triple_loop(surfaces, n, m, dtype):
    x, y = surfaces(2, n, 1, dtype), surfaces(2, m, 2, dtype)
    d_xy, i_xy, d_yx, i_yx = bidirectional_nearest_neighbors(x, y)
    for (d, i), (found, index) in zip((loop(x, y), loop(y, x)), ((d_xy, i_xy), (d_yx, i_yx)), strict=True):
        np.testing.assert_array_equal(index, i)
        np.testing.assert_allclose(found, d, rtol=1e-6 if dtype == torch.float32 else 1e-15)
        assert found.dtype == dtype
        assert index.dtype == torch.int64


@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_scipy_and_with_the_chunked_path(surfaces, narrow_chunks, n, m, dtype):
    x, y = surfaces(3, n, n, dtype), surfaces(3, m, m + 1, dtype)
    found = bidirectional_nearest_neighbors(x, y)
    chunked = _chunked.nearest_both_ways(x, y)
    for ours, theirs in zip(found, chunked, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    for b in range(3):
        d, i = cKDTree(y[b].double()).query(x[b].double())
        np.testing.assert_array_equal(found[1][b], i)
        np.testing.assert_allclose(found[0][b].sqrt(), d, rtol=1e-6)
        np.testing.assert_array_equal(found[3][b], cKDTree(x[b].double()).query(y[b].double())[1])


def test_real_chairs_agree_with_scipy(chairs):
    x, y = chairs[:6], chairs[6:]
    d_xy, i_xy = nearest_neighbors(x, y)
    for b in range(6):
        d, i = cKDTree(y[b].double()).query(x[b].double())
        np.testing.assert_allclose(d_xy[b].sqrt(), d, rtol=1e-6)
        # Two points of a real chair can be equally near in float32 and not in float64.
        assert (i_xy[b].numpy() == i).mean() > 0.999
        np.testing.assert_allclose((x[b] - y[b][i_xy[b]]).double().norm(dim=1), d, rtol=1e-6)


@pytest.mark.parametrize("path", ["kernels", "chunks"])
def test_the_lowest_index_wins_a_tie(path, narrow_chunks):
    x = torch.zeros(1, 900, 3)
    y = torch.ones(1, 1300, 3)
    y[0, 700:] *= -1  # as far away as the others
    search = bidirectional_nearest_neighbors if path == "kernels" else _chunked.nearest_both_ways
    _, i_xy, _, i_yx = search(x, y)
    assert not i_xy.any()
    assert not i_yx.any()
    grid = torch.cartesian_prod(*[torch.arange(6.0)] * 3)  # every midpoint has eight nearest points
    _, index, _, _ = search((grid + 0.5)[None], torch.cat([grid, grid])[None])
    corner = ((grid + 0.5)[:, None] - grid[None]).square().sum(2)
    assert torch.equal(index[0], corner.argmin(1))


def test_gradients_are_right(surfaces):
    x = surfaces(2, 9, 1, torch.float64).requires_grad_()
    y = surfaces(2, 14, 2, torch.float64).requires_grad_()

    def distances(x, y):
        found = bidirectional_nearest_neighbors(x, y)
        return found[0], found[2]

    assert torch.autograd.gradcheck(distances, (x, y))


@pytest.mark.parametrize(("n", "m"), [(5, 3), (130, 700), (1023, 64)])
def test_gradients_agree_with_a_dense_matrix_and_the_chunked_path(surfaces, n, m):
    x, y = surfaces(3, n, 1, torch.float64).requires_grad_(), surfaces(3, m, 2, torch.float64).requires_grad_()
    weight = torch.rand(3, n, dtype=torch.float64), torch.rand(3, m, dtype=torch.float64)
    d_xy, i_xy, d_yx, i_yx = bidirectional_nearest_neighbors(x, y)
    ours = torch.autograd.grad((d_xy * weight[0]).sum() + (d_yx * weight[1]).sum(), (x, y))
    dense = (x[:, :, None] - y[:, None]).square().sum(3)
    loss = (dense.min(2)[0] * weight[0]).sum() + (dense.min(1)[0] * weight[1]).sum()
    for a, b in zip(ours, torch.autograd.grad(loss, (x, y)), strict=True):
        torch.testing.assert_close(a, b)
    chunked = _chunked.pull_back(x, y, i_xy, i_yx, *weight)
    torch.testing.assert_close(ours[0], chunked.detach())


def test_a_gradient_only_where_one_is_asked_for(surfaces):
    x, y = surfaces(1, 10), surfaces(1, 12).requires_grad_()
    nearest_neighbors(x, y)[0].sum().backward()
    assert x.grad is None
    assert y.grad.abs().sum() > 0
    assert not nearest_neighbors(x, y.detach())[0].requires_grad
    with torch.no_grad():
        assert not nearest_neighbors(x, y)[0].requires_grad


@pytest.mark.parametrize("strided", [False, True])
def test_second_derivatives_are_right(surfaces, strided):
    x, y = surfaces(2, 6, 1, torch.float64), surfaces(2, 8, 2, torch.float64)
    if strided:
        x = x.transpose(1, 2).contiguous()
    x, y = x.requires_grad_(), y.requires_grad_()

    def distances(x, y):
        found = bidirectional_nearest_neighbors(x.transpose(1, 2) if strided else x, y)
        return found[0], found[2]

    assert torch.autograd.gradgradcheck(distances, (x, y))


@pytest.mark.parametrize("clouds", [1, 3, 8])
def test_the_same_bits_in_every_run_and_for_every_number_of_threads(surfaces, threads, clouds):
    x, y = surfaces(clouds, 1500, 1), surfaces(clouds, 1400, 2)
    y[:, 700:] = y[:, :700]  # ties
    results = []
    for count in (1, 2, 2, 3, 5):
        threads(count)
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        found = bidirectional_nearest_neighbors(a, b)
        (found[0].sum() + 0.3 * found[2].square().sum()).backward()
        results.append((*found, a.grad, b.grad))
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_a_permutation_moves_indices_and_nothing_else(surfaces):
    x, y = surfaces(2, 500, 1), surfaces(2, 600, 2)
    p, q = torch.randperm(500), torch.randperm(600)
    d_xy, i_xy, d_yx, i_yx = bidirectional_nearest_neighbors(x, y)
    e_xy, j_xy, e_yx, j_yx = bidirectional_nearest_neighbors(x[:, p], y[:, q])
    assert torch.equal(e_xy, d_xy[:, p])
    assert torch.equal(e_yx, d_yx[:, q])
    assert torch.equal(q[j_xy], i_xy[:, p])
    assert torch.equal(p[j_yx], i_yx[:, q])


@pytest.mark.parametrize("path", ["kernels", "chunks"])
def test_far_from_the_origin(surfaces, path):
    x, y = surfaces(2, 800, 1) + 1000, surfaces(2, 900, 2) + 1000
    search = bidirectional_nearest_neighbors if path == "kernels" else _chunked.nearest_both_ways
    for b in range(2):
        d = cKDTree(y[b].double()).query(x[b].double())[0]
        np.testing.assert_allclose(search(x, y)[0][b].double().sqrt(), d, rtol=5e-7)


def test_strided_half_precision_autocast_and_empty_batches(surfaces):
    x, y = surfaces(2, 50, 1), surfaces(2, 60, 2)
    expected = nearest_neighbors(x, y)
    wide = torch.zeros(2, 3, 100)
    wide[:, :, ::2] = x.transpose(1, 2)
    strided = nearest_neighbors(wide[:, :, ::2].transpose(1, 2), y)
    assert all(torch.equal(a, b) for a, b in zip(expected, strided, strict=True))
    same = nearest_neighbors(x, y[:1].expand(2, -1, -1))  # stride 0
    assert torch.equal(same[0], nearest_neighbors(x, torch.stack([y[0], y[0]]))[0])
    for dtype in (torch.float16, torch.bfloat16):
        narrow = x.to(dtype).requires_grad_()
        d, _ = nearest_neighbors(narrow, y)
        assert d.dtype == torch.float32
        assert torch.equal(d, nearest_neighbors(narrow.detach().float(), y)[0])
        d.sum().backward()
        assert narrow.grad.dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest_neighbors(x, y)[0], expected[0])
    d, i, e, j = bidirectional_nearest_neighbors(torch.zeros(0, 4, 3), torch.zeros(0, 5, 3))
    assert (d.shape, i.shape, e.shape, j.shape) == ((0, 4), (0, 4), (0, 5), (0, 5))
    none = torch.zeros(0, 4, 3, requires_grad=True)
    nearest_neighbors(none, torch.zeros(0, 5, 3))[0].sum().backward()
    assert none.grad.shape == (0, 4, 3)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.zeros(2, 4), torch.zeros(2, 4, 3), r"x has shape \(2, 4\)"),
        (torch.zeros(2, 4, 3), torch.zeros(2, 4, 2), r"y has shape \(2, 4, 2\)"),
        (torch.zeros(2, 0, 3), torch.zeros(2, 4, 3), "x .* without points"),
        (torch.zeros(2, 4, 3), torch.zeros(2, 0, 3), "y .* without points"),
        (torch.zeros(2, 4, 3), torch.zeros(3, 4, 3), "different numbers of clouds"),
        (torch.zeros(2, 4, 3), torch.zeros(2, 4, 3).double(), "different dtypes"),
        (torch.zeros(2, 4, 3).long(), torch.zeros(2, 4, 3).long(), "floating-point"),
        (torch.zeros(2, 4, 3), torch.zeros(2, 4, 3, device="meta"), "different devices"),
    ],
)
def test_bad_tensors_are_refused_by_name(x, y, said):
    with pytest.raises(DataError, match=said):
        nearest_neighbors(x, y)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("clouds", [2, 9])
def test_a_value_that_is_not_finite_is_named(surfaces, name, value, clouds):
    pair = {"x": surfaces(clouds, 600), "y": surfaces(clouds, 70)}
    pair[name][1, 66, 2] = value
    with pytest.raises(DataError, match=rf"{name}\[1\]"):
        nearest_neighbors(**pair)


def test_threads_may_call_at_once(surfaces):
    pairs = [(surfaces(1 + k % 3, 300 + k, k), surfaces(1 + k % 3, 200, k + 50)) for k in range(24)]
    alone = [bidirectional_nearest_neighbors(*p) for p in pairs]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda p: bidirectional_nearest_neighbors(*p), pairs))
    for a, b in zip(alone, together, strict=True):
        assert all(torch.equal(one, two) for one, two in zip(a, b, strict=True))


class _Distances(torch.utils.data.Dataset):
    """Searches inside the worker process, with two threads there."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        torch.set_num_threads(2)
        return nearest_neighbors(self.x[i : i + 1], self.y[i : i + 1])[0][0]


def test_a_forked_worker_may_search_after_its_parent_has(surfaces, threads):
    threads(2)
    x, y = surfaces(4, 700, 1), surfaces(4, 700, 2)
    expected = nearest_neighbors(x, y)[0]  # the parent's threads exist now
    loader = torch.utils.data.DataLoader(
        _Distances(x, y), batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    assert torch.equal(torch.cat(list(loader)), expected)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's count of peak memory")
def test_memory_does_not_grow_with_the_product():
    """A float32 matrix of one of these four pairs of clouds would be 100 MB."""
    script = """
from pathlib import Path
import torch
from pcgen.ops import chamfer_distance
def kib(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])
def step(n):
    chamfer_distance(torch.rand(4, n, 3, requires_grad=True), torch.rand(4, n, 3)).sum().backward()
step(64)
Path("/proc/self/clear_refs").write_text("5")  # forget the compiler's peak
before = kib("VmRSS")
step(5000)
print(kib("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20_000  # KiB


def test_importing_is_cheap_and_a_cache_that_cannot_be_written_does_no_harm(tmp_path):
    script = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
import pcgen.ops, torch
assert "numba" not in sys.modules
from numba.core import caching
class Nowhere:
    @classmethod
    def from_function(cls, *args):
        return None
caching.CacheImpl._locator_classes = [Nowhere]
print(pcgen.ops.nearest_neighbors(torch.zeros(1, 1, 3), torch.ones(1, 1, 3))[0].item())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "NUMBA_CACHE_DIR" in done.stdout
    assert done.stdout.split()[-1] == "3.0"


def test_the_second_process_does_not_compile(tmp_path):
    script = """
import pcgen.ops, torch
pcgen.ops.chamfer_distance(torch.zeros(1, 1, 3), torch.ones(1, 1, 3))
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    said = [subprocess.run(command, capture_output=True, text=True, check=True, env=environment) for _ in range(2)]
    assert said[0].stderr.count("compiling the point-set kernels") == 1  # where nobody has set up logging
    assert not said[1].stderr
    assert list(Path(tmp_path).rglob("*.nbi"))
