"""Warps against double loops, closed forms, their own inverses and brute force, in float64."""

import math

import pytest
import torch

from pcgen.errors import DataError
from pcgen.ops import (
    affine_grid,
    grid_from_increments,
    identity_grid,
    invert_grid,
    total_variation,
    unwarp_points,
    warp_images,
    warp_points,
    warps,
)

SIZES = [(2, 2), (2, 7), (5, 3), (28, 28), (33, 64)]
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def random(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def strong_warps(count, height, width, seed=0, dtype=torch.float64):
    """Grids whose neighbouring increments differ by any factor, under affine maps."""
    increments = 2 * random(count, 2, height, width, seed=seed).square()
    matrix = torch.eye(2, 3, dtype=torch.float64) + 0.5 * (random(count, 2, 3, seed=seed + 1) - 0.5)
    return affine_grid(grid_from_increments(increments), matrix).to(dtype)


def places(count, number, seed=5):
    return 2 * random(count, number, 2, seed=seed) - 1


def look_up(image, x, y):
    """Bilinear lookup of one channel (H, W) at one place, clamped to the border."""
    H, W = len(image), len(image[0])
    column = min(max((x + 1) / 2 * (W - 1), 0), W - 1)
    row = min(max((y + 1) / 2 * (H - 1), 0), H - 1)
    j, i = min(int(column), W - 2), min(int(row), H - 2)
    s, t = column - j, row - i
    upper = (1 - s) * image[i][j] + s * image[i][j + 1]
    lower = (1 - s) * image[i + 1][j] + s * image[i + 1][j + 1]
    return (1 - t) * upper + t * lower


# ── grids ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("H", "W"), [(2, 2), (4, 7), (9, 3)])
def test_a_grid_is_the_sum_of_its_increments(H, W):
    a = 3 * random(2, 2, H, W) - 0.5
    expected = torch.empty(2, H, W, 2, dtype=torch.float64)
    for b in range(2):
        for i in range(H):
            for j in range(W):
                across = sum(a[b, 0, i, k].item() for k in range(j + 1))
                down = sum(a[b, 1, k, j].item() for k in range(i + 1))
                expected[b, i, j, 0] = -1 + 2 / (W - 1) * (across - 1)
                expected[b, i, j, 1] = -1 + 2 / (H - 1) * (down - 1)
    torch.testing.assert_close(grid_from_increments(a), expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(grid_from_increments(a.float()).double(), expected, atol=3e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("H", "W"), SIZES)
def test_increments_of_one_are_the_identity_to_the_last_bit(H, W, dtype):
    grid = grid_from_increments(torch.ones(2, 2, H, W, dtype=dtype))
    rest = identity_grid(H, W, dtype=dtype)
    assert torch.equal(grid, rest.expand(2, -1, -1, -1))
    assert grid.dtype == dtype
    assert rest[0, 0].tolist() == [-1, -1]
    assert rest[-1, -1].tolist() == [1, 1]
    for j in range(W):
        assert rest[0, j, 0].item() == pytest.approx(-1 + 2 * j / (W - 1), abs=1e-6)
    for i in range(H):
        assert rest[i, 0, 1].item() == pytest.approx(-1 + 2 * i / (H - 1), abs=1e-6)


def test_the_identity_grid_is_where_grid_sample_leaves_an_image_alone():
    image = random(1, 2, 5, 8)
    rest = identity_grid(5, 8, dtype=torch.float64)[None]
    torch.testing.assert_close(warp_images(image, rest), image, atol=1e-13, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_pixel_overtakes_its_neighbour_for_any_increments_from_zero_on(dtype):
    for seed in range(40):
        H, W = 2 + seed % 17, 2 + 3 * seed % 31
        a = 5 * random(3, 2, H, W, seed=seed, dtype=dtype) ** (1 + seed % 4)
        a = a * (random(3, 2, H, W, seed=seed + 1000) > 0.1 * (seed % 8))  # up to seven of ten are 0
        grid = grid_from_increments(a)
        rounding = 4 * torch.finfo(dtype).eps * grid.abs().max()
        assert grid[..., 0].diff(dim=2).min() >= -rounding
        assert grid[..., 1].diff(dim=1).min() >= -rounding


@pytest.mark.parametrize("axis", [0, 1])
def test_one_negative_increment_turns_two_pixels_round(axis):
    a = torch.ones(1, 2, 6, 6)
    a[0, axis, 3, 3] = -0.25
    step = grid_from_increments(a)[..., axis].diff(dim=2 - axis)
    assert (step < 0).sum() == 1
    assert step.min().item() == pytest.approx(-0.25 * 2 / 5, rel=1e-5)


def test_an_affine_map_moves_every_place():
    grid, matrix = strong_warps(2, 4, 3), random(2, 2, 3) - 0.3
    moved = affine_grid(grid, matrix)
    for b in range(2):
        for i in range(4):
            for j in range(3):
                x, y = grid[b, i, j].tolist()
                for axis in range(2):
                    p, q, t = matrix[b, axis].tolist()
                    assert moved[b, i, j, axis].item() == pytest.approx(p * x + q * y + t, abs=1e-14)


def test_an_affine_map_is_not_rounded_where_matrix_products_are():
    grid, matrix = strong_warps(2, 9, 9, dtype=torch.float32), (random(2, 2, 3) - 0.3).float()
    exact = affine_grid(grid, matrix)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(affine_grid(grid, matrix), exact)


def test_the_identity_matrix_changes_no_bit():
    grid = strong_warps(3, 8, 8, dtype=torch.float32)
    assert torch.equal(affine_grid(grid, torch.eye(2, 3).expand(3, -1, -1)), grid)


# ── lookups ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_images_are_looked_up_bilinearly_and_at_the_border_beyond_it():
    images, grid = random(2, 3, 5, 4), 3 * random(2, 6, 7, 2, seed=1) - 1.5
    assert (grid.abs() > 1).any()
    found = warp_images(images, grid)
    assert found.shape == (2, 3, 6, 7)
    for b in range(2):
        for c in range(3):
            image = images[b, c].tolist()
            expected = [[look_up(image, *grid[b, i, j].tolist()) for j in range(7)] for i in range(6)]
            torch.testing.assert_close(found[b, c], torch.tensor(expected, dtype=torch.float64), atol=1e-13, rtol=0)


def test_points_are_looked_up_as_pixels_are():
    grid, points = strong_warps(2, 5, 4), 3 * random(2, 30, 2, seed=1) - 1.5
    found = warp_points(grid, points)
    for b in range(2):
        for axis in range(2):
            field = grid[b, :, :, axis].tolist()
            expected = [look_up(field, *p.tolist()) for p in points[b]]
            assert found[b, :, axis].tolist() == pytest.approx(expected, abs=1e-13)


def test_a_pixel_of_a_warped_image_is_what_the_warp_of_its_place_shows():
    """x(p) = T(W(p)): of an image that is its own coordinates a warp shows the warp."""
    grid = grid_from_increments(random(2, 2, 9, 9)).clamp(-1, 1)
    coordinates = identity_grid(9, 9, dtype=torch.float64).permute(2, 0, 1).expand(2, -1, -1, -1)
    torch.testing.assert_close(warp_images(coordinates, grid).permute(0, 2, 3, 1), grid, atol=1e-13, rtol=0)


def test_total_variation_is_the_sum_over_neighbours():
    field = random(2, 4, 5, 3) - 0.5
    for b in range(2):
        expected = 0.0
        for i in range(4):
            for j in range(5):
                for d in range(3):
                    if j:
                        expected += abs(field[b, i, j, d].item() - field[b, i, j - 1, d].item())
                    if i:
                        expected += abs(field[b, i, j, d].item() - field[b, i - 1, j, d].item())
        assert total_variation(field)[b].item() == pytest.approx(expected, rel=1e-13)


def test_gradients():
    check = torch.autograd.gradcheck
    increments = random(2, 2, 4, 3).requires_grad_()
    assert check(grid_from_increments, increments)
    inner = (0.3 * (random(2, 4, 3, 2, seed=2) - 0.5) + 0.2).requires_grad_()  # no place on a pixel or a border
    assert check(affine_grid, (inner, random(2, 2, 3, seed=3).requires_grad_()))
    images = random(2, 2, 6, 6, seed=4).requires_grad_()
    assert check(warp_images, (images, inner))
    wide = strong_warps(2, 6, 6).requires_grad_()
    assert check(warp_points, (wide, inner.flatten(1, 2).detach().requires_grad_()))
    assert check(total_variation, random(2, 4, 3, 2, seed=6).requires_grad_())


# ── inverse ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_inverse_of_an_affine_warp_is_the_inverse_matrix():
    A = torch.tensor([[0.9, 0.3], [-0.2, 1.2]], dtype=torch.float64)
    t = torch.tensor([0.1, -0.15], dtype=torch.float64)
    grid = affine_grid(identity_grid(12, 9, dtype=torch.float64)[None], torch.cat([A, t[:, None]], 1)[None])
    p = places(1, 200)
    found, miss = unwarp_points(grid, p @ A.T + t)
    torch.testing.assert_close(found, p, atol=1e-12, rtol=0)
    assert miss.max() < 1e-13


def test_the_inverse_of_monotone_functions_of_each_axis_is_theirs():
    """Piecewise linear between pixels, so the inverse is too: NumPy's interpolation, turned round."""
    np = pytest.importorskip("numpy")
    x = np.cumsum(np.random.default_rng(0).uniform(0.02, 1, 11))
    y = np.exp(np.linspace(-1, 1, 8))
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), -1))[None]
    u = np.stack([np.random.default_rng(1).uniform(v[0], v[-1], 300) for v in (x, y)], 1)
    expected = [np.interp(u[:, k], v, np.linspace(-1, 1, len(v))) for k, v in enumerate((x, y))]
    found, miss = unwarp_points(grid, torch.from_numpy(u)[None])
    torch.testing.assert_close(found[0], torch.from_numpy(np.stack(expected, 1)), atol=1e-11, rtol=0)
    assert miss.max() < 1e-12


@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("H", "W"), [(2, 2), (5, 9), (16, 16)])
def test_every_place_that_a_strong_warp_reaches_is_found(H, W, dtype, least):
    for seed in range(3):
        grid = strong_warps(100, H, W, seed=10 * seed, dtype=dtype)
        u = warp_points(grid, places(100, 40, seed=seed).to(dtype))
        found, miss = unwarp_points(grid, u)
        assert found.abs().max() <= 1 + 1e-6
        assert (warp_points(grid, found) - u).norm(dim=2).max() < least
        assert miss.max() < least


def test_the_place_itself_is_found_where_the_warp_is_one_to_one():
    """Increments near 1: the determinant of every cell is positive, so only one place maps to u."""
    grid = grid_from_increments(0.9 + 0.2 * random(20, 2, 7, 7))
    p = places(20, 50)
    torch.testing.assert_close(unwarp_points(grid, warp_points(grid, p))[0], p, atol=1e-12, rtol=0)


@pytest.mark.parametrize("warp", ["gentle", "flat"])
def test_a_point_outside_gets_the_nearest_place(warp):
    gentle = 0.6 + 0.4 * random(6, 2, 5, 5)
    grid = grid_from_increments(gentle if warp == "gentle" else gentle * torch.tensor([1.0, 0.0])[None, :, None, None])
    u = 2.5 * places(6, 40)
    found, miss = unwarp_points(grid, u)
    torch.testing.assert_close((warp_points(grid, found) - u).norm(dim=2), miss, atol=1e-12, rtol=0)
    fine = identity_grid(401, 401, dtype=torch.float64).flatten(0, 1).expand(6, -1, -1)
    brute = torch.cdist(u, warp_points(grid, fine)).amin(2)
    assert (miss > 0.1).sum() > 50
    assert (brute - miss).min() > -1e-6  # nothing is nearer
    assert (brute - miss).max() < 0.01  # as far as the sampling tells


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cells_that_are_folded_flat_give_numbers_and_what_lies_in_them(dtype):
    increments = random(30, 2, 6, 6, dtype=dtype) * (random(30, 2, 6, 6, seed=1) > 0.5)
    increments[0] = 0  # all of it one point
    increments[1, 0] = 0  # all of it one line
    grid = grid_from_increments(increments)
    u = warp_points(grid, places(30, 40).to(dtype))
    found, miss = unwarp_points(grid, u)
    assert torch.isfinite(found).all()
    assert miss.max() < 5e-6
    assert (warp_points(grid, found) - u).norm(dim=2).max() < 5e-6


def test_the_inverse_of_pixels_borders_and_corners_is_exact():
    grid = strong_warps(3, 6, 5)
    rest = identity_grid(6, 5, dtype=torch.float64).flatten(0, 1)
    found, miss = unwarp_points(grid, grid.flatten(1, 2))
    assert miss.max() == 0
    torch.testing.assert_close(found, rest.expand(3, -1, -1), atol=1e-14, rtol=0)
    along = torch.linspace(-1, 1, 23, dtype=torch.float64)
    edges = [torch.stack([along, torch.full_like(along, end)][::way], 1) for end in (-1, 1) for way in (1, -1)]
    border = torch.cat(edges).expand(3, -1, -1)
    u = warp_points(grid, border)
    assert (warp_points(grid, unwarp_points(grid, u)[0]) - u).norm(dim=2).max() < 1e-13


def test_how_many_points_are_looked_at_together_changes_nothing(monkeypatch):
    grid, u = strong_warps(4, 7, 6), 1.3 * places(4, 33)
    whole = unwarp_points(grid, u)
    for pairs in (1, 500):
        monkeypatch.setattr(warps, "PAIRS", pairs)
        for part, expected in zip(unwarp_points(grid, u), whole, strict=True):
            assert torch.equal(part, expected)


def test_an_inverted_grid_undoes_the_grid():
    S = 64
    rest = identity_grid(S, S, dtype=torch.float64)
    grid = (rest + 0.1 * torch.sin(math.pi * rest.flip(2)))[None]
    inverse = invert_grid(grid)
    inner = (rest.abs() < 0.75).all(2)
    torch.testing.assert_close(warp_points(grid, inverse.flatten(1, 2)).view(S, S, 2)[inner], rest[inner])
    image = torch.sin(2 * rest[..., 0]) * torch.cos(1.5 * rest[..., 1])
    back = warp_images(warp_images(image[None, None], grid), inverse)[0, 0]
    changed = (warp_images(image[None, None], grid)[0, 0] - image).abs()[inner].max()
    assert (back - image).abs()[inner].max() < 0.03 * changed  # two bilinear lookups


def test_half_precision_is_solved_in_single_and_nothing_is_found_of_nothing():
    grid = identity_grid(5, 5)[None].bfloat16()
    found, miss = unwarp_points(grid, torch.tensor([[[0.26, -0.3]]]))
    assert found.dtype == miss.dtype == torch.float32
    assert miss.item() < 1e-6
    found, miss = unwarp_points(torch.zeros(0, 4, 4, 2), torch.zeros(0, 3, 2))
    assert found.shape == (0, 3, 2)
    assert miss.shape == (0, 3)


def test_the_inverse_has_no_gradient():
    grid = strong_warps(1, 4, 4).requires_grad_()
    assert not any(part.requires_grad for part in unwarp_points(grid, places(1, 5).requires_grad_()))


@CUDA
def test_a_gpu_gives_the_same():
    increments, p = 2 * random(8, 2, 16, 12).square(), places(8, 50)
    for dtype, apart in ((torch.float64, 1e-10), (torch.float32, 2e-5)):
        a = increments.to(dtype)
        grid, there = grid_from_increments(a), grid_from_increments(a.cuda())
        torch.testing.assert_close(there.cpu(), grid, atol=apart, rtol=0)
        assert torch.equal(grid_from_increments(torch.ones_like(a).cuda()).cpu()[0], identity_grid(16, 12, dtype=dtype))
        u = warp_points(there, p.to(there))
        torch.testing.assert_close(u.cpu(), warp_points(grid, p.to(grid)), atol=apart, rtol=0)
        found, miss = unwarp_points(there, u)
        assert found.is_cuda
        assert miss.max() < apart
        assert (warp_points(there, found) - u).norm(dim=2).max() < apart


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("H", "W"), [(1, 5), (5, 1)])
def test_a_side_of_one_pixel_has_no_grid(H, W):
    refused = pytest.raises(DataError, match=rf"image of {H} × {W} pixels .* take at least 2 × 2")
    with refused:
        identity_grid(H, W)
    with refused:
        grid_from_increments(torch.ones(1, 2, H, W))
    with refused:
        unwarp_points(torch.zeros(1, H, W, 2), torch.zeros(1, 1, 2))
    with refused:
        invert_grid(torch.zeros(1, H, W, 2))


@pytest.mark.parametrize("shape", [(2, 4, 4), (1, 3, 4, 4), (1, 4, 4, 2)])
def test_increments_of_another_shape_are_refused(shape):
    with pytest.raises(DataError, match=r"increments have shape .*; give \(B, 2, H, W\)"):
        grid_from_increments(torch.ones(shape))


@pytest.mark.parametrize(
    ("images", "grid"),
    [((4, 4), (1, 4, 4, 2)), ((1, 1, 4, 4), (1, 4, 4, 3)), ((2, 1, 4, 4), (1, 4, 4, 2)), ((1, 1, 4, 4), (4, 4, 2))],
)
def test_images_and_grids_that_do_not_fit_are_refused(images, grid):
    with pytest.raises(DataError, match=r"images of shape .* and a grid of .*; give"):
        warp_images(torch.zeros(images), torch.zeros(grid))


@pytest.mark.parametrize("function", [warp_points, unwarp_points])
@pytest.mark.parametrize(
    ("grid", "points"), [((4, 4, 2), (1, 3, 2)), ((1, 4, 4, 2), (1, 3, 3)), ((1, 4, 4, 2), (2, 3, 2))]
)
def test_points_and_grids_that_do_not_fit_are_refused(function, grid, points):
    with pytest.raises(DataError, match=r"a grid of shape .* and points of .*; give"):
        function(torch.zeros(grid), torch.zeros(points))


def test_a_warp_that_is_not_finite_has_no_inverse():
    grid = identity_grid(4, 4)[None].clone()
    grid[0, 1, 2, 0] = math.nan
    with pytest.raises(DataError, match="finite"):
        unwarp_points(grid, torch.zeros(1, 1, 2))
