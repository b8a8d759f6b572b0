"""The Triton kernels: on a GPU where there is one, and under Triton's interpreter, in a process of their own.

The interpreter must be asked for before Triton is imported. `test_all_of_this_under_the_interpreter` therefore starts
this file and the auction's again; without a GPU the other tests are skipped in the first process.
"""

import itertools
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from pcgen.errors import DataError
from pcgen.ops import (
    _chunked,
    _triton,
    bidirectional_nearest_neighbors,
    chamfer_distance,
    gaussian_nearest_neighbors,
    nearest_neighbors,
    pairwise_chamfer_distance,
)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
on_kernels = pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="no CUDA device")
SIZES = [(1, 1), (1, 33), (3, 5), (17, 70), (65, 33)]


@pytest.fixture(autouse=True)
def kernels_for_the_cpu(monkeypatch):
    """Under the interpreter, a tensor on the CPU takes the GPU's path."""
    if INTERPRETED:
        monkeypatch.setattr(_triton, "available", lambda device: True)


@pytest.mark.skipif(INTERPRETED, reason="already there")
def test_all_of_this_under_the_interpreter(root):
    triton = pytest.importorskip("triton")
    if triton.__version__.startswith("3.6.") and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        pytest.skip("the interpreter of Triton 3.6 makes numbers of arrays in a way that NumPy 2.4 refuses")
    files = [str(root / "tests/ops" / name) for name in ("test_triton.py", "test_gpu_auction.py")]
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not without_triton"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False, env=environment, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 40


def dense(x, y):
    """Every squared distance, in float64."""
    return (x.double()[:, :, None] - y.double()[:, None]).square().sum(3)


def here(*tensors):
    return [t.to(DEVICE) for t in tensors]


@on_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_neighbours_agree_with_a_dense_matrix(surfaces, n, m, dtype):
    x, y = surfaces(2, n, n, dtype), surfaces(2, m, m + 1, dtype)
    d_xy, i_xy, d_yx, i_yx = (t.cpu() for t in bidirectional_nearest_neighbors(*here(x, y)))
    d = dense(x, y)
    for axis, found, index in (2, d_xy, i_xy), (1, d_yx, i_yx):
        torch.testing.assert_close(found.double(), d.amin(axis), rtol=3e-7 if dtype == torch.float32 else 1e-15, atol=0)
        assert torch.equal(index, d.argmin(axis))
        assert (found.dtype, index.dtype) == (dtype, torch.int64)


@on_kernels
def test_the_path_is_the_kernels(surfaces, monkeypatch):
    from pcgen.ops import _triton_pairs, _triton_search

    called = []
    for module, name in (
        (_triton_search, "nearest_both_ways"),
        (_triton_search, "pull_back"),
        (_triton_search, "gaussian_both_ways"),
        (_triton_pairs, "pairwise_chamfer"),
    ):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real, name=name, **k: called.append(name) or real(*a, **k))
    x, y = here(surfaces(1, 5, 1), surfaces(1, 4, 2))
    chamfer_distance(x.requires_grad_(), y).sum().backward()
    assert called == ["nearest_both_ways", "pull_back"]
    gaussian_nearest_neighbors(x, y, torch.zeros_like(y))
    pairwise_chamfer_distance(x.detach(), y)
    assert called[2:] == ["gaussian_both_ways", "pairwise_chamfer"]


@on_kernels
def test_the_lowest_index_wins_a_tie():
    x, y = torch.zeros(1, 70, 3), torch.ones(1, 100, 3)
    y[0, 50:] *= -1  # as far away as the others
    _, i_xy, _, i_yx = bidirectional_nearest_neighbors(*here(x, y))
    assert not i_xy.any()
    assert not i_yx.any()
    grid = torch.cartesian_prod(*[torch.arange(4.0)] * 3)[None]  # every midpoint has up to eight nearest points
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    x, y = grid + 0.5, grid[:, order]
    found = [t.cpu() for t in bidirectional_nearest_neighbors(*here(x, y))]
    assert torch.equal(found[1], dense(x, y).argmin(2))
    assert torch.equal(found[3], dense(x, y).argmin(1))


@on_kernels
@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_chamfer_far_from_the_origin(surfaces, norm, reduction):
    x, y = surfaces(2, 40, 1) + 1000, surfaces(2, 33, 2) + 1000
    d = dense(x, y).sqrt() if norm == 1 else dense(x, y)
    reduce = torch.mean if reduction == "mean" else torch.sum
    expected = reduce(d.amin(2), 1) + reduce(d.amin(1), 1)
    found = chamfer_distance(*here(x, y), norm=norm, reduction=reduction).cpu()
    torch.testing.assert_close(found.double(), expected, rtol=3e-7, atol=0)


@on_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(surfaces, dtype):
    x, y = surfaces(1, 20, 1).to(dtype), surfaces(1, 33, 2).to(dtype)
    found = chamfer_distance(*here(x, y)).cpu()
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), dense(x, y).amin(2).mean(1) + dense(x, y).amin(1).mean(1), rtol=3e-7, atol=0
    )


@on_kernels
def test_empty_batches_and_strided_clouds(surfaces):
    x = torch.zeros(0, 5, 3, device=DEVICE, requires_grad=True)
    chamfer_distance(x, x.detach()).sum().backward()
    assert x.grad.shape == (0, 5, 3)
    assert pairwise_chamfer_distance(x.detach(), torch.zeros(2, 4, 3, device=DEVICE)).shape == (0, 2)
    assert pairwise_chamfer_distance(torch.zeros(2, 4, 3, device=DEVICE), x.detach()).shape == (2, 0)
    (wide,) = here(surfaces(2, 40, 3))
    strided = wide.transpose(0, 1)[::2].transpose(0, 1)
    torch.testing.assert_close(nearest_neighbors(strided, wide)[1].cpu(), torch.arange(0, 40, 2).expand(2, -1))


@on_kernels
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("name", ["x", "y"])
def test_what_is_not_finite_is_named(surfaces, name, value):
    x, y = here(surfaces(3, 20, 1), surfaces(3, 9, 2))
    {"x": x, "y": y}[name][1, 4, 2] = value
    with pytest.raises(DataError, match=rf"{name}\[1\]"):
        chamfer_distance(x, y)
    with pytest.raises(DataError, match=r"[ab]\[1\]"):
        pairwise_chamfer_distance(x, y)


@on_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 33), (33, 1), (17, 70)])
def test_gradients_agree_with_a_dense_matrix(surfaces, n, m, dtype):
    x, y = surfaces(2, n, 1, dtype), surfaces(2, m, 2, dtype)
    weights = torch.rand(2, n, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 1, m).expand(2, -1)
    inputs = [t.detach().clone().requires_grad_() for t in (x.double(), y.double())]
    d = dense(*inputs)
    expected = torch.autograd.grad((d.amin(2) * weights[0]).sum() + (d.amin(1) * weights[1]).sum(), inputs)
    inputs = [t.requires_grad_() for t in here(x, y)]
    there, _, back, _ = bidirectional_nearest_neighbors(*inputs)
    weights = here(*weights)
    found = torch.autograd.grad((there * weights[0]).sum() + (back * weights[1]).sum(), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(
            ours.cpu().double(), theirs, rtol=1e-5, atol=2e-6 if dtype == torch.float32 else 1e-6
        )


@on_kernels
def test_second_derivatives_are_right(surfaces):
    x, y = (t.requires_grad_() for t in here(surfaces(1, 2, 1, torch.float64), surfaces(1, 3, 2, torch.float64)))
    assert torch.autograd.gradgradcheck(chamfer_distance, (x, y))


@on_kernels
def test_two_runs_have_the_same_bits(surfaces):
    n, m = (33, 40) if INTERPRETED else (2000, 2049)
    x, y = here(surfaces(3, n, 1), surfaces(3, m, 2))
    y[:, m // 2 :] = y[:, :1]  # many share a neighbour, so that the order of a sum matters

    def run():
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        d = chamfer_distance(a, b, norm=1)
        return [d, *torch.autograd.grad(d.sum(), (a, b)), pairwise_chamfer_distance(x, y)]

    first = run()
    for _ in range(1 if INTERPRETED else 10):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(first, run(), strict=True))


@on_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 33), (33, 17)])
def test_gaussian_neighbours_agree_with_a_dense_bracket(surfaces, n, m, dtype):
    x, y = surfaces(2, n, 1, dtype), surfaces(2, m, 2, dtype)
    s = 0.5 * surfaces(2, m, 3, dtype)
    difference = x.double()[:, :, None] - y.double()[:, None]
    bracket = (s.double()[:, None] + 0.5 * (difference * (-s.double())[:, None].exp()).square()).sum(3)
    c_x, i_x, c_y, i_y = (t.cpu() for t in gaussian_nearest_neighbors(*here(x, y, s)))
    for axis, found, index in (2, c_x, i_x), (1, c_y, i_y):
        torch.testing.assert_close(found.double(), bracket.amin(axis), rtol=1e-6, atol=1e-6)
        assert torch.equal(index, bracket.argmin(axis))


def all_pairs(a, b, norm, reduction):
    """The matrix from dense distances, pair by pair."""
    out = torch.empty(len(a), len(b), dtype=torch.float64)
    for i in range(len(a)):
        for j in range(len(b)):
            d = dense(a[i, None], b[j, None])[0]
            d = d.sqrt() if norm == 1 else d
            rows, columns = d.amin(1), d.amin(0)
            out[i, j] = rows.mean() + columns.mean() if reduction == "mean" else rows.sum() + columns.sum()
    return out


@on_kernels
@pytest.mark.parametrize(("n", "m"), [(1, 1), (17, 33), (40, 5)])
@pytest.mark.parametrize(("norm", "reduction"), [(2, "mean"), (1, "mean"), (2, "sum"), (1, "sum")])
def test_all_pairs_agree_with_dense_matrices(surfaces, n, m, norm, reduction):
    a, b = surfaces(2, n, 1) + 1000, surfaces(3, m, 2) + 1000
    found = pairwise_chamfer_distance(*here(a, b), norm=norm, reduction=reduction).cpu()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), all_pairs(a, b, norm, reduction), rtol=3e-7, atol=0)


@on_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_all_pairs_of_other_dtypes(surfaces, dtype):
    a, b = surfaces(2, 9, 1).to(dtype), surfaces(2, 17, 2).to(dtype)
    found = pairwise_chamfer_distance(*here(a, b)).cpu()
    torch.testing.assert_close(
        found.double(), all_pairs(a, b, 2, "mean"), rtol=3e-7 if dtype != torch.float64 else 1e-14, atol=0
    )


@on_kernels
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_set_with_itself_in_parts(surfaces, monkeypatch, count):
    from pcgen.ops import _triton_pairs

    monkeypatch.setattr(_triton_pairs, "POINT_PAIRS_AT_ONCE", 3 * 17**2)  # three pairs a launch
    (a,) = here(surfaces(count, 17, 1))
    done = []
    d = pairwise_chamfer_distance(a, a, progress=done.append)
    assert sum(done) == count**2
    assert len(done) == math.ceil(count * (count + 1) / 2 / 3)
    assert torch.equal(d, d.T)
    assert not d.diagonal().any()
    torch.testing.assert_close(d.cpu().double(), all_pairs(a.cpu(), a.cpu(), 2, "mean"), rtol=3e-7, atol=0)
    done.clear()
    torch.testing.assert_close(pairwise_chamfer_distance(a, a.clone(), progress=done.append), d, rtol=3e-7, atol=0)
    assert sum(done) == count**2


@pytest.mark.skipif(INTERPRETED, reason="done in the first process")
@pytest.mark.parametrize("size", range(1, 9))
def test_a_triangle_is_numbered_once_and_whole(size):
    _triton_pairs = pytest.importorskip("pcgen.ops._triton_pairs", exc_type=ImportError)
    parts = list(_triton_pairs._pairs(size, size, 4, torch.device("cpu"), triangle=True))
    entries = [tuple(entry) for part in parts for entry in part.T.tolist()]
    assert sorted(entries) == [(i, j) for i in range(size) for j in range(i, size)]
    assert all(part.shape[1] <= 4 for part in parts)


@on_kernels
def test_scratch_is_for_the_programs_and_not_for_the_pairs(surfaces, monkeypatch):
    from pcgen.ops import _triton_pairs

    monkeypatch.setattr(_triton_pairs, "SCRATCH", 100)  # bytes: fewer than one cloud needs, so one program
    a, b = here(surfaces(2, 5, 1), surfaces(2, 40, 2))
    assert _triton_pairs._programs(b) == 1
    found = pairwise_chamfer_distance(a, b).cpu()
    torch.testing.assert_close(found.double(), all_pairs(a.cpu(), b.cpu(), 2, "mean"), rtol=3e-7, atol=0)


@on_kernels
@pytest.mark.skipif(INTERPRETED, reason="needs a GPU's memory")
def test_offsets_are_wide_enough_for_a_large_batch():
    clouds, points = 360_000, 2048  # 2.2e9 coordinates, more than 2³¹
    if torch.cuda.mem_get_info()[0] < 60 * 2**30:
        pytest.skip("less than 60 GiB of GPU memory free")
    x = torch.zeros(clouds, points, 3, device=DEVICE)
    x[-1] = torch.rand(points, 3, device=DEVICE)
    y = torch.rand(clouds, 1, 3, device=DEVICE)
    d, i = nearest_neighbors(x, y)
    torch.testing.assert_close(d[-1], (x[-1] - y[-1]).square().sum(1), rtol=1e-6, atol=0)
    assert not i.any()


@on_kernels
@pytest.mark.skipif(INTERPRETED, reason="measures a GPU's memory")
def test_memory_does_not_grow_with_the_product(surfaces):
    x, y = here(surfaces(8, 4096, 1), surfaces(8, 4096, 2))
    chamfer_distance(x, y)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    chamfer_distance(x, y)
    pairwise_chamfer_distance(x, y)
    assert torch.cuda.max_memory_allocated() - before < 2**26 + 2**25 < 8 * 4096**2


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Each kernel's text for a GPU that need not be there: {name: PTX}."""
    pytest.importorskip("triton")
    if INTERPRETED:
        pytest.skip("interpreted functions are not compiled")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as translate

    from pcgen.ops import _triton_auction, _triton_pairs, _triton_search

    tile, common = {"HEIGHT": 16, "WIDTH": 32}, "n:i32 m:i32"
    kernels = [
        (_triton_search.search_points, f"x:*F y:*F cost:*F index:*i64 bad:*i8 {common}", tile | {"LIMIT": 1e18}),
        *(
            (
                _triton_search.search_gaussians,
                f"x:*F y:*F scale:*F offset:*F cost:*F index:*i64 {common}",
                tile | {"ROWS_ARE_POINTS": direction},
            )
            for direction in (True, False)
        ),
        (
            _triton_search.pull_points,
            f"x:*F y:*F index:*i64 gradient:*F order:*i64 begin:*i32 pull:*F out:*F {common}",
            {"HEIGHT": 16, "WIDTH": 8},
        ),
        (
            _triton_pairs.chamfer_pairs,
            f"a:*F b:*F pairs:*i64 scratch:*F out:*F count:i32 {common}",
            tile | {"NORM": 1, "MEAN": True},
        ),
        (
            _triton_auction.bid,
            "x:*F y:*F price:*F owner:*i32 queue:*i32 state:*i32 step:*F limit:i32 n:i32",
            {"LEAST_RISE": 1.5, "SQUARED": False, "SIZE": 64},
        ),
        (_triton_auction.lowest_value, "x:*F y:*F price:*F out:*F n:i32", tile | {"SQUARED": False}),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        texts = {}
        for (function, types, constants), single in itertools.product(kernels, (False, True)):
            width = "fp64" if function is _triton_auction.lowest_value else "fp32"
            signature = dict(entry.split(":") for entry in types.replace("*F", "*" + width).split())
            if single:  # Triton compiles a number that is 1 into the kernel
                signature = {name: kind for name, kind in signature.items() if name not in {"n", "m", "count"}}
                constants = constants | {"n": 1, "m": 1, "count": 1}  # noqa: PLW2901
            names = function.arg_names
            places = {(names.index(name),): value for name, value in constants.items() if name in names}
            signature = {name: signature.get(name, "constexpr") for name in names}
            source = ASTSource(fn=function, signature=signature, constexprs=places)
            made = translate(source, target=GPUTarget("cuda", 80, 32))
            texts[f"{function.__name__} {constants}"] = made.asm["ptx"]
    return texts


def test_every_kernel_compiles_for_a_gpu_that_is_not_there(compiled):
    assert len(compiled) == 14
    assert all(".entry" in text for text in compiled.values())


def test_no_kernel_has_atomics_or_matrix_units(compiled):
    for name, text in compiled.items():
        assert not re.search(r"\b(atom|red)\.", text), name  # sums in one order: deterministic
        assert not re.search(r"\bw?g?mma\.", text), name  # tf32 has ten bits


def test_devices_without_triton_keep_the_chunked_path():
    if not INTERPRETED:
        assert not _triton.available(torch.device("cpu"))
        assert not _triton.available(torch.device("mps"))
        assert not _triton.available(torch.device("xpu"))


def test_without_triton_nothing_is_lost(surfaces, monkeypatch):
    monkeypatch.setattr(_triton, "available", lambda device: False)
    monkeypatch.setitem(sys.modules, "triton", None)  # importing it fails
    x, y = surfaces(1, 9, 1), surfaces(1, 8, 2)
    found = _chunked.nearest_both_ways(x, y)
    torch.testing.assert_close(found[0].double(), dense(x, y).amin(2), rtol=3e-7, atol=0)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "triton", None)
    _triton._compiles_for.cache_clear()
    assert not _triton._compiles_for(0)
    _triton._compiles_for.cache_clear()


@pytest.mark.skipif(INTERPRETED, reason="done in the first process")
def test_importing_the_operations_does_not_import_triton():
    code = (
        "import sys, torch; before = set(sys.modules); import pcgen.ops; sys.exit('triton' in {*sys.modules} - before)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
