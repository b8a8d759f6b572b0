"""The auction on a device against SciPy's assignment; `test_triton.py` runs this file under the interpreter too."""

import os

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pcgen.errors import ConfigurationError, DataError
from pcgen.ops import _chunked, _gpu_auction, _triton
from pcgen.ops._gpu_auction import auction_on_device

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CUDA = torch.cuda.is_available()
DEVICES = ["cpu"] if INTERPRETED else ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not CUDA, reason="no GPU"))]
SIZE = 7 if INTERPRETED else 40
KINDS = ["random", "clusters", "duplicates", "line", "permuted", "one point", "far away", "all equal"]


@pytest.fixture(autouse=True)
def kernels_for_the_cpu(monkeypatch):
    """Under the interpreter, a tensor on the CPU takes the GPU's path."""
    if INTERPRETED:
        monkeypatch.setattr(_triton, "available", lambda device: True)


def clouds(kind, count, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(count, n, 3, generator=generator) for _ in range(2))
    if kind == "clusters":
        x, y = (0.001 * t + torch.randint(0, 3, (count, n, 1), generator=generator) for t in (x, y))
    elif kind == "duplicates":
        x, y = x[:, torch.arange(n) // 4], y[:, torch.arange(n) // 3]
    elif kind == "line":
        x[..., 1:], y[..., 1:] = 0, 0
    elif kind == "permuted":
        y = x[:, torch.randperm(n, generator=generator)]
    elif kind == "one point":
        x[:] = x[:, :1]
    elif kind == "far away":
        x, y = x + 1000, y + 1000
    elif kind == "all equal":
        x[:], y[:] = 5, 5
    return x, y


def costs(x, y, squared):
    c = (x.double()[:, None] - y.double()[None]).square().sum(2)
    return (c if squared else c.sqrt()).numpy()


def check(x, y, squared, found):
    """The bounds are bounds, and the assignment is one and costs what is said."""
    primal, dual, assignment = (t.cpu() for t in found)
    assert (primal.dtype, dual.dtype, assignment.dtype) == (torch.float64, torch.float64, torch.int64)
    n = x.shape[1]
    for b in range(len(x)):
        c = costs(x[b], y[b], squared)
        exact = c[linear_sum_assignment(c)].mean()
        np.testing.assert_array_equal(np.sort(assignment[b]), np.arange(n))
        np.testing.assert_allclose(primal[b], c[np.arange(n), assignment[b]].mean(), rtol=1e-12, atol=1e-15)
        slack = 1e-12 * exact + 1e-15
        assert 0 <= dual[b] <= exact + slack
        assert exact <= primal[b] + slack


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold_and_the_gap_is_reached(kind, squared, device):
    x, y = clouds(kind, 1 if INTERPRETED else 2, SIZE)
    tolerance = 1e-3 if INTERPRETED else 1e-5
    found = auction_on_device(x.to(device), y.to(device), squared=squared, tolerance=tolerance)
    check(x, y, squared, found)
    primal, dual, _ = found
    assert ((primal - dual) <= tolerance * primal).all()


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("squared", [False, True])
def test_the_smallest_clouds(n, squared):
    x, y = clouds("random", 3, n, seed=n)
    found = auction_on_device(x, y, squared=squared, tolerance=1e-3)
    check(x, y, squared, found)
    assert (found[0] - found[1] <= 1e-3 * found[0]).all()


@pytest.mark.skipif(INTERPRETED, reason="the interpreter is slow")
@pytest.mark.parametrize("squared", [False, True])
def test_real_chairs(chairs, squared):
    x, y = chairs[:2, :256], chairs[2:4, :256]
    found = auction_on_device(x, y, squared=squared, tolerance=1e-3)
    check(x, y, squared, found)
    assert (found[0] - found[1] <= 1e-3 * found[0]).all()


@pytest.mark.skipif(INTERPRETED, reason="the interpreter is slow")
def test_a_tolerance_that_float32_cannot_reach_ends_and_says_so():
    x, y = clouds("random", 1, 20)
    found = auction_on_device(x, y, squared=False, tolerance=0)
    check(x, y, False, found)
    assert found[0] - found[1] < 2e-6 * found[0]


def test_the_scale_of_the_coordinates_does_not_matter():
    x, y = clouds("random", 1, 6)
    expected = auction_on_device(x, y, squared=True, tolerance=1e-3)
    for scale in (2.0**-40, 2.0**30):
        found = auction_on_device(scale * x, scale * y, squared=True, tolerance=1e-3)
        torch.testing.assert_close(found[0], scale**2 * expected[0], rtol=1e-12, atol=0)
        torch.testing.assert_close(found[1], scale**2 * expected[1], rtol=1e-6, atol=0)
        assert torch.equal(found[2], expected[2])


def test_dtypes_a_gradient_and_an_empty_batch():
    x, y = (t.double() for t in clouds("random", 1, 7))
    primal, _, assignment = auction_on_device(x.requires_grad_(), y, squared=False, tolerance=1e-3)
    assert not primal.requires_grad
    torch.testing.assert_close(primal[0], (x[0] - y[0, assignment[0]]).norm(dim=1).mean().detach(), rtol=1e-14, atol=0)
    check(x.detach().half(), y.half(), False, auction_on_device(x.half(), y.half(), squared=False, tolerance=1e-3))
    primal, dual, assignment = auction_on_device(x[:0], y[:0], squared=False, tolerance=1e-3)
    assert (primal.shape, dual.shape, assignment.shape) == ((0,), (0,), (0, 7))


def test_a_pair_does_not_depend_on_its_company(monkeypatch):
    x, y = clouds("random", 3, 6)
    together = auction_on_device(x, y, squared=False, tolerance=1e-3)
    monkeypatch.setattr(_gpu_auction, "POINTS_AT_ONCE", 10)  # one pair at a time
    apart = auction_on_device(x, y, squared=False, tolerance=1e-3)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(together, apart, strict=True))
    again = auction_on_device(x, y, squared=False, tolerance=1e-3)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(apart, again, strict=True))


def test_bids_in_many_small_launches_are_the_same_bids(monkeypatch):
    x, y = clouds("random", 2, 6)
    whole = auction_on_device(x, y, squared=False, tolerance=1e-2)
    monkeypatch.setattr(_gpu_auction, "BIDS_AT_ONCE", 7)
    monkeypatch.setattr(_chunked, "ELEMENTS", 40)
    parts = auction_on_device(x, y, squared=False, tolerance=1e-2)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[2], parts[2])
    torch.testing.assert_close(whole[1], parts[1], rtol=1e-14, atol=0)


def test_an_auction_that_does_not_end_is_an_error(monkeypatch):
    x, y = clouds("one point", 1, 12)
    monkeypatch.setattr(_gpu_auction, "BIDS_PER_POINT", 1)
    monkeypatch.setattr(_gpu_auction, "BIDS_AT_ONCE", 4)
    with pytest.raises(ConfigurationError, match=r"12 points .* larger tolerance"):
        auction_on_device(x, y, squared=False, tolerance=1e-6)


def test_a_price_rises_where_float32_would_let_it_stand():
    x = torch.zeros(1, 2, 3)  # both want the column that is 1e-9 nearer
    price = torch.tensor([[1.0, 1.0]])
    owner = _gpu_auction._assign(
        _gpu_auction._Pairs(x, x, x, x, torch.ones(1), torch.ones(1)), price, torch.tensor([1e-12]), squared=False
    )
    assert sorted(owner[0].tolist()) == [0, 1]
    assert price.max() > 1


@pytest.mark.parametrize("tolerance", [-1e-3, float("nan"), float("inf")])
def test_bad_tolerances_are_refused(tolerance):
    with pytest.raises(ConfigurationError, match="tolerance is"):
        auction_on_device(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), squared=False, tolerance=tolerance)


def test_bad_clouds_are_refused():
    x = torch.zeros(1, 4, 3)
    with pytest.raises(DataError, match="4 points and y has 5"):
        auction_on_device(x, torch.zeros(1, 5, 3), squared=False, tolerance=1e-3)
    x[0, 2, 1] = float("nan")
    with pytest.raises(DataError, match=r"x\[0\] is not finite"):
        auction_on_device(x, torch.zeros(1, 4, 3), squared=False, tolerance=1e-3)


@pytest.mark.skipif(INTERPRETED, reason="measures operations of torch")
def test_the_torch_rounds_hold_no_matrix_of_all_pairs(monkeypatch):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    self.numel = max(self.numel, tensor.numel())
            return out

    monkeypatch.setattr(_chunked, "ELEMENTS", 1000)
    x, y = clouds("random", 5, 60)
    with Largest() as largest:
        auction_on_device(x, y, squared=False, tolerance=0.1)
    assert largest.numel <= 1000
