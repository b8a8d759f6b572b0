"""The chunked path: its memory, measured on the CPU; and where there is a GPU, its results and the kernels'."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pcgen.ops import (
    _chunked,
    _triton,
    bidirectional_nearest_neighbors,
    chamfer_distance,
    earth_mover_bounds,
    earth_mover_distance,
    gaussian_nearest_neighbors,
    pairwise_chamfer_distance,
    pairwise_earth_mover_distance,
)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor holds that any operation gives."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


def searched(search, x, y):
    with Largest() as largest:
        if search == "nearest":
            _chunked.nearest_both_ways(x, y)
        else:
            _chunked.gaussian_both_ways(x, y, torch.zeros_like(y))
    return largest.numel


@pytest.mark.parametrize("search", ["nearest", "gaussian"])
@pytest.mark.parametrize(("clouds", "n", "m"), [(1, 32, 1000), (1, 1000, 32), (3, 512, 512), (1, 2048, 2048)])
def test_no_operation_makes_a_matrix_of_all_pairs(surfaces, search, clouds, n, m):
    largest = searched(search, surfaces(clouds, n, 1), surfaces(clouds, m, 2))
    assert largest <= clouds * n * m / 4


@pytest.mark.parametrize("search", ["nearest", "gaussian"])
def test_the_budget_holds_for_all_clouds_together(surfaces, monkeypatch, search):
    monkeypatch.setattr(_chunked, "ELEMENTS", 10_000)
    assert searched(search, surfaces(40, 60, 1), surfaces(40, 50, 2)) <= 10_000
    assert searched(search, surfaces(2, 900, 1), surfaces(2, 800, 2)) <= 10_000


def both_devices(operation, *tensors):
    """Results and gradients on the CPU, and those of the GPU brought here."""
    results = []
    for device in ("cpu", "cuda"):
        inputs = [t.to(device).requires_grad_() for t in tensors]
        found = operation(*inputs)
        found = found if isinstance(found, tuple) else (found,)
        assert all(t.device.type == device for t in found)
        total = sum(t.sum() for t in found if t.requires_grad)
        results.append([t.detach().cpu() for t in (*found, *torch.autograd.grad(total, inputs))])
    return zip(*results, strict=True)


@pytest.fixture(params=["kernels", "chunks"])
def path(request, monkeypatch):
    """On a GPU: Triton's kernels, where it is installed, and the path without it."""
    if request.param == "chunks":
        monkeypatch.setattr(_triton, "available", lambda device: False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    "operation",
    [bidirectional_nearest_neighbors, chamfer_distance, pairwise_chamfer_distance, gaussian_nearest_neighbors],
)
def test_a_gpu_gives_what_the_cpu_gives(surfaces, operation):
    tensors = [surfaces(5, 700, 1, torch.float64), surfaces(5, 900, 2, torch.float64)]
    if operation is gaussian_nearest_neighbors:
        tensors.append(0.1 * surfaces(5, 900, 3, torch.float64))
    for here, there in both_devices(operation, *tensors):
        torch.testing.assert_close(there, here, rtol=1e-10, atol=1e-12)  # float64, so that the same pairs are found


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("path")
def test_a_gpu_repeats_itself_to_the_bit_and_compares_a_set_with_itself(surfaces):
    x, y = surfaces(6, 800, 1).cuda(), surfaces(6, 800, 2).cuda().requires_grad_()
    gradients = [torch.autograd.grad(chamfer_distance(x, y).sum(), y)[0] for _ in range(3)]
    assert all(torch.equal(gradients[0], other) for other in gradients)
    d = pairwise_chamfer_distance(x, x)
    assert torch.equal(d, d.T)
    torch.testing.assert_close(d, pairwise_chamfer_distance(x, x.clone()), rtol=1e-6, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("squared", [False, True])
def test_a_gpu_assigns_as_well_as_was_asked_for(surfaces, squared):
    x, y = surfaces(3, 300, 1), surfaces(3, 300, 2)
    best = earth_mover_distance(x, y, squared=squared)
    there = x.cuda().requires_grad_(), y.cuda()
    exact = earth_mover_distance(*there, squared=squared)
    assert exact.device.type == "cuda"
    torch.testing.assert_close(exact.detach().cpu(), best)
    exact.sum().backward()
    for tolerance in (1e-3, 1e-9):  # the second is beyond single precision
        found = earth_mover_bounds(*there, squared=squared, tolerance=tolerance)
        assert all(t.device.type == "cuda" for t in found)
        assert (found.distance - found.lower_bound <= tolerance * found.distance).all()
        assert (found.lower_bound.cpu() <= best * (1 + 1e-6)).all()
        assert (found.distance.cpu() >= best * (1 - 1e-6)).all()
    d = pairwise_earth_mover_distance(*there, squared=squared, solver="auction", tolerance=1e-3)
    torch.testing.assert_close(d.detach().cpu().diagonal(), best, rtol=1e-3, atol=0)
