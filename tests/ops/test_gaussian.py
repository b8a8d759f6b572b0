"""Gaussian nearest neighbours against the whole matrix of brackets."""

import math

import pytest
import torch

from pcgen.errors import DataError
from pcgen.ops import _chunked, bidirectional_nearest_neighbors, gather_points, gaussian_nearest_neighbors


def brackets(x, y, log_scale):
    difference = (x[:, :, None] - y[:, None]) / log_scale.exp()[:, None]
    return (log_scale[:, None] + difference.square() / 2).sum(3)  # (B, N, M)


def clouds(surfaces, n, m, dtype=torch.float32):
    x, y = surfaces(3, n, 1, dtype), surfaces(3, m, 2, dtype)
    return x, y, torch.randn(3, m, 3, generator=torch.Generator().manual_seed(0)).to(dtype) - 2


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (63, 65), (700, 130), (100, 1023)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("path", ["kernels", "chunks"])
def test_agrees_with_the_whole_matrix(surfaces, narrow_chunks, n, m, dtype, path):
    data = clouds(surfaces, n, m, dtype)
    search = gaussian_nearest_neighbors if path == "kernels" else _chunked.gaussian_both_ways
    c_x, i_x, c_y, i_y = search(*data)
    matrix = brackets(*(t.double() for t in data))
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-13, "atol": 1e-13}
    torch.testing.assert_close(c_x.double(), matrix.min(2)[0], **tolerance)
    torch.testing.assert_close(c_y.double(), matrix.min(1)[0], **tolerance)
    torch.testing.assert_close(matrix.gather(2, i_x[..., None])[..., 0], matrix.min(2)[0], **tolerance)
    torch.testing.assert_close(matrix.gather(1, i_y[:, None])[:, 0], matrix.min(1)[0], **tolerance)
    if dtype == torch.float64:
        assert torch.equal(i_x, matrix.argmin(2))
        assert torch.equal(i_y, matrix.argmin(1))


def test_the_minimum_is_of_the_bracket_and_not_of_the_distance():
    x = torch.zeros(1, 1, 3)
    y = torch.tensor([[[0.1, 0, 0], [0.3, 0, 0]]])
    for nearer_log_scale, index in (-2.5, 0), (-4.0, 1):  # surer, and then too sure for its distance
        log_scale = torch.tensor([[[nearer_log_scale] * 3, [-1.0] * 3]])
        c_x, i_x, _, _ = gaussian_nearest_neighbors(x, y, log_scale)
        assert i_x.item() == index
        expected = [3 * nearer_log_scale + 0.01 / 2 * math.exp(-2 * nearer_log_scale), -3 + 0.09 / 2 * math.exp(2)]
        assert c_x.item() == pytest.approx(min(expected), rel=1e-5)
        assert expected[index] == min(expected)


@pytest.mark.parametrize("alpha", [0.05, 1.0, 3.0])
def test_with_one_scale_it_is_the_chamfer_case_and_a_constant(surfaces, alpha):
    x, y, _ = clouds(surfaces, 100, 120, torch.float64)
    c_x, i_x, c_y, i_y = gaussian_nearest_neighbors(x, y, torch.full_like(y, math.log(alpha)))
    d_xy, j_x, d_yx, j_y = bidirectional_nearest_neighbors(x, y)
    torch.testing.assert_close(c_x, d_xy / (2 * alpha**2) + 3 * math.log(alpha))
    torch.testing.assert_close(c_y, d_yx / (2 * alpha**2) + 3 * math.log(alpha))
    assert torch.equal(i_x, j_x)
    assert torch.equal(i_y, j_y)


def test_gradcheck_in_all_three(surfaces):
    data = [t.requires_grad_() for t in clouds(surfaces, 6, 8, torch.float64)]
    assert torch.autograd.gradcheck(lambda *d: gaussian_nearest_neighbors(*d)[::2], data)
    assert torch.autograd.gradgradcheck(lambda *d: gaussian_nearest_neighbors(*d)[::2], data)


def test_a_gradient_only_where_one_is_asked_for(surfaces):
    x, y, log_scale = clouds(surfaces, 60, 80)
    log_scale.requires_grad_()
    gaussian_nearest_neighbors(x, y, log_scale)[0].sum().backward()
    assert x.grad is None
    assert y.grad is None
    assert log_scale.grad.abs().sum() > 0


def test_the_same_bits_in_every_run_and_for_every_number_of_threads(surfaces, threads):
    results = []
    for count in (1, 2, 2, 5):
        threads(count)
        data = [t.requires_grad_() for t in clouds(surfaces, 1500, 1300)]
        c_x, i_x, c_y, i_y = gaussian_nearest_neighbors(*data)
        (c_x.sum() + c_y.sum()).backward()
        results.append((c_x, i_x, c_y, i_y, *(t.grad for t in data)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_half_precision_scale_and_empty_batch(surfaces):
    x, y, log_scale = clouds(surfaces, 20, 30)
    c_x, *_ = gaussian_nearest_neighbors(x, y, log_scale.bfloat16())
    assert c_x.dtype == torch.float32
    found = gaussian_nearest_neighbors(x[:0], y[:0], log_scale[:0])
    assert [tuple(t.shape) for t in found] == [(0, 20), (0, 20), (0, 30), (0, 30)]


@pytest.mark.parametrize("name", ["x", "y", "log_scale"])
def test_a_value_that_is_not_finite_is_named(surfaces, name):
    data = dict(zip(("x", "y", "log_scale"), clouds(surfaces, 9, 9), strict=True))
    data[name][2, 3, 1] = math.nan
    with pytest.raises(DataError, match=rf"^{name}\[2\]"):
        gaussian_nearest_neighbors(**data)


def test_scales_are_checked(surfaces):
    x, y, log_scale = clouds(surfaces, 9, 9)
    with pytest.raises(DataError, match="log_scale has shape"):
        gaussian_nearest_neighbors(x, y, log_scale[:, :5])
    with pytest.raises(DataError, match="clamp"):
        gaussian_nearest_neighbors(x, y, log_scale - 60)


def test_gathering_sums_its_gradient(surfaces):
    points = surfaces(2, 5, 1, torch.float64).requires_grad_()
    index = torch.randint(0, 5, (2, 30))
    picked = gather_points(points, index)
    assert torch.equal(picked, torch.stack([p[i] for p, i in zip(points, index, strict=True)]))
    assert torch.autograd.gradcheck(lambda p: gather_points(p, index), points)
